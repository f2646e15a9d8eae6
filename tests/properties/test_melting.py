"""Melting by coexistence: what counts as solid, which runs count, and a small run to its end."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.common.configurations import read_configurations, write_configurations
from aiida_aceal.common.errors import AceError
from aiida_aceal.properties import Engine, PropertiesSettings, Relaxer, property_numbers, property_structures
from aiida_aceal.properties.melting import Free, Order, analyse, supercell
from aiida_aceal.properties.settings import MeltingSettings, ReferenceMdSettings

SETTINGS = MeltingSettings(width=7.0, length=25.0)
CRYSTALS = {
    "fcc": bulk("Cu", cubic=True, a=3.6),
    "bcc": bulk("Fe", cubic=True),
    "diamond": bulk("Si", cubic=True),
    "zincblende": bulk("CuI", "zincblende", a=6.05, cubic=True),
    "hcp": bulk("Ti", "hcp", a=2.95, c=4.68),
}


def half_molten(bar: Atoms, rng: np.random.Generator) -> Atoms:
    """The upper half is displaced at random by much, everything else by the heat of a crystal."""
    atoms = bar.copy()
    upper = atoms.get_scaled_positions()[:, 2] >= 0.5 - 1e-9
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    atoms.positions[upper] += rng.normal(0, 2.0, (upper.sum(), 3))
    return atoms


@pytest.mark.parametrize("name", CRYSTALS)
def test_what_counts_as_solid(name):
    bar = supercell(SETTINGS, CRYSTALS[name])
    order = Order(bar)
    assert order.slabs(bar) == pytest.approx(np.ones(bar.info["period"][2]))
    # where the crystal stands, how large it is and how it is counted does not matter
    moved = bar.copy()
    moved.set_cell(moved.cell[:] * [[1.02], [1.02], [0.98]], scale_atoms=True)
    moved.positions += moved.cell[0] * 0.137 + moved.cell[1] * 0.291
    assert order.slabs(moved) == pytest.approx(np.ones(bar.info["period"][2]))
    assert order.solid(half_molten(bar, np.random.default_rng(1))) == pytest.approx(0.5, abs=0.2)


def test_the_bar():
    bar = supercell(SETTINGS, CRYSTALS["fcc"])
    assert bar.info["period"] == [2, 2, 7]
    assert len(bar) == 4 * 28
    assert bar.cell.lengths() == pytest.approx([7.2, 7.2, 25.2])
    assert supercell(MeltingSettings(width=7.0, length=1.0), CRYSTALS["fcc"]).info["period"] == [2, 2, 6]


def test_free_dynamics_keep_the_energy_and_lose_the_pressure():
    atoms = bulk("Cu", cubic=True, a=3.7) * 2
    atoms.calc = EMT()
    rng = np.random.default_rng(0)
    atoms.set_velocities(rng.normal(size=(32, 3)) * np.sqrt(2 * 300 * units.kB / 63.5))
    dynamics, energies = Free(atoms, 0.002), []
    before = atoms.get_stress(include_ideal_gas=True)[:3] / units.GPa
    dynamics.run(250)
    assert atoms.get_volume() < 32 * 3.7**3 / 4 * 0.98
    dynamics.run(150, lambda: energies.append(atoms.get_total_energy() / 32))
    pressures = [atoms.get_stress(include_ideal_gas=True)[:3] / units.GPa]
    dynamics.run(150, lambda: pressures.append(atoms.get_stress(include_ideal_gas=True)[:3] / units.GPa))
    assert before.min() > 5
    assert np.abs(np.mean(pressures, axis=0)).max() < 0.5
    assert np.ptp(energies) < 2e-3


def frames_of(temperatures, molten, bar):
    found = [("start", bar, 0.0)]
    found += [(f"{run}/{k}", bar if not m else half_molten(bar, np.random.default_rng(k)), t)
              for run, part in enumerate(zip(temperatures, molten)) for k, (t, m) in enumerate(zip(*part))]  # fmt: skip
    made = []
    for k, (case, atoms, temperature) in enumerate(found):
        frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        frame.info.update(property="melting", case=case, own=True, time_ps=0.1 * k, temperature_K=temperature)
        frame.info["period"] = np.array(bar.info["period"])
        frame.calc = SinglePointCalculator(frame, energy=0.0, forces=np.zeros((len(frame), 3)))
        made.append(frame)
    return made


def test_the_mean_is_that_of_the_last_attempt():
    bar = supercell(SETTINGS, CRYSTALS["fcc"])
    temperatures = [[2000.0] * 6, [1500.0] * 5 + [1300.0, 1310.0, 1290.0, 1300.0, 1300.0]]
    frames = frames_of(temperatures, [[False] * 6, [True] * 10], bar)
    numbers = analyse(SETTINGS, frames[::-1])
    assert numbers["melting_temperature_K"] == pytest.approx(1300.0)
    assert numbers["error_K"] == pytest.approx(np.std([1300, 1310, 1290, 1300, 1300], ddof=1) / np.sqrt(5))
    assert numbers["solid_fraction"] == pytest.approx(0.5, abs=0.2)
    assert (numbers["attempts"], numbers["atoms"]) == (2, len(bar))
    assert numbers["curves"]["coexistence"]["temperature_K"] == temperatures[1]


def test_a_phase_that_is_gone_is_named():
    bar = supercell(SETTINGS, CRYSTALS["fcc"])
    with pytest.raises(
        AceError, match=r"one phase was gone \(solid is left\) in each attempt, 1 in all: give melting\."
    ):
        analyse(SETTINGS, frames_of([[900.0] * 8], [[True] * 4 + [False] * 4], bar))


def test_a_run_of_copper(copper_files, tmp_path):
    """An ACE of a few functions for EMT copper: through files, as a job reads them, and the same from the same seed."""
    from aiida_aceal.ace import AceCalculator, AceModel
    from aiida_aceal.ace.potential import AcePotential

    model = AceModel(AcePotential.read(copper_files / "pot.yaml"))
    engine = Engine(lambda: AceCalculator(model), "ace", shared=True)
    short = {
        "width": 7.0, "length": 21.0, "heating_steps": 30, "equilibration": 20, "steps": 100, "interval": 20,
        "attempts": 2,
    }  # fmt: skip
    settings = PropertiesSettings(properties="melting", melting=short)
    first, errors = property_structures(settings, [bulk("Cu")], Relaxer(engine))
    again, _ = property_structures(settings, [bulk("Cu")], Relaxer(engine))
    assert not errors
    assert [f.info["case"] for f in first][:3] == ["start", "0/0", "0/1"]
    assert all(f.info["own"] for f in first)
    assert [f.info["temperature_K"] for f in first] == [f.info["temperature_K"] for f in again]
    write_configurations(tmp_path / "frames.extxyz", first)
    numbers = property_numbers(settings, read_configurations(tmp_path / "frames.extxyz"))["melting"]
    assert 500 < numbers["melting_temperature_K"] < 3000
    assert numbers["atoms"] == len(first[0])


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        (MeltingSettings, {"steps": 100}, "at least five frames"),
        (ReferenceMdSettings, {"calculator": "emt", "properties": "md,eos"}, "must be names among md, melting"),
    ],
)
def test_settings_are_checked(model, words, message):
    with pytest.raises(AceError, match=message):
        model(**words)
