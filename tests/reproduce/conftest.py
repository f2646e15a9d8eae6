"""Small data under the names of the public sets, and studies run on them as a user runs them."""

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write
from click.testing import CliRunner

from aiida_aceal.cli.root import main


def emt(atoms):
    """A copy with the labels of EMT as the public sets have them."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    atoms.info["REF_energy"] = atoms.get_potential_energy()
    atoms.arrays["REF_forces"] = atoms.get_forces()
    atoms.calc = None
    return atoms


@pytest.fixture(scope="session")
def copper_data(tmp_path_factory):
    """Folder with a set of copper called Cu-II: calm cells, and wild ones of high energy."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("data")
    frames = []
    for k in range(36):
        atoms = bulk("Cu", cubic=True) * (1, 1, 2)
        wild = k % 3 == 0
        atoms.set_cell(atoms.cell * (1 + rng.normal(0.0, 0.05 if wild else 0.01)), scale_atoms=True)
        atoms.positions += rng.normal(0.0, 0.35 if wild else 0.06, atoms.positions.shape)
        frames.append(emt(atoms))
    write(folder / "Cu-II_1k.extxyz", frames, format="extxyz")
    return folder


@pytest.fixture
def reproduce(tmp_path, aiida_profile):
    """Run a study with changed settings; what it printed, and its numbers."""

    def run(name, data=None, code=0, **changes):
        words = ["reproduce", name, "-o", tmp_path / "out", "--profile", aiida_profile.name, "--threads", 1]
        words += ["--data", data] if data is not None else []
        for key, value in changes.items():
            words += ["--set", f"{key}={json.dumps(value)}"]
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
        path = tmp_path / "out" / f"{name}.json"
        return result.output, json.loads(path.read_text()) if code == 0 else None

    return run


@pytest.fixture
def picture(tmp_path):
    """Width and height of a figure that was written, after a look that it is one and is not empty."""

    def look(name):
        from matplotlib.image import imread

        image = imread(tmp_path / "out" / f"{name}.png")
        assert (image[..., :3].min(axis=2) < 0.99).mean() > 0.01
        return image.shape[1], image.shape[0]

    return look
