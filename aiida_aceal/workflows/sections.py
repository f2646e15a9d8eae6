"""Settings of a campaign by section: the one place where their defaults stand. Pure, without AiiDA.

A protocol holds what differs from these defaults; an input file and the ports of the WorkChains are checked by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import Settings, build, setting
from aiida_aceal.exploration.extract import ExtractSettings
from aiida_aceal.properties.names import property_bounds
from aiida_aceal.selection.settings import SelectSettings
from aiida_aceal.uncertainty.settings import ActiveSetSettings
from aiida_aceal.workflows.windows.policies import choose_window


class SelectionSection(SelectSettings):
    """How candidates are chosen for labelling: all settings of `aceal.select`."""

    heading = "Campaign: `selection`"

    count: int | None = setting(10, "Largest number of structures in one generation.", ge=1)


class ActiveSetSection(ActiveSetSettings):
    """How active sets are built: all settings of `aceal.active_set`."""

    heading = "Campaign: `activeset`"

    calcfunction_below_mb: float = setting(
        64.0, "Size of the projection matrix below which the calcfunction aceal.maxvol builds the active set; above it "
        "the CalcJob aceal.active_set does.", unit="MB", ge=0,
    )  # fmt: skip


class GateSection(Settings):
    """When a new potential is refused."""

    heading = "Campaign: `gate`"

    enabled: bool = setting(True, "Whether a new potential may be refused.")
    tolerance: float = setting(
        0.25, "A potential is refused if its validation error exceeds the best so far by more than this fraction.", ge=0
    )
    properties: dict[str, str | float] = setting(
        {}, "Largest relative error of properties, such as {elastic: 5 %}: a potential is refused if one exceeds it "
        "and is larger than that of the best so far. Needs the section `validate`.", parse=property_bounds,
        allowed="properties with their bounds, such as {elastic: 5 %} or {elastic: 0.05}",
    )  # fmt: skip

    @model_validator(mode="after")
    def _together(self) -> GateSection:
        if self.properties and not self.enabled:
            raise ValueError("properties: nothing is refused with `enabled: false`; leave one of the two out")
        return self


class CutSection(ExtractSettings):
    """How the environments of candidates that are too large are cut out: settings of `aceal.extract`."""

    heading = "Campaign: `limits.extract`"

    # neighbouring frames have much the same atoms above gamma_lo
    max_cuts: int = setting(3, "Largest number of cuts from one structure, largest grades first.", ge=1)

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, values: Any) -> Any:
        for key, instead in (("max_atoms", "limits.max_label_atoms"), ("gamma_lo", "the window")):
            if isinstance(values, Mapping) and key in values:
                raise ValueError(f"leave {key} out; it comes from {instead}")
        return values


class LimitsSection(Settings):
    """What is tolerated, and what is too large for a label."""

    heading = "Campaign: `limits`"

    max_failed_labels: float = setting(0.2, "Fraction of the labels of one generation that may fail.", ge=0, le=1)
    max_label_atoms: int | None = setting(
        None, "From candidates with more atoms, aceal.extract cuts out the unknown environments; null: no limit.",
        ge=1,
    )  # fmt: skip
    max_cut_candidates: int = setting(20, "Largest number of candidates that are cut in a generation.", ge=1)
    extract: CutSection | None = setting(None, "Settings of the cuts.")
    max_label_deviation: float | None = setting(
        2.0, "A new label whose energy is farther from the prediction (of the potential in force; without one, of the "
        "other labels) is put in quarantine, unless 30 times the usual deviation is more; null: none is.",
        unit="eV/atom", gt=0,
    )  # fmt: skip
    trusted_labels: list[str] = setting(
        [], "Content hashes of structures, or their beginnings, whose labels are right however far they deviate: what "
        "the quarantine lists, to release it.",
    )  # fmt: skip


class LoopSection(Settings):
    """When to stop at the latest."""

    heading = "Campaign: `loop`"

    max_generations: int = setting(20, "Largest number of generations; 0 fits the first set only.", ge=0)
    max_refusals: int = setting(3, "Largest number of potentials refused in a row.", ge=1)
    max_without_candidates: int = setting(
        2, "Largest number of generations in a row that neither converged nor found a candidate.", ge=1
    )


class SetsSection(Settings):
    """Shares of labelled data that are never fitted, if no such set is given."""

    heading = "Campaign: protocol's `sets`"

    validation: float = setting(0.1, "Fraction that decides at the gate and which potential is the best.", gt=0, lt=1)
    test: float = setting(0.1, "Fraction that decides nothing and is only reported; 0: none.", ge=0, lt=1)
    min_labelled: int = setting(50, "Fewer labelled structures than this are not split.", ge=2)


#: sections that are whole by themselves, and the keys that a WorkChain hands on even if they have their defaults
SECTIONS: dict[str, tuple[type[Settings], tuple[str, ...]]] = {
    "selection": (SelectionSection, ("strategy", "count")),
    "activeset": (ActiveSetSection, ("kind", "tolerance", "memory", "calcfunction_below_mb")),
    "gate": (GateSection, ("enabled", "tolerance")),
    "limits": (
        LimitsSection,
        (
            "max_failed_labels",
            "max_label_atoms",
            "max_cut_candidates",
            "extract",
            "max_label_deviation",
            "trusted_labels",
        ),
    ),
    "loop": (LoopSection, ("max_generations", "max_refusals", "max_without_candidates")),
}


def filled(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Content of a section as it was given, completed by the defaults that the WorkChains read."""
    model, keys = SECTIONS[name]
    return {**{key: model.model_fields[key].get_default(call_default_factory=True) for key in keys}, **values}


def check_section(name: str, values: Mapping[str, Any]) -> str | None:
    """What is wrong with a section (also `window`), or ``None``."""
    try:
        if name == "window":
            choose_window(values)
        elif name == "ensemble":
            from aiida_aceal.workflows.ensemble_settings import check_ensemble

            return check_ensemble(values)
        elif name in SECTIONS:
            build(SECTIONS[name][0], values, name)
    except (AceError, ValueError) as error:
        return str(error)
    return None
