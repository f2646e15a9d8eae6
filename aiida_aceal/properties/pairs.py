"""Short distances: curves of dimers, and of an atom of the crystal pushed into its neighbour."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from .crystal import cases, named, repeats
from .engine import Relaxer, energy, gamma_max
from .settings import PairSettings
from .start import Start

NAME = "pairs"
#: distances of opposite faces of the cell in which an atom is pushed, Angstrom
_CELL = 7.0
_BOX = 20.0
#: a fall of the energy below it (eV) is noise, not a hole
_NOISE = 1e-4
#: points of which a curve is made
_FEWEST = 5
#: in units of the sum of covalent radii
_SHORTEST_BOND = 0.75


def structures(settings: PairSettings, start: Start, relaxer: Relaxer) -> list[Atoms]:
    """``A-B/dimer/NUMBER`` for each pair of elements, ``A-B/crystal/NUMBER`` for those that are neighbours."""
    conventional = start.crystal.conventional
    elements = sorted(set(conventional.get_chemical_symbols()))
    host = conventional * repeats(conventional.cell, _CELL)
    distances = host.get_all_distances(mic=True)
    np.fill_diagonal(distances, np.inf)
    frames = []
    for a, b in combinations_with_replacement(elements, 2):
        numbers = [Atoms(symbol).numbers[0] for symbol in (a, b)]
        first = settings.shortest * float(sum(covalent_radii[n] for n in numbers))
        for k, r in enumerate(np.linspace(first, settings.longest, settings.points)):
            dimer = Atoms([a, b], [[0, 0, 0], [r, 0, 0]], cell=[_BOX] * 3)
            dimer.positions += _BOX / 2
            frames.append(named(dimer, NAME, f"{a}-{b}/dimer/{k}"))
        mover, neighbour = _neighbours(host, distances, a, b)
        if mover < 0:
            continue
        vector = host.get_distance(neighbour, mover, mic=True, vector=True)
        length = float(np.linalg.norm(vector))
        for k, r in enumerate(np.linspace(first, length, settings.points)):
            pushed = host.copy()
            pushed.positions[mover] = host.positions[neighbour] + vector * r / length
            frames.append(named(pushed, NAME, f"{a}-{b}/crystal/{k}"))
    return frames


def _neighbours(host: Atoms, distances: np.ndarray, a: str, b: str) -> tuple[int, int]:
    """An atom of ``a`` and its nearest of ``b`` if these are nearest neighbours of some atom, else -1."""
    symbols = np.array(host.get_chemical_symbols())
    for mover in np.flatnonzero(symbols == a):
        near = distances[mover].min()
        same = np.flatnonzero((symbols == b) & (distances[mover] < 1.2 * near))
        if len(same):
            return int(mover), int(same[np.argmin(distances[mover][same])])
    return -1, -1


def analyse(settings: PairSettings, frames: Sequence[Atoms]) -> dict[str, Any]:
    """Minimum, wall, holes, and the distance below which the potential is not to be trusted, by pair and curve."""
    result: dict[str, Any] = {}
    for pair in dict.fromkeys(str(f.info["case"]).split("/")[0] for f in frames):
        result[pair] = {}
        for kind in ("dimer", "crystal"):
            if any(str(f.info["case"]).startswith(f"{pair}/{kind}/") for f in frames):
                found = cases(frames, f"{pair}/{kind}/")
                images = [found[key] for key in sorted(found, key=int)]
                # atoms this close are more than some methods can do: what they cannot is missing from the curve
                known = [f for f in images if "unlabelled" not in f.info]
                if len(known) < _FEWEST:
                    why = next(str(f.info["unlabelled"]) for f in images if "unlabelled" in f.info)
                    result[pair][kind] = {"error": f"{len(known)} of {len(images)} points have labels: {why}"}
                    continue
                result[pair][kind] = _curve(settings, known, kind)
                if len(known) < len(images):
                    result[pair][kind]["points_without_label"] = len(images) - len(known)
    return result


def _curve(settings: PairSettings, images: list[Atoms], kind: str) -> dict[str, Any]:
    r = np.array([_nearest(f) for f in images])
    order = np.argsort(r)
    images, r = [images[k] for k in order], r[order]
    energies = np.array([energy(f) for f in images])
    energies = energies - energies[-1]
    falls = np.diff(energies) > _NOISE  # inwards, from r[k+1] to r[k], the energy falls
    # the wall begins at the bond of a dimer, in a crystal where the atom came from
    well = len(r) - 1 if kind == "crystal" else _well(images[0], r, energies)
    holes = np.flatnonzero(falls[:well])
    hole = float(r[holes[-1] + 1]) if len(holes) else None
    limits = [hole] if hole is not None else []
    gammas = [f.info.get("gamma_max") for f in images]
    extrapolates = None
    if all(g is not None for g in gammas):
        above = np.flatnonzero(np.array(gammas[: well + 1], dtype=float) > settings.gamma_limit)
        extrapolates = float(r[above[-1]]) if len(above) else None
        limits += [extrapolates] if extrapolates is not None else []
    return {
        "minimum_A": float(r[well]),
        "depth_eV": float(-energies[well]),
        "wall_eV": float(energies[: well + 1].max() - energies[well]),
        "repulsive": hole is None,
        "hole_below_A": hole,
        "extrapolates_below_A": extrapolates,
        "not_trusted_below_A": max(limits) if limits else None,
        "gamma_max": gamma_max(images),
        "curves": {"distance_A": r.tolist(), "energy_eV": energies.tolist(), "gamma": gammas},
    }


def _well(dimer: Atoms, r: np.ndarray, energies: np.ndarray) -> int:
    """The deepest local minimum that is no shorter than a bond could be; the outer end where there is none."""
    shortest = _SHORTEST_BOND * sum(covalent_radii[n] for n in dimer.numbers)
    last = len(energies) - 1
    minima = [
        k
        for k in range(1, len(energies))
        if r[k] >= shortest and energies[k] < energies[k - 1] and (k == last or energies[k] <= energies[k + 1])
    ]
    return min(minima, key=lambda k: energies[k]) if minima else last


def _nearest(atoms: Atoms) -> float:
    distances = atoms.get_all_distances(mic=True)
    np.fill_diagonal(distances, np.inf)
    return float(distances.min())
