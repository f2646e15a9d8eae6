"""Active sets: the inverse matrices behind the extrapolation grade, their files and what they say of themselves.

``gamma = max_j |(B A^-1)_j|`` for the projections B of an environment and the active rows A of its element
(Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023), Sec. III.B). For the linear grade a row is B itself; for
the full (nonlinear) one it is dE/dc for all coefficients of all densities, density after density.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aiida_aceal.common.atomic import open_whole
from aiida_aceal.common.errors import AceError

from . import kernels
from .active_rows import FLOOR_ROW, check_rows
from .asi import (
    COMMENT_LIMIT,
    Potential,
    element_from_report,
    facts_of,
    finite_or_none,
    kind_from_sizes,
    number_or_nan,
    read_asi,
    short_comment,
)
from .element_set import ElementActiveSet
from .emptiness import Emptiest, missing_note
from .threads import row_blocks

KINDS = ("linear", "full")
_SMALL = 2**26  # multiplications that are done before threads are up


#: How to know and read files that hold more than an ``.asi``: pairs of (is it one?, reader).
_OTHER_FORMATS: list[tuple[Callable[[Path], bool], Callable[..., ActiveSet]]] = []


def register_format(is_mine: Callable[[Path], bool], load: Callable[..., ActiveSet]) -> None:
    """Let :meth:`ActiveSet.load` read another kind of file, by ``load(path, potential, kind)``."""
    _OTHER_FORMATS.append((is_mine, load))


class ActiveSet:
    """Active rows of all elements of a potential.

    :param sets: element -> :class:`ElementActiveSet`.
    :param kind: "linear" or "full".
    :param tolerance: MaxVol tolerance asked for (NaN if unknown).
    :param floor: size of floor rows relative to the functions' scale (NaN if unknown).
    :param extra: further facts for the report (plain JSON values), e.g. excluded outliers.
    """

    def __init__(
        self,
        sets: dict[str, ElementActiveSet],
        kind: str = "linear",
        *,
        tolerance: float = float("nan"),
        floor: float = float("nan"),
        extra: dict[str, Any] | None = None,
    ) -> None:
        if kind not in KINDS:
            raise AceError(f"kind = {kind!r} is unknown: choose {' or '.join(KINDS)}")
        if not sets:
            raise AceError("an active set needs at least one element")
        self.sets = dict(sets)
        self.kind = kind
        self.tolerance = tolerance
        self.floor = floor
        self.extra = dict(extra or {})

    def __repr__(self) -> str:
        parts = ", ".join(f"{el} {s.rank}/{len(s.inverse)}" for el, s in self.sets.items())
        return f"<ActiveSet {self.kind}: {parts}>"

    @property
    def elements(self) -> tuple[str, ...]:
        return tuple(self.sets)

    @property
    def inverses(self) -> dict[str, np.ndarray]:
        return {el: s.inverse for el, s in self.sets.items()}

    @property
    def environments(self) -> dict[str, np.ndarray]:
        return {el: s.environments for el, s in self.sets.items()}

    @property
    def log_volume(self) -> dict[str, float]:
        return {el: s.log_volume for el, s in self.sets.items()}

    @property
    def rank(self) -> dict[str, int]:
        return {el: s.rank for el, s in self.sets.items()}

    @property
    def tolerance_reached(self) -> float:
        """Largest gamma of all environments the set was built from."""
        return max((s.tolerance_reached for s in self.sets.values()), default=float("nan"))

    @property
    def converged(self) -> bool:
        return bool(self.tolerance_reached <= self.tolerance)

    def grade(self, element: str, rows: np.ndarray) -> np.ndarray:
        """Extrapolation grade of environments of one element.

        :param rows: [N, M] projections (linear) or dE/dc (full).
        :return: [N] gamma; 0 for an atom without neighbours.
        :raises AceError: unknown element or wrong number of columns.
        """
        inverse = self._of(element).inverse
        rows = np.ascontiguousarray(rows, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(inverse):
            raise AceError(
                f"{self.kind} active set of {element} has {len(inverse)} functions, but the rows have shape "
                f"{rows.shape}: "
                "it belongs to another potential or kind"
            )
        gamma = np.empty(len(rows))
        for block in row_blocks(*rows.shape):  # called from the threads of the engine at every MD step: start none here
            kernels.row_maxima(rows[block] @ inverse, gamma[block])
        return gamma

    def emptiness(self, element: str, coordination: np.ndarray) -> np.ndarray | None:
        """How much emptier environments are than all that were learnt, see :mod:`~.emptiness`; None if unknown.

        Where it is above 1, those who grade structures (``AceModel``, and all programs) take it if it exceeds
        :meth:`grade`.

        :param coordination: [N] smooth coordination numbers of environments of one element.
        """
        record = self._of(element).emptiest
        return None if record is None else record.emptiness(coordination)

    @property
    def emptiness_note(self) -> str | None:
        """One line that says why atoms that leave are not flagged; None if they are."""
        return missing_note({el: s.emptiest for el, s in self.sets.items()}, self.extra.get("emptiness") is False)

    def _of(self, element: str) -> ElementActiveSet:
        if element not in self.sets:
            raise AceError(f"the active set holds {', '.join(self.elements)}, not {element}")
        return self.sets[element]

    def check(self, potential: Potential, source: str = "active set") -> None:
        """AceError unless elements and sizes are those of the potential."""
        missing = [el for el in potential.elements if el not in self.sets]
        alien = [el for el in self.sets if el not in potential.elements]
        if missing or alien:
            raise AceError(
                f"{source} holds {', '.join(self.elements)}, but the potential {', '.join(potential.elements)}: "
                "use the active set of this potential"
            )
        for el, s in self.sets.items():
            expected = potential.n_functions[el] * (potential.n_densities[el] if self.kind == "full" else 1)
            if len(s.inverse) != expected:
                raise AceError(
                    f"{source}: {el} has {len(s.inverse)} rows, but the potential needs {expected} for a "
                    f"{self.kind} set: "
                    "use the active set of this potential"
                )

    def report(self) -> dict[str, Any]:
        """Plain JSON facts: per element environments, functions, rank, volume, max gamma, contributing structures."""
        elements = {}
        for el, s in self.sets.items():
            structures, counts = np.unique(s.environments[s.environments[:, 0] >= 0, 0], return_counts=True)
            elements[el] = {
                "environments": s.n_environments,
                "functions": len(s.inverse),
                "rank": s.rank,
                "floor_rows": int(s.floor_rows.sum()),
                "log_volume": s.log_volume,
                "max_gamma": finite_or_none(s.tolerance_reached),
                "swaps": s.swaps,
                "structures": {str(i): int(n) for i, n in zip(structures, counts)},
                "active_environments": s.environments.tolist(),
                "identifiers": list(s.identifiers),
                "emptiest": None if s.emptiest is None else s.emptiest.to_dict(),
            }
        return {
            "kind": self.kind,
            "tolerance": finite_or_none(self.tolerance),
            "tolerance_reached": finite_or_none(self.tolerance_reached),
            "converged": self.converged,
            "floor": finite_or_none(self.floor),
            "elements": elements,
            **self.extra,
        }

    def save(self, path: str | Path) -> None:
        """Write the ``.asi`` that ML-PACE reads: an uncompressed zip of C-ordered float64 square inverses.

        What we know beyond the numbers (kind, rank, environments) goes into the comment of the zip archive, which
        other readers skip.
        """
        comment = short_comment(self.report())
        with open_whole(path, "w+b") as handle:
            np.savez(handle, **{el: np.ascontiguousarray(s.inverse, dtype=np.float64) for el, s in self.sets.items()})
            if len(comment) <= COMMENT_LIMIT:
                with zipfile.ZipFile(handle, "a") as archive:
                    archive.comment = comment

    @classmethod
    def load(
        cls,
        path: str | Path,
        potential: Potential | None = None,
        kind: str | None = None,
        report: dict[str, Any] | None = None,
    ) -> ActiveSet:
        """Read an ``.asi`` of this package, python-ace or pacemaker, or a file of a ``LocalActiveSet``.

        :param potential: checks elements and sizes against it and tells linear from full sets.
        :param kind: insist on this kind.
        :param report: facts to use instead of the file's own comment (as given by :meth:`report`).
        :raises AceError: no such file, not an .asi, another potential's set, or another kind.
        """
        path = Path(path)
        for is_mine, load in _OTHER_FORMATS:
            if is_mine(path):
                return load(path, potential, kind)
        inverses, comment = read_asi(path)
        report = report if report is not None else comment
        known = report.get("kind")
        found = kind_from_sizes(path, inverses, potential, known if known in KINDS else None)
        if kind is not None and kind != found:
            raise AceError(f"{path} holds a {found} active set, but a {kind} one is asked for")
        with facts_of(path):
            of_elements = dict(report.get("elements") or {})
            sets = {el: element_from_report(x, of_elements.get(el) or {}) for el, x in inverses.items()}
            tolerance, floor = number_or_nan(report.get("tolerance")), number_or_nan(report.get("floor"))
        if potential is not None and found == "full":
            from .equal_densities import without_padding

            sizes = {el: potential.n_functions[el] * potential.n_densities[el] for el in sets}
            sets = {el: without_padding(one, sizes[el], f"{path}: the set of {el}") for el, one in sets.items()}
        standard = {"kind", "tolerance", "tolerance_reached", "converged", "floor", "elements", "format"}
        result = cls(
            sets,
            found,
            tolerance=tolerance,
            floor=floor,
            extra={key: value for key, value in report.items() if key not in standard},
        )
        if potential is not None:
            result.check(potential, str(path))
        return result


def from_rows(
    rows: dict[str, np.ndarray],
    kind: str = "linear",
    environments: dict[str, np.ndarray] | None = None,
    coordination: dict[str, np.ndarray] | None = None,
    **options: Any,
) -> ActiveSet:
    """Active set of rows that are all in memory.

    :param rows: element -> [N, M].
    :param environments: element -> [N, 2] (structure, atom) of each row (default: (row, 0)).
    :param coordination: element -> [N] smooth coordination numbers; without them the set cannot flag emptiness.
    :param options: as for :func:`~.maxvol.maxvol`.
    """
    from .active_rows import FLOOR
    from .maxvol import TOLERANCE, maxvol

    sets = {}
    for el, r in rows.items():
        r = check_rows(r)
        result = maxvol(r, **options)
        labels = np.column_stack([np.arange(len(r)), np.zeros(len(r))]).astype(np.int64)
        if environments is not None:
            labels = np.asarray(environments[el], dtype=np.int64)
        chosen = np.full((r.shape[1], 2), FLOOR_ROW, dtype=np.int64)
        real = result.indices >= 0
        chosen[real] = labels[result.indices[real]]
        sets[el] = ElementActiveSet(
            inverse=result.inverse,
            environments=chosen,
            rank=result.rank,
            log_volume=result.log_volume,
            tolerance_reached=result.tolerance_reached,
            n_environments=len(r),
            swaps=result.swaps,
            emptiest=None if coordination is None else Emptiest.of(coordination[el]),
        )
    return ActiveSet(sets, kind, tolerance=options.get("tolerance", TOLERANCE), floor=options.get("floor", FLOOR))
