"""Active sets: the inverse matrices behind the extrapolation grade, their files and what they say of themselves.

``gamma = max_j |(B A^-1)_j|`` for the projections B of an environment and the active rows A of its element
(Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023), Sec. III.B). For the linear grade a row is B itself; for
the full (nonlinear) one it is dE/dc for all coefficients of all densities, density after density.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from aiida_aceal.ace.errors import AceError
from aiida_aceal.common.archives import check_inverse, read_arrays, read_json
from aiida_aceal.common.atomic import open_whole

from . import kernels
from .active_rows import FLOOR_ROW, check_rows
from .emptiness import Emptiest, missing_note
from .threads import row_blocks

KINDS = ("linear", "full")
#: Environment label of an active row whose origin is not known (read from a file without our comment).
UNKNOWN_ROW = -2
_FORMAT = "aceal-active-set-1"
_COMMENT_LIMIT = 65535  # of a zip archive
_SMALL = 2**26  # multiplications that are done before threads are up


class _Potential(Protocol):
    elements: tuple[str, ...]
    n_functions: dict[str, int]
    n_densities: dict[str, int]


class Grader(Protocol):
    """What gives grades: an :class:`ActiveSet`, a :class:`~.local.LocalActiveSet` or anything of this shape."""

    kind: str

    def grade(self, element: str, rows: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class ElementActiveSet:
    """Active rows of one element.

    :ivar inverse: [M, M] inverse of the active rows; rows are functions, columns active environments.
    :ivar environments: [M, 2] int64 (structure, atom) of each active row; (-1, -1) a floor row, (-2, -2) unknown.
    :ivar rank: number of active rows that are real environments.
    :ivar log_volume: ``log |det A|``.
    :ivar tolerance_reached: largest gamma of the environments the set was built from; NaN if unknown.
    :ivar n_environments: number of environments the set was built from; -1 if unknown.
    :ivar identifiers: [M] identity of the structure of each row ("" if it has none).
    :ivar swaps: swaps made.
    :ivar emptiest: the emptiest training environments; None if unknown, or not to be looked at.
    """

    inverse: np.ndarray = field(repr=False)
    environments: np.ndarray = field(repr=False)
    rank: int
    log_volume: float
    tolerance_reached: float = float("nan")
    n_environments: int = -1
    identifiers: tuple[str, ...] = field(default=(), repr=False)
    swaps: int = 0
    emptiest: Emptiest | None = None

    @property
    def floor_rows(self) -> np.ndarray:
        """[M] bool, which active rows are floor rows."""
        return self.environments[:, 0] == FLOOR_ROW

    def active_rows(self) -> np.ndarray:
        """[M, M] the active rows (environments, functions), by inversion."""
        return np.linalg.inv(self.inverse)


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

    def check(self, potential: _Potential, source: str = "active set") -> None:
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
                "max_gamma": _finite(s.tolerance_reached),
                "swaps": s.swaps,
                "structures": {str(i): int(n) for i, n in zip(structures, counts)},
                "active_environments": s.environments.tolist(),
                "identifiers": list(s.identifiers),
                "emptiest": None if s.emptiest is None else s.emptiest.to_dict(),
            }
        return {
            "kind": self.kind,
            "tolerance": _finite(self.tolerance),
            "tolerance_reached": _finite(self.tolerance_reached),
            "converged": self.converged,
            "floor": _finite(self.floor),
            "elements": elements,
            **self.extra,
        }

    def save(self, path: str | Path) -> None:
        """Write the ``.asi`` that ML-PACE reads: an uncompressed zip of C-ordered float64 square inverses.

        What we know beyond the numbers (kind, rank, environments) goes into the comment of the zip archive, which
        other readers skip.
        """
        comment = _short_comment(self.report())
        with open_whole(path, "w+b") as handle:
            np.savez(handle, **{el: np.ascontiguousarray(s.inverse, dtype=np.float64) for el, s in self.sets.items()})
            if len(comment) <= _COMMENT_LIMIT:
                with zipfile.ZipFile(handle, "a") as archive:
                    archive.comment = comment

    @classmethod
    def load(
        cls,
        path: str | Path,
        potential: _Potential | None = None,
        kind: str | None = None,
        report: dict[str, Any] | None = None,
    ) -> ActiveSet:
        """Read an ``.asi`` of this package, python-ace or pacemaker, or a file of a ``LocalActiveSet``.

        :param potential: checks elements and sizes against it and tells linear from full sets.
        :param kind: insist on this kind.
        :param report: facts to use instead of the file's own comment (as given by :meth:`report`).
        :raises AceError: no such file, not an .asi, another potential's set, or another kind.
        """
        from .local import is_local_file, load_local

        path = Path(path)
        if is_local_file(path):
            return load_local(path, potential, kind)
        inverses, comment = _read(path)
        report = report if report is not None else comment
        known = report.get("kind")
        found = _kind_from_sizes(path, inverses, potential, known if known in KINDS else None)
        if kind is not None and kind != found:
            raise AceError(f"{path} holds a {found} active set, but a {kind} one is asked for")
        with facts_of(path):
            of_elements = dict(report.get("elements") or {})
            sets = {el: element_from_report(x, of_elements.get(el) or {}) for el, x in inverses.items()}
            tolerance, floor = _number(report.get("tolerance")), _number(report.get("floor"))
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


def _finite(value: float) -> float | None:
    """JSON knows no NaN."""
    return float(value) if np.isfinite(value) else None


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _comment(report: dict[str, Any]) -> bytes:
    return json.dumps({"format": _FORMAT, **report}, separators=(",", ":"), allow_nan=False).encode()


def _short_comment(report: dict[str, Any]) -> bytes:
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
        if len(comment) <= _COMMENT_LIMIT:
            break
        shorten()
        comment = _comment(report)
    return comment


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
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


def _kind_from_sizes(
    path: Path, inverses: dict[str, np.ndarray], potential: _Potential | None, known: str | None
) -> str:
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
        tolerance_reached=_number(facts.get("max_gamma")),
        n_environments=int(facts.get("environments", -1)),
        identifiers=tuple(facts.get("identifiers", ())),
        swaps=int(facts.get("swaps", 0)),
        emptiest=Emptiest.from_dict(facts.get("emptiest")),
    )


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
