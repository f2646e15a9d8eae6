"""The file ``.asi`` of ML-PACE: inverses of active rows, and in the zip's comment what we know beyond them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from aiida_aceal.common.archives import check_inverse, read_arrays, read_json
from aiida_aceal.common.errors import AceError

from .active_rows import FLOOR_ROW
from .element_set import UNKNOWN_ROW, ElementActiveSet
from .emptiness import Emptiest

_FORMAT = "aceal-active-set-1"
COMMENT_LIMIT = 65535  # of a zip archive


class Potential(Protocol):
    """What an active set must know of a potential."""

    elements: tuple[str, ...]
    n_functions: dict[str, int]
    n_densities: dict[str, int]


@contextmanager
def facts_of(path: str | Path) -> Iterator[None]:
    """Facts of a file that are not of the expected form end as :class:`AceError`."""
    try:
        yield
    except AceError:
        raise
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise AceError(
            f"{path}: its metadata are damaged ({type(error).__name__}: {error}): build the active set anew"
        ) from error


def finite_or_none(value: float) -> float | None:
    """JSON knows no NaN."""
    return float(value) if np.isfinite(value) else None


def number_or_nan(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _comment(report: dict[str, Any]) -> bytes:
    return json.dumps({"format": _FORMAT, **report}, separators=(",", ":"), allow_nan=False).encode()


def short_comment(report: dict[str, Any]) -> bytes:
    """The report, without its longest lists where the whole does not fit."""

    def drop(key: str) -> None:
        for facts in report["elements"].values():
            facts.pop(key, None)

    def only_floor_places() -> None:
        for facts in report["elements"].values():
            rows = np.array(facts["active_environments"])
            facts["floor_places"] = np.flatnonzero(rows[:, 0] == FLOOR_ROW).tolist()
        drop("active_environments")

    comment = _comment(report)
    for shorten in (
        lambda: report.get("excluded", {}).pop("environments", None),
        lambda: drop("identifiers"),
        only_floor_places,
        lambda: drop("structures"),
    ):
        if len(comment) <= COMMENT_LIMIT:
            break
        shorten()
        comment = _comment(report)
    return comment


def read_asi(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if not path.is_file():
        raise AceError(f"{path}: no such active set file")
    content = read_arrays(path)
    if not content.arrays:
        raise AceError(f"{path} holds no element")
    names = sorted(content.arrays)
    inverses = {el: check_inverse(content.arrays[el], f"{path}: the array of {el}") for el in names}
    try:
        facts = read_json(content.comment, str(path)) if content.comment else {}
    except AceError:  # the comment of another program
        facts = {}
    return inverses, facts if facts.get("format") == _FORMAT else {}


def kind_from_sizes(path: Path, inverses: dict[str, np.ndarray], potential: Potential | None, known: str | None) -> str:
    """Linear or full, from the sizes; where they cannot tell (one density) from the file's own word, else linear."""
    if potential is None:
        return known or "linear"
    kinds = set()
    most = max(potential.n_densities.values())
    for el, x in inverses.items():
        if el not in potential.elements:
            raise AceError(
                f"{path} holds {el}, which the potential does not contain: use the active set of this potential"
            )
        n, p = potential.n_functions[el], potential.n_densities[el]
        if len(x) not in (n, n * p, n * most):  # the last: all elements with as many densities, for other engines
            raise AceError(
                f"{path}: {el} has {len(x)} rows, the potential {n} functions and {p} densities "
                f"(linear {n}, full {n * p}): use the active set of this potential"
            )
        if p > 1 or len(x) != n:
            kinds.add("linear" if len(x) == n else "full")
    if len(kinds) == 2:
        raise AceError(f"{path} mixes linear and full sets: rebuild the active set with one kind for all elements")
    return kinds.pop() if kinds else known or "linear"


def element_from_report(inverse: np.ndarray, facts: dict[str, Any]) -> ElementActiveSet:
    """One element's set from its inverse and what a report says of it."""
    m = len(inverse)
    environments = np.full((m, 2), UNKNOWN_ROW, dtype=np.int64)
    stored = facts.get("active_environments")
    if stored is not None and len(stored) == m:
        environments = np.array(stored, dtype=np.int64).reshape(m, 2)
    elif "floor_places" in facts:
        environments[np.array(facts["floor_places"], dtype=np.int64)] = FLOOR_ROW
    sign, log_inverse = np.linalg.slogdet(inverse)
    if sign == 0:
        # a pseudo-inverse of another code: usable for grades, but blind to unseen directions
        log_inverse = np.inf
    return ElementActiveSet(
        inverse=inverse,
        environments=environments,
        rank=int(facts.get("rank", np.linalg.matrix_rank(inverse) if sign == 0 else m)),
        log_volume=float(facts.get("log_volume", -log_inverse)),
        tolerance_reached=number_or_nan(facts.get("max_gamma")),
        n_environments=int(facts.get("environments", -1)),
        identifiers=tuple(facts.get("identifiers", ())),
        swaps=int(facts.get("swaps", 0)),
        emptiest=Emptiest.from_dict(facts.get("emptiest")),
    )
