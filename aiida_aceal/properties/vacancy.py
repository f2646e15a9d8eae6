"""Vacancies: relaxed formation energies, and the barrier of a hop to the nearest like neighbour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from aiida_aceal.common.errors import AceError

from .crystal import cases, named
from .defects import attempt, common, formation, perfect, sites
from .engine import Relaxer, energy, gamma_max, largest_force
from .settings import DefectSettings
from .start import Start

NAME = "vacancy"


def structures(settings: DefectSettings, start: Start, relaxer: Relaxer) -> list[Atoms]:
    """``perfect``, ``defect/SITE``, with ``migration`` the images ``path/SITE/NUMBER``."""
    host = perfect(settings, start)
    frames = common(NAME, host, start)
    for site, atom in sites(start, host).items():
        atoms = host.copy()
        del atoms[atom]
        frame = attempt(NAME, f"defect/{site}", relaxer, atoms, settings)
        frames.append(frame)
        if settings.migration and "error" not in frame.info:
            try:
                frames += _path(settings, relaxer, host, atom, site, frame)
            except AceError as error:
                frames.append(named(frame, NAME, f"path/{site}/0"))
                frames[-1].info["error"] = str(error)
    return frames


def _path(settings: DefectSettings, relaxer: Relaxer, host: Atoms, atom: int, site: str, first: Atoms) -> list[Atoms]:
    from ase.geometry import find_mic
    from ase.mep import NEB
    from ase.optimize import FIRE

    distances = host.get_distances(atom, range(len(host)), mic=True)
    same = [k for k in range(len(host)) if k != atom and host.numbers[k] == host.numbers[atom]]
    if not same:
        raise AceError(f"{site}: no like neighbour to hop to: raise defects.cell_length")
    neighbour = min(same, key=lambda k: (round(distances[k], 4), k))
    # the end is the start seen from the neighbour's place: the atom that moves has gone into the vacancy
    after = host.copy()
    after.positions[neighbour] = host.positions[atom]
    del after[atom]
    last = relaxer.positions(after, f"end of the path of {site}", settings.fmax)
    images = [first.copy()]
    shift, _ = find_mic(last.positions - first.positions, first.cell, first.pbc)
    for k in range(1, settings.images + 1):
        image = first.copy()
        image.positions += shift * k / (settings.images + 1)
        images.append(image)
    images.append(last)
    for image in images:
        image.calc = relaxer.engine.calculator()
    band = NEB(images, climb=True, method="improvedtangent", allow_shared_calculator=True)
    converged = FIRE(band, logfile=None).run(fmax=settings.neb_fmax, steps=relaxer.settings.max_steps)
    if not converged:
        raise AceError(
            f"{site}: the path did not converge in {relaxer.settings.max_steps} steps to {settings.neb_fmax:g} eV/A: "
            "raise relaxation.max_steps or defects.neb_fmax"
        )
    return [named(image, NAME, f"path/{site}/{k}") for k, image in enumerate(images)]


def analyse(settings: DefectSettings, frames: Sequence[Atoms]) -> dict[str, Any]:
    """Formation energy by site, and ``migration`` with the barrier (highest image above the lower end)."""
    result = formation(frames)
    paths = {str(f.info["case"]).split("/")[1] for f in frames if str(f.info["case"]).startswith("path/")}
    for site in sorted(paths):
        images = sorted(cases(frames, f"path/{site}/").items(), key=lambda item: int(item[0]))
        failed = next((str(f.info["error"]) for _, f in images if "error" in f.info), None)
        result[site]["migration"] = {"error": failed} if failed else _barrier([f for _, f in images])
    return result


def _barrier(images: list[Atoms]) -> dict[str, Any]:
    energies = np.array([energy(f) for f in images])
    return {
        "barrier_eV": float(energies.max() - energies[0]),
        "reverse_barrier_eV": float(energies.max() - energies[-1]),
        "max_force_eV_per_A": largest_force([images[int(np.argmax(energies))]]),
        "gamma_max": gamma_max(images),
        "curves": {"energy_eV": (energies - energies[0]).tolist()},
    }
