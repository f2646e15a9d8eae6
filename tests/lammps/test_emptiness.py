"""aceal-lmp: an atom that evaporates halts a run, as its gamma is no longer 0."""

import numpy as np
import pytest

from aiida_aceal.ace import AceModel
from aiida_aceal.lammps.deck import MDSettings, write_md_deck
from aiida_aceal.lammps.dumps import read_dump
from aiida_aceal.uncertainty import ActiveSet, build_active_set

from .conftest import ELEMENTS, alloy


@pytest.fixture(scope="module")
def sets(toy, tmp_path_factory):
    """The same active set with and without the record of what was learnt."""
    folder = tmp_path_factory.mktemp("sets")
    structures = [alloy(seed, rattle=0.05 + 0.02 * (seed % 10)) for seed in range(20)]
    model = AceModel(toy.potential, threads=1)
    build_active_set(model, structures).save(folder / "on.asi")
    build_active_set(model, structures, emptiness=False).save(folder / "off.asi")
    return folder


def leaving():
    """A slab with an atom that flies off at 2 A in 40 fs."""
    atoms = alloy(1, rattle=0.02)
    atoms.cell[2, 2] += 25.0
    velocities = np.zeros((len(atoms), 3))
    top = int(atoms.positions[:, 2].argmax())
    velocities[top, 2] = 0.5
    atoms.set_velocities(velocities)
    return atoms, top


@pytest.mark.parametrize("name", ["on", "off"])
def test_evaporation_halts(lmp, toy, sets, tmp_path, name):
    (tmp_path / "set.asi").symlink_to(sets / f"{name}.asi")
    atoms, top = leaving()
    settings = MDSettings(
        steps=200, ensemble="nve", timestep_ps=0.001, velocities="keep", gamma_interval=10, gamma_lo=1e2, gamma_hi=5e2
    )
    deck = write_md_deck(settings, ELEMENTS, potential_file="toy.yaml", active_set_file="set.asi")
    run = lmp(deck, atoms)
    assert run.status == 0, run.stderr
    frame = read_dump(tmp_path / "last.dump", type_map=ELEMENTS).frames[-1].atoms
    model = toy.model()
    model.active_set = ActiveSet.load(sets / f"{name}.asi")
    expected = model.evaluate(frame, gamma=True)
    assert frame.arrays["gamma"] == pytest.approx(expected.gamma, rel=1e-6, abs=1e-9)
    if name == "on":
        assert run.log.halted
        assert run.log.halt.value == pytest.approx(1000.0)
        assert frame.arrays["gamma"][top] == pytest.approx(1000.0)
        assert "not flagged" not in run.log_text
    else:
        assert not run.log.halted
        assert frame.arrays["gamma"][top] == 0.0
        assert run.log_text.count("are not flagged") == 1
