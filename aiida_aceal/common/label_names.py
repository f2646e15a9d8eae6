"""Labels under other names than ASE's: found by the usual names, or under the key that the caller gives.

ASE's readers put what is called ``energy``, ``forces`` and ``stress`` on the calculator; that is the usual place. Data
sets often have ``REF_energy``, ``dft_forces`` or a ``virial`` instead, which ASE leaves in ``info`` and ``arrays``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from .errors import AceError

KINDS = ("energy", "forces", "stress")
#: names that mean a label, in lower case; ``reference_*`` is not among them: `aceal-worker evaluate` writes it
USUAL: Mapping[str, tuple[str, ...]] = {
    "energy": (
        "energy", "ref_energy", "dft_energy", "energy_dft", "energy_ref", "qm_energy", "total_energy", "energies",
        "toten",
    ),
    "forces": (
        "forces", "force", "ref_forces", "ref_force", "dft_forces", "dft_force", "forces_dft", "forces_ref",
        "qm_forces",
    ),
    "stress": ("stress", "ref_stress", "dft_stress", "stress_dft", "stress_ref", "qm_stress"),
}  # fmt: skip
#: virials of QUIP's convention: minus the stress, times the volume (eV)
VIRIALS = ("virial", "virials", "ref_virial", "ref_virials", "dft_virial", "dft_virials", "qm_virial")
#: taken only where nothing else is there
LAST = ("free_energy",)
_PLACE = "ASE's usual place"


class LabelNames:
    """Puts the labels of the structures of one file where ASE has them, and counts the names they had.

    :param keys: ``energy``, ``forces``, ``stress`` -> name in ``info`` or ``arrays``, for those the user names
    """

    def __init__(self, keys: Mapping[str, str | None]) -> None:
        self.keys = {kind: key for kind, key in keys.items() if key is not None}
        self.taken: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}

    def settle(self, atoms: Atoms, where: str) -> None:
        """Labels of one structure, in place.

        :raises AceError: no label under the key given, several names whose values differ, or a value of wrong shape
        """
        results = dict(getattr(atoms.calc, "results", None) or {})
        found: dict[str, Any] = {}
        for kind in KINDS:
            if kind in self.keys:
                found[kind] = _under_key(atoms, results, kind, self.keys[kind], where)
            elif "aceal_hash" not in atoms.info:  # written by us: the labels are where they belong
                name, value = _by_name(atoms, results, kind, where)
                if name is not None:
                    self.taken[kind][name] += 1
                    if name != _PLACE:
                        found[kind] = value
        if found:
            atoms.calc = SinglePointCalculator(atoms)
            atoms.calc.results.update({**results, **found})

    def line(self) -> str:
        """Which names were taken; empty if all labels were in the usual place."""
        if not any(set(counts) - {_PLACE} for counts in self.taken.values()):
            return ""
        parts = []
        for kind, counts in self.taken.items():
            names = [f"{name} ({count})" if len(counts) > 1 else name for name, count in counts.most_common()]
            parts += [f"{kind} from {' and '.join(names)}"] if names else []
        return ", ".join(parts)


def _under_key(atoms: Atoms, results: Mapping[str, Any], kind: str, key: str, where: str) -> Any:
    store = atoms.arrays if kind == "forces" else atoms.info
    if key in store:
        value = store[key]
    elif key in results:
        value = results[key]
    else:
        found = sorted(k for k in (*store, *results) if k not in ("numbers", "positions"))
        raise AceError(f"{where}: no {kind} under the key '{key}' (found: {found})")
    return _checked(value, kind, key, where)


def _checked(value: Any, kind: str, key: str, where: str) -> Any:
    try:
        value = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise AceError(f"{where}: {kind} under the key '{key}' is not a number: {value!r:.80}") from None
    if kind == "stress" and value.size not in (6, 9):
        raise AceError(f"{where}: stress under the key '{key}' must have 6 or 9 numbers, it has {value.size}")
    return float(value.reshape(())) if kind == "energy" and value.size == 1 else value


def _by_name(atoms: Atoms, results: Mapping[str, Any], kind: str, where: str) -> tuple[str | None, Any]:
    """Name and value of a label; ``None`` if there is none.

    :raises AceError: several whose values differ
    """
    candidates = _candidates(atoms, results, kind, where)
    if not candidates:
        for key in LAST if kind == "energy" else ():
            if key in results or key in atoms.info:
                return key, _checked(results.get(key, atoms.info.get(key)), kind, key, where)
        return None, None
    (name, value), *others = candidates.items()
    for other, another in others:
        if np.shape(value) != np.shape(another) or not np.allclose(value, another, rtol=1e-6, atol=1e-8):
            keys = [kind if one == _PLACE else one for one in (name, other)]
            raise AceError(
                f"{where}: the {kind} stands under '{keys[0]}' and, with other values, under '{keys[1]}'; say which "
                f"one is meant: {kind}_key: {keys[1] if not keys[1].startswith('-') else keys[0]}"
            )
    return name, value


def _candidates(atoms: Atoms, results: Mapping[str, Any], kind: str, where: str) -> dict[str, Any]:
    """Name -> value, the usual place first."""
    found: dict[str, Any] = {}
    if results.get(kind) is not None:
        found[_PLACE] = results[kind] if kind != "stress" else _voigt(_checked(results[kind], kind, kind, where))
    store = atoms.arrays if kind == "forces" else atoms.info
    lower = {str(key).lower(): key for key in store}
    for name in USUAL[kind]:
        value = _numbers(store.get(lower.get(name)), SIZES[kind] or (3 * len(atoms),))
        if value is not None:
            found[lower[name]] = _SHAPED[kind](value)
    if kind == "energy" and not found and np.shape(results.get("energies")) == (len(atoms),):
        found["the sum of energies"] = float(np.sum(results["energies"]))
    if kind == "stress" and atoms.cell.rank == 3 and atoms.pbc.all():
        for name in VIRIALS:
            value = _numbers(store.get(lower.get(name)), SIZES["stress"])
            if value is not None:
                found[f"-{lower[name]}/volume"] = -_voigt(value) / atoms.get_volume()
    return found


def _numbers(value: Any, sizes: tuple[int, ...]) -> np.ndarray | None:
    """Numbers, as many as a label has; ``None`` for anything else of the same name, which is none."""
    array = np.asarray(value) if isinstance(value, (int, float, list, tuple, np.ndarray, np.number)) else None
    fits = array is not None and array.dtype.kind in "fiu" and array.size in sizes
    return array.astype(float) if fits else None


def _voigt(value: np.ndarray) -> np.ndarray:
    """Six numbers xx, yy, zz, yz, xz, xy."""
    return value.ravel() if value.size == 6 else value.reshape(9)[[0, 4, 8, 5, 2, 1]]


#: numbers of each label; forces: three for each atom
SIZES: Mapping[str, tuple[int, ...]] = {"energy": (1,), "stress": (6, 9), "forces": ()}
_SHAPED: Mapping[str, Any] = {
    "energy": lambda value: float(value.reshape(())), "forces": lambda value: value.reshape(-1, 3), "stress": _voigt,
}  # fmt: skip
