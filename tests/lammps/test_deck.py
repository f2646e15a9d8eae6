"""The deck and data file of an exploration run: what they say, and that aceal-lmp runs them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111

from aiida_aceal.ace import AceError
from aiida_aceal.lammps import deck
from aiida_aceal.lammps.deck import MDSettings, write_data, write_md_deck
from aiida_aceal.lammps.dumps import read_dump

ELEMENTS = ["Au", "Cu"]
FILES = {"potential_file": "toy.yaml", "active_set_file": "toy.asi"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 0}, "steps: must be a positive integer"),
        ({"steps": 10.0}, "steps: must be a positive integer"),
        ({"steps": 15}, r"steps \(15\) must be a multiple of gamma_interval \(10\)"),
        ({"steps": 100, "thermo_interval": 25}, "thermo_interval"),
        ({"steps": 100, "ensemble": "nvp"}, "'nvt', 'npt' or 'nve'"),
        ({"steps": 100, "barostat": "x"}, "'iso', 'aniso' or 'tri'"),
        ({"steps": 100, "temperature_K": -5}, "temperature_K: must be a number .K. above 0 and at most 50000"),
        ({"steps": 100, "temperature_K": float("nan")}, "must be a number .K. above 0 and at most 50000, found nan"),
        ({"steps": 100, "gamma_lo": 5, "gamma_hi": 5}, "below gamma_hi"),
        ({"steps": 100, "seed": 10**9}, "900000000"),
        ({"steps": 100, "thermostat": "langevin", "ensemble": "npt"}, "langevin"),
        ({"steps": 100, "gama_lo": 5}, "did you mean 'gamma_lo'"),
        ({"temperature_K": 5}, "'steps'.*missing"),
    ],
)
def test_settings_are_checked(values, words):
    with pytest.raises(AceError, match=words):
        MDSettings.read(values)


def test_settings_round_trip():
    settings = MDSettings(steps=100, temperature_end_K=900)
    assert MDSettings.read(settings.to_dict()) == settings


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (MDSettings(steps=100, temperature_K=300, temperature_end_K=900), "fix md all nvt temp 300 900 0.1"),
        (MDSettings(steps=100, thermostat="langevin", seed=4), "fix bath all langevin 300 300 0.1 4 zero yes"),
        (MDSettings(steps=100, ensemble="nve", velocities="keep"), "fix md all nve"),
        (MDSettings(steps=100, ensemble="npt", barostat="tri", pressure_bar=1, pressure_end_bar=1e5),
         "fix md all npt temp 300 300 0.1 tri 1 100000 1"),
        (MDSettings(steps=100, gamma_interval=5, gamma_hi=25),
         "fix extreme all halt 5 v_max_pace_gamma > 25 error continue message yes"),
        (MDSettings(steps=100, max_wall_seconds=3725), "timer timeout 1:02:05 every 10"),
    ],
)  # fmt: skip
def test_lines(settings, line):
    lines = write_md_deck(settings, ELEMENTS).splitlines()
    assert line in lines
    assert any(text.startswith("velocity all create") for text in lines) == (settings.velocities == "create")
    assert ("change_box all triclinic" in lines) == (settings.barostat == "tri")


def test_npt_needs_a_periodic_structure():
    with pytest.raises(AceError, match="periodic in all three"):
        write_md_deck(MDSettings(steps=100, ensemble="npt"), ELEMENTS, pbc=(True, True, False))


@pytest.mark.parametrize(
    "settings",
    [
        MDSettings(steps=40, temperature_K=300, temperature_end_K=900),
        MDSettings(steps=40, ensemble="npt", barostat="iso"),
        MDSettings(steps=40, ensemble="npt", barostat="aniso", pressure_bar=1e4),
        MDSettings(steps=40, ensemble="npt", barostat="tri", gamma_interval=5, thermo_interval=20),
        MDSettings(steps=40, thermostat="langevin"),
        MDSettings(steps=40, ensemble="nve", velocities="keep"),
    ],
    ids=lambda s: f"{s.ensemble}-{s.barostat}-{s.thermostat}",
)
def test_deck_runs(lmp, toy, make_alloy, settings):
    atoms = make_alloy(1, strain=0.0, rattle=0.03)
    atoms.set_velocities(np.random.default_rng(1).normal(0, 0.02, atoms.positions.shape))
    run = lmp(write_md_deck(settings, ELEMENTS, atoms.pbc, **FILES), atoms)
    assert run.status == 0, run.stderr
    log = run.log
    assert log.completed
    assert not log.halted
    assert log.last_step == 40
    assert log.runs[0]["Step"].tolist() == list(range(0, 41, settings.thermo_interval or settings.gamma_interval))
    last = read_dump(run.folder / deck.LAST_DUMP).frames[0]
    assert last.step == 40
    want = toy.model().evaluate(last.atoms, gamma=True)
    np.testing.assert_allclose(last.atoms.arrays["gamma"], want.gamma, rtol=1e-6)
    assert log.runs[0][deck.MAX_GAMMA_COLUMN][-1] == pytest.approx(want.gamma.max(), rel=1e-6)
    assert last.atoms.get_temperature() > 0
    assert (run.folder / deck.LAST_DATA).exists()


def test_extrapolative_frames_and_halt(lmp, toy, make_alloy):
    settings = MDSettings(steps=2000, temperature_K=2000, temperature_end_K=20000, timestep_ps=0.002, gamma_lo=1.0,
                          gamma_hi=1.5, seed=3, gamma_interval=5)  # fmt: skip
    run = lmp(write_md_deck(settings, ELEMENTS, **FILES), make_alloy(1, rattle=0.02))
    assert run.status == 0, run.stderr
    log = run.log
    assert log.halted
    assert log.halt.fix == "extreme"
    steps, gamma = log.runs[0]["Step"], log.runs[0][deck.MAX_GAMMA_COLUMN]
    dump = read_dump(run.folder / deck.EXTRAPOLATIVE_DUMP)
    assert [frame.step for frame in dump.frames] == steps[gamma >= 1.0].tolist()
    assert dump.frames[-1].step == log.halt_step
    assert dump.frames[0].atoms.get_chemical_symbols() == make_alloy(1).get_chemical_symbols()


def test_wall_time_limit(lmp, make_alloy):
    settings = MDSettings(steps=10_000_000, max_wall_seconds=1)
    run = lmp(write_md_deck(settings, ELEMENTS, **FILES), make_alloy(1, rattle=0.02))
    assert run.status == 0, run.stderr
    log = run.log
    assert log.completed
    assert log.timed_out
    assert 0 < log.last_step < 10_000_000
    assert read_dump(run.folder / deck.LAST_DUMP).complete


def test_same_seed_same_run(lmp, make_alloy):
    text = write_md_deck(MDSettings(steps=50, seed=5), ELEMENTS, **FILES)
    first, second = (lmp(text, make_alloy(1)).log.runs[0] for _ in range(2))
    other = lmp(write_md_deck(MDSettings(steps=50, seed=6), ELEMENTS, **FILES), make_alloy(1)).log.runs[0]
    np.testing.assert_array_equal(first["PotEng"], second["PotEng"])
    assert first["PotEng"][-1] != other["PotEng"][-1]


@pytest.mark.parametrize("kind", ["primitive", "skewed", "left-handed"])
def test_data_of_any_cell(lmp, head, toy, kind):
    """Energy and distances survive the rotation into LAMMPS' frame."""
    rng = np.random.default_rng(2)
    if kind == "primitive":
        atoms = bulk("Cu", a=3.7) * (3, 3, 3)
    else:
        atoms = Atoms("Cu4Au4", cell=[[1, 8, 0.5], [7, -1, 0], [3, 4, -9]], pbc=True)
        atoms.set_scaled_positions((np.indices((2, 2, 2)).reshape(3, -1).T + rng.normal(0, 0.05, (8, 3))) / 2 + 3)
        if kind == "left-handed":
            atoms.set_cell(atoms.cell[[1, 0, 2]], scale_atoms=True)
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    run = lmp(head + "thermo_style custom pe vol\nthermo_modify format float %.15g\nrun 0\n", atoms)
    assert run.status == 0, run.stderr
    assert run.log.runs[0]["PotEng"][0] == pytest.approx(toy.model().evaluate(atoms).energy, rel=1e-9)
    assert run.log.runs[0]["Volume"][0] == pytest.approx(atoms.get_volume(), rel=1e-12)


