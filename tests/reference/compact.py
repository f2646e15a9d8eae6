"""Take a small part of a folder of reference results (see README.md): ``python compact.py FULL_FOLDER``.

Copies numbers as they are, to the last bit. Per case: the potential, inverse active sets below a size, and a few
structures, projections of only some of them, since these are what is large.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
#: case: further files that are taken
CASES = {
    "cu_lin": [],
    "cu_fs": [],
    "cu_zbl": ["pot.yace"],
    "cu_cheblin_nd3": ["pot.yace", "active_set.npz", "pot.asi", "pot.asi.nonlinear"],
    "alni_lin": [],
    "alcuni_mixed_ndens": ["pot.yace", "pot.asi"],
    "fit_cu_small_fs2": ["pot.yace", "pot.asi"],
}
STRUCTURES = 10
WITH_PROJECTIONS = 4
#: dropped: derived by LAMMPS's other evaluators, not used by the tests
WANTED = {
    "numbers", "positions", "cell", "pbc", "energy", "forces", "energies", "projections", "virial_pyace", "gamma_lin",
    "gamma_full", "lammps_energy", "lammps_forces", "lammps_energies", "lammps_press_bar", "lammps_lin_gamma",
    "lammps_full_gamma",
}  # fmt: skip


def choose(names: list[str], sizes: dict[str, int]) -> list[str]:
    """Structures spread evenly over the list (the kinds come one after another), the largest left out."""
    small = [name for name in names if sizes[name] <= sorted(sizes.values())[int(0.8 * len(sizes))]]
    places = np.unique(np.linspace(0, len(small) - 1, STRUCTURES).round().astype(int))
    return [small[k] for k in places]


def compact(source: Path, target: Path, extra: list[str]) -> None:
    """One case."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("pot.yaml", "info.json", *extra):
        shutil.copyfile(source / name, target / name)
    with np.load(source / "reference.npz", allow_pickle=False) as data:
        names = sorted({key.split("/")[0] for key in data.files})
        sizes = {name: len(data[f"{name}/numbers"]) for name in names}
        chosen = choose(names, sizes)
        rich = set(sorted(chosen, key=lambda name: (-sizes[name], name))[:: max(1, len(chosen) // WITH_PROJECTIONS)])
        kept = {
            key: data[key]
            for key in data.files
            if key.split("/")[0] in chosen
            and key.split("/")[1] in WANTED
            and (key.split("/")[1] != "projections" or key.split("/")[0] in rich)
        }
    np.savez_compressed(target / "reference.npz", **kept)


def main(full: Path) -> None:
    """All cases, and the four runs of native LAMMPS."""
    for case, extra in CASES.items():
        compact(full / "cases" / case, HERE / "cases" / case, extra)
    for path in sorted((full / "md").rglob("*")):
        if path.is_file():
            target = HERE / path.relative_to(full)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
