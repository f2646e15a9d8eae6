"""What dynamics and first structures cannot be meant to be: steps of the wrong unit, atoms on top of each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

#: K: above it matter is a plasma, and no label is the ground state's; usual are 100 to 5000
HOTTEST = 50_000
#: ps: above it no bond survives; usual are 0.0005 to 0.005
LONGEST_STEP = 0.02
#: ps of a period of the fastest vibration that a step may take, with hydrogen and without
USUAL_STEP = {"with H": 0.001, "without H": 0.005}
USUAL_HOTTEST = 10_000.0
#: in units of the sum of covalent radii: two atoms in one place (`aiida_aceal.fitting` leaves such labels out)
ON_TOP = 0.3


def on_top(atoms: Atoms) -> str | None:
    """Which two atoms lie on top of each other, in words; ``None`` if none do."""
    radii = covalent_radii[atoms.numbers]
    i, j, d = neighbor_list("ijd", atoms, 2.0 * ON_TOP * float(radii.max(initial=0.0)))
    short = np.flatnonzero(d < ON_TOP * (radii[i] + radii[j]))
    if not len(short):
        return None
    k = short[np.argmin(d[short])]
    symbols = atoms.get_chemical_symbols()
    return f"atoms {i[k]} and {j[k]} ({symbols[i[k]]}-{symbols[j[k]]}) are {d[k]:.3g} A apart"


def first_on_top(structures: Iterable[Atoms], where: str) -> str | None:
    """The first structure with atoms on top of each other, or ``None``."""
    for number, atoms in enumerate(structures):
        problem = on_top(atoms)
        if problem:
            source = atoms.info.get("source")
            named = f"{where}, structure {number}" + (f" ({source})" if source else "")
            return f"{named}: {problem}, on top of each other; mend or remove it"
    return None


def check_start(settings: Mapping[str, Any], structures: Sequence[Atoms], where: str = "configurations") -> str | None:
    """Why runs cannot start from structures, or ``None``: atoms on top of each other, npt without a periodic cell.

    :param settings: of the runs, `schedule` included
    """
    problem = first_on_top(structures, where)
    if problem:
        return problem
    ensembles = {item.get("ensemble", settings.get("ensemble")) for item in settings.get("schedule") or [{}]}
    if "npt" not in ensembles:
        return None
    for number, atoms in enumerate(structures):
        if not atoms.pbc.all():
            return (
                f"{where}, structure {number} ({atoms.get_chemical_formula()}) is not periodic in three directions, "
                "but ensemble npt changes the volume of a periodic cell; use ensemble: nvt, or put it into one"
            )
    return None


def unusual(settings: Mapping[str, Any], structures: Sequence[Atoms]) -> list[str]:
    """What is allowed but seldom meant: steps too long for the lightest atom, temperatures beyond any melt."""
    light = any(1 in atoms.numbers for atoms in structures)
    usual = USUAL_STEP["with H" if light else "without H"]
    found = []
    for item in settings.get("schedule") or [{}]:
        values = {**settings, **item}
        step = values.get("timestep_ps") or 0.0
        hottest = max(values.get("temperature_K") or 0.0, values.get("temperature_end_K") or 0.0)
        if step > usual:
            what = "structures with hydrogen" if light else "most materials"
            found.append(f"timestep_ps {step:g} is long for {what} (usual: up to {usual:g}); runs may explode")
        if hottest > USUAL_HOTTEST:
            found.append(f"temperature {hottest:g} K is unusual (usual: up to {USUAL_HOTTEST:g} K)")
    return list(dict.fromkeys(found))