@pytest.mark.parametrize("kind", ["slab", "cluster"])
def test_structures_that_are_not_periodic(lmp, toy, kind):
    if kind == "slab":
        atoms = fcc111("Cu", (2, 3, 3), a=3.7, vacuum=8.0, orthogonal=False)
        atoms.pbc = (True, True, False)
    else:
        atoms = Atoms("CuAuCu", [[0, 0, 0], [2.5, 0, 0], [1, 2.2, 0.3]])
    atoms.rattle(0.05, seed=1)
    run = lmp(write_md_deck(MDSettings(steps=20), ELEMENTS, atoms.pbc, **FILES), atoms)
    assert run.status == 0, run.stderr
    assert run.log.runs[0]["PotEng"][0] == pytest.approx(toy.model().evaluate(atoms).energy, rel=1e-8)
    assert read_dump(run.folder / deck.LAST_DUMP).frames[0].atoms.pbc.tolist() == atoms.pbc.tolist()


def test_data_refuses():
    stream = io.StringIO()
    with pytest.raises(AceError, match=r"Xe.*not among"):
        write_data(Atoms("CuXe", cell=[5, 5, 5], pbc=True), ELEMENTS, stream)
    with pytest.raises(AceError, match="not finite"):
        write_data(Atoms("Cu", [[np.nan, 0, 0]], cell=[5, 5, 5], pbc=True), ELEMENTS, stream)
    with pytest.raises(AceError, match="without atoms"):
        write_data(Atoms(cell=[5, 5, 5], pbc=True), ELEMENTS, stream)
    with pytest.raises(AceError, match="without a cell vector"):
        write_data(Atoms("Cu", pbc=True), ELEMENTS, stream)
    with pytest.raises(AceError, match="skewed"):
        write_data(Atoms("Cu", cell=[[5, 0, 0], [0, 5, 0], [1, 0, 5]], pbc=(True, True, False)), ELEMENTS, stream)


def test_data_takes_masses_and_ignores_foreign_arrays():
    atoms = Atoms("CuAu", [[0, 0, 0], [2, 2, 2]], cell=[4, 4, 4], pbc=True)
    atoms.set_array("type", np.array([7, 9]))
    stream = io.StringIO()
    write_data(atoms, ELEMENTS, stream, masses={"Cu": 10.5})
    words = [line.split() for line in stream.getvalue().splitlines()]
    assert next(float(row[1]) for row in words if row[2:] == ["#", "Cu"]) == pytest.approx(10.5)
    assert [row[:2] for row in words if len(row) == 5] == [["1", "2"], ["2", "1"]]
