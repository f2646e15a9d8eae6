"""Where the rows of an active set come from: configurations in chunks, memory budgets, sizes of functions, outliers."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_aceal.common.errors import AceError, NotFiniteError
from aiida_aceal.common.memory import parse_memory

from .active_rows import FLOOR_ROW
from .emptiness import Emptiest

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_aceal.ace import AceModel

_ATOM_BITS = 32
#: Structures whose identity is held (about 150 bytes each) before those that no kept row needs are forgotten.
_IDENTITIES = 100_000


def memory_left(memory: str | float, least: int = 64 * 2**20) -> int:
    """Bytes of ``memory`` that the process does not use yet, at least ``least``."""
    return max(least, parse_memory(memory) - _resident_bytes())


def _resident_bytes() -> int:
    """Memory in use now (Linux), or the largest so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def pack(structure: np.ndarray, atom: np.ndarray) -> np.ndarray:
    """One int64 label of (structure, atom)."""
    return (np.asarray(structure, dtype=np.int64) << _ATOM_BITS) | np.asarray(atom, dtype=np.int64)


def unpack(labels: np.ndarray) -> np.ndarray:
    """[n, 2] (structure, atom) of labels made by :func:`pack`; (-1, -1) for floor rows."""
    environments = np.column_stack([labels >> _ATOM_BITS, labels & (2**_ATOM_BITS - 1)]).astype(np.int64)
    environments[labels == FLOOR_ROW] = FLOOR_ROW
    return environments


def chunks(structures: Iterable[Atoms], atoms_per_chunk: int) -> Iterator[tuple[int, list[Atoms]]]:
    """(index of the first, structures) in lists of about ``atoms_per_chunk`` atoms, never less than one structure."""
    held: list[Atoms] = []
    first = total = 0
    for index, atoms in enumerate(structures):
        if held and total + len(atoms) > atoms_per_chunk:
            yield first, held
            held, first, total = [], index, 0
        held.append(atoms)
        total += len(atoms)
    if held:
        yield first, held


class Rows:
    """Passes over the rows of all environments, chunk by chunk.

    :param structures: a list, or any object that can be iterated again and again (a reader of files).
    :param excluded: [n, 2] (structure, atom) to leave out.
    :ivar emptiest: element -> the emptiest environments read so far.
    """

    def __init__(
        self,
        model: AceModel,
        structures: Iterable[Atoms],
        kind: str,
        chunk_bytes: float,
        excluded: np.ndarray | None = None,
    ) -> None:
        if iter(structures) is structures:
            raise AceError(
                "structures can be read only once (a generator): pass a list or an object that can be iterated "
                "over again"
            )
        self.model = model
        self.structures = structures
        self.kind = kind
        self.columns = {
            el: model.n_functions[el] * (model.n_densities[el] if kind == "full" else 1) for el in model.elements
        }
        # rows of single structures and their concatenation exist at the same time
        self.atoms_per_chunk = max(64, int(chunk_bytes / (3 * 8 * max(self.columns.values()))))
        self.excluded = None if excluded is None else np.sort(pack(excluded[:, 0], excluded[:, 1]))
        self.identifiers: dict[int, str] = {}
        self._forget_at = _IDENTITIES
        self.n_structures = 0
        self.emptiest = {el: Emptiest() for el in model.elements}

    def forget_identifiers(self, kept_labels: Callable[[], Iterable[np.ndarray]]) -> None:
        """Drop the identities of structures without a row among ``kept_labels()``, once there are very many.

        A row that enters later is read again then, and with it the identity of its structure.
        """
        if len(self.identifiers) <= self._forget_at:
            return
        kept = np.unique(np.concatenate([unpack(labels)[:, 0] for labels in kept_labels()]))
        self.identifiers = {int(s): self.identifiers[int(s)] for s in kept if int(s) in self.identifiers}
        self._forget_at = max(_IDENTITIES, 2 * len(self.identifiers))

    def __iter__(self) -> Iterator[dict[str, tuple[np.ndarray, np.ndarray]]]:
        """Per chunk: element -> (rows [n, K], labels [n])."""
        self.n_structures = 0
        for first, held in chunks(self.structures, self.atoms_per_chunk):
            for i, atoms in enumerate(held):
                name = atoms.info.get("aceal_hash")
                if name:
                    self.identifiers[first + i] = str(name)
            self.n_structures = first + len(held)
            found = {}
            for el, part in self.model.projections(held, kind=self.kind).items():
                labels = pack(part.structure + first, part.atom)
                rows, filled = part.rows, part.coordination
                if self.excluded is not None and len(labels):
                    keep = ~np.isin(labels, self.excluded)
                    rows, labels, filled = rows[keep], labels[keep], filled[keep]
                bad = ~np.isfinite(rows).all(axis=1) if len(rows) else np.zeros(0, bool)
                if bad.any():
                    s, a = unpack(labels[bad][:1])[0]
                    raise NotFiniteError(
                        f"structure {s}, atom {a}: projections are not finite; look for atoms too close"
                    )
                if len(rows):
                    self.emptiest[el] = self.emptiest[el].joined(Emptiest.of(filled))
                    found[el] = (np.ascontiguousarray(rows), labels)
            yield found


