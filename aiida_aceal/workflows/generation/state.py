"""All that a generation knows between its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from aiida import orm


@dataclass(frozen=True)
class State:
    """Plain values and uuids of nodes, for AiiDA writes them to the database at each step (``ctx.state``).

    Beside it the context holds only the children, under the labels of their CALL links.
    """

    #: numbers and decisions; they become the output ``generation_report``
    facts: dict[str, Any]
    #: structures that could not be labelled: ``hash``, ``reason``
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    #: configurations to select from; ``None`` if there are none
    candidates: str | None = None
    #: labelled configurations that this generation adds to the training set
    labelled: str | None = None
    #: the validation set, if it was labelled here
    validation: str | None = None
    #: active set of the new potential
    active_set: str | None = None
    #: active set made here for the given potential, if that stays and had none
    old_active_set: str | None = None

    def plain(self) -> dict[str, Any]:
        """Content as a dictionary; ``State(**plain)`` makes it again."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def changed(self, facts: Mapping[str, Any], **changes: Any) -> State:
        """With further facts, and with other values; of a node its uuid is kept."""
        kept = {key: value.uuid if isinstance(value, orm.Node) else value for key, value in changes.items()}
        return replace(self, facts={**self.facts, **facts}, **kept)

    def node(self, name: str) -> Any:
        """The node of this name, ``None`` if there is none."""
        uuid = getattr(self, name)
        return orm.load_node(uuid) if uuid is not None else None


def first_state(number: int, window: Mapping[str, Any], explores: bool) -> State:
    """State at the start of generation ``number``: no counts yet, and the window in force."""
    return State(
        facts={
            "generation": number,
            "n_candidates": 0,
            "n_selected": 0,
            "n_labelled": 0,
            "n_failed_labels": 0,
            "status": "explored" if explores else "initial",
            "accepted": None,
            "is_best": False,
            "refused": None,
            **{key: window.get(key) for key in ("gamma_lo", "gamma_hi", "gamma_stop")},
            "window_reason": window.get("reason"),
        }
    )
