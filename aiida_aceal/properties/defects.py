"""What point defects have in common: the supercell, inequivalent sites, chemical potentials, formation energies.

Formation energies at constant volume: E(defect) - E(perfect) - sum of n_i mu_i, with n_i atoms of element i added
(Freysoldt et al., Rev. Mod. Phys. 86, 253 (2014), for neutral defects). The chemical potential of an element is the
energy per atom of the perfect crystal itself if it is an element, else that of its lowest phase among those given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from aiida_aceal.common.errors import AceError

from .crystal import cases, named, repeats
from .engine import Relaxer, energy, gamma_max, largest_force
from .settings import DefectSettings
from .start import Start


def perfect(settings: DefectSettings, start: Start) -> Atoms:
    """The supercell without a defect.

    :raises AceError: it is too small for a defect
    """
    cell = start.crystal.conventional
    found = cell * repeats(cell.cell, settings.cell_length)
    if len(found) < 8:
        raise AceError(
            f"a supercell of {len(found)} atoms is too small for a defect: raise defects.cell_length "
            f"({settings.cell_length:g} A)"
        )
    return found


def sites(start: Start, supercell: Atoms) -> dict[str, int]:
    """One atom of the supercell for each inequivalent site: ``Cu``, or ``O:1``, ``O:2`` if an element has several."""
    import spglib

    cell = start.crystal.conventional
    raw = (cell.cell[:], cell.get_scaled_positions(), cell.numbers)
    kinds = spglib.get_symmetry_dataset(raw, symprec=1e-3).equivalent_atoms
    firsts = sorted({int(kind) for kind in kinds})
    symbols = [cell.symbols[k] for k in firsts]
    many = Counter(symbols)
    result: dict[str, int] = {}
    count: Counter[str] = Counter()
    for k, symbol in zip(firsts, symbols):
        count[symbol] += 1
        result[f"{symbol}:{count[symbol]}" if many[symbol] > 1 else symbol] = k
    # repeating keeps the first cell's atoms in front
    assert all(supercell.symbols[k] == cell.symbols[k] for k in firsts)
    return result


def common(name: str, supercell: Atoms, start: Start) -> list[Atoms]:
    """Frames that every defect needs: ``perfect``, and ``element/PHASE`` for compounds."""
    frames = [named(supercell, name, "perfect")]
    if len(set(supercell.numbers)) > 1:
        frames += [
            named(phase.primitive, name, f"element/{phase.name}")
            for phase in start.phases.values()
            if len(set(phase.primitive.numbers)) == 1
        ]
    return frames


def attempt(name: str, case: str, relaxer: Relaxer, atoms: Atoms, settings: DefectSettings) -> Atoms:
    """The relaxed defect, or the unrelaxed one with ``info["error"]``."""
    try:
        frame = named(relaxer.positions(atoms, f"{name} {case}", settings.fmax), name, case)
    except AceError as error:
        frame = named(atoms, name, case)
        frame.info["error"] = str(error)
    return frame


def formation(frames: Sequence[Atoms], prefix: str = "defect/") -> dict[str, Any]:
    """Formation energies by site from labelled frames; ``{error}`` for those that cannot be had."""
    host = cases(frames)["perfect"]
    potentials = _chemical_potentials(frames, host)
    result: dict[str, Any] = {}
    for case, atoms in cases(frames, prefix).items():
        if "error" in atoms.info:
            result[case] = {"error": str(atoms.info["error"])}
            continue
        added = Counter(atoms.get_chemical_symbols())
        added.subtract(Counter(host.get_chemical_symbols()))
        missing = sorted(symbol for symbol, n in added.items() if n and symbol not in potentials)
        if missing:
            result[case] = {
                "error": f"no chemical potential of {', '.join(missing)}: give a phase of the element as a further "
                "structure"
            }
            continue
        try:
            value = energy(atoms) - energy(host) - sum(n * potentials[symbol] for symbol, n in added.items() if n)
        except AceError as error:
            result[case] = {"error": str(error)}
            continue
        result[case] = {
            "formation_energy_eV": float(value),
            "max_force_eV_per_A": largest_force([atoms]),
            "supercell_atoms": len(host),
            "gamma_max": gamma_max([atoms]),
        }
    good = [data for data in result.values() if "error" not in data]
    if not good:
        raise AceError("; ".join(f"{case}: {data['error']}" for case, data in result.items()))
    return result


def _chemical_potentials(frames: Sequence[Atoms], host: Atoms) -> dict[str, float]:
    """eV per atom."""
    elements = set(host.get_chemical_symbols())
    if len(elements) == 1:
        return {elements.pop(): energy(host) / len(host)}
    found: dict[str, float] = {}
    for atoms in frames:
        if str(atoms.info["case"]).startswith("element/"):
            symbol, value = atoms.get_chemical_symbols()[0], energy(atoms) / len(atoms)
            found[symbol] = min(value, found.get(symbol, np.inf))
    return found