def natural_scale(
    model: AceModel, structures: list[Atoms], kind: str, seed: int = 0, atoms_limit: int = 256
) -> dict[str, np.ndarray]:
    """Size of each function where nothing vanishes by symmetry: its largest value in shaken copies, [K] per element.

    Copies of a few structures with atoms displaced by 0.1 Angstrom (seeded), some with the species drawn at random,
    so that functions of neighbours which the data lack have a size as well. It is the unit of floor rows and tells
    a function that is rounding noise (a perfect crystal) from one that is small.
    """
    rng = np.random.default_rng(seed)
    probes: list[Atoms] = []
    total = 0
    order = rng.permutation(len(structures))
    for pick in sorted(order, key=lambda i: len(structures[i])) if len(order) > 64 else order:
        atoms = structures[pick].copy()
        atoms.calc = None
        if len(atoms) < 16 and atoms.pbc.any():
            atoms = atoms.repeat([2 if p else 1 for p in atoms.pbc])
        if total and total + len(atoms) > atoms_limit:
            continue
        total += len(atoms)
        atoms.positions += rng.normal(0.0, 0.1, atoms.positions.shape)
        probes.append(atoms)
        if len(model.elements) > 1:
            mixed = atoms.copy()
            mixed.set_chemical_symbols([str(s) for s in rng.choice(model.elements, len(mixed))])
            probes.append(mixed)
    scale = {}
    for el, part in model.projections(probes, kind=kind).items():
        rows = np.abs(part.rows)
        scale[el] = np.where(np.isfinite(rows), rows, 0.0).max(axis=0, initial=0.0)
    return scale


def force_outliers(
    model: AceModel, structures: Iterable[Atoms], factor: float = 1.5, atoms_per_chunk: int = 20000
) -> tuple[np.ndarray, dict[str, Any]]:
    """Environments whose force error lies beyond ``Q3 + factor * IQR`` of all force errors.

    The error of an atom is ``|F_model - F_label|`` (eV/Angstrom); labels where ASE keeps them. Structures without
    force labels have no outliers.

    :return: [n, 2] (structure, atom), and facts for the report.
    :raises AceError: no structure has force labels, or the model is not fitted.
    """
    if not model.potential.is_fitted:
        raise AceError("outliers are found by force errors, but the potential is not fitted: fit it, or keep all")
    errors, labels = [], []
    for first, held in chunks(structures, atoms_per_chunk):
        known = [(first + i, a) for i, a in enumerate(held) if a.calc is not None and "forces" in a.calc.results]
        results = model.evaluate_batch([a for _, a in known], forces=True, stress=False)
        for (index, atoms), result in zip(known, results):
            errors.append(np.linalg.norm(result.forces - atoms.calc.results["forces"], axis=1))
            labels.append(pack(np.full(len(atoms), index), np.arange(len(atoms))))
    if not errors:
        raise AceError("no structure has force labels: outliers cannot be found")
    error = np.concatenate(errors)
    q1, q3 = np.percentile(error, [25, 75])
    threshold = q3 + factor * (q3 - q1)
    out = unpack(np.concatenate(labels)[error > threshold])
    facts = {
        "rule": f"force error > Q3 + {factor:g} IQR",
        "threshold": float(threshold),
        "unit": "eV/Angstrom",
        "count": len(out),
        "environments": out.tolist(),
    }
    return out, facts
