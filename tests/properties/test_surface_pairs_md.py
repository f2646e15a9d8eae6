"""Surfaces and stacking faults against slabs built by ASE, holes at short distances, runs."""

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc100, fcc110, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.optimize import BFGS
from click.testing import CliRunner

from aiida_aceal.properties import (
    Engine,
    PropertiesSettings,
    Relaxer,
    compute_properties,
    property_numbers,
    property_structures,
)
from aiida_aceal.worker.main import main


def compute(names, given, **words):
    return compute_properties(PropertiesSettings(properties=names, **words), given, Engine(EMT, "emt"))


def energy(atoms, relax=True):
    atoms.calc = EMT()
    if relax:
        BFGS(atoms, logfile=None).run(fmax=0.003, steps=200)
    return atoms.get_potential_energy()


@pytest.fixture(scope="module")
def copper():
    return compute("surface", [bulk("Cu")])


@pytest.mark.parametrize(("build", "plane", "layers"), [(fcc100, "100", 7), (fcc110, "110", 10), (fcc111, "111", 6)])
def test_surfaces_are_those_of_ase(copper, build, plane, layers):
    numbers, frames = copper
    at_rest = frames[0]
    assert at_rest.info["case"] == "bulk"
    a = (4 * at_rest.get_volume()) ** (1 / 3)
    atoms = build("Cu", (1, 1, layers), a=a, vacuum=8.0)
    area = np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1]))
    direct = (energy(atoms) - layers * energy(at_rest.copy(), False)) / (2 * area) / (units.J / 1e20)
    assert numbers["surface"][plane]["energy_J_per_m2"] == pytest.approx(direct, rel=5e-3)


@pytest.mark.parametrize(
    ("atoms", "good", "faulted"),
    [
        (bulk("Cu"), "ABC", {"ABCABCABCAB": 1}),  # one step from B back to A
        # I2 has two layers stacked as in fcc; the end of the cell adds an I1 (one layer), the other cell has two I1
        (bulk("Ni", "hcp", a=2.49, c=4.07), "AB", {"ABABABCACAC": 1, "ABABABCBCBCB": -0.5}),
    ],
)
def test_intrinsic_stacking_faults_are_those_of_stacked_layers(atoms, good, faulted):
    settings = {"planes": [[0, 0, 1]], "thickness": 12.0, "fault_points": 3}
    numbers, frames = compute("surface", [atoms], surface=settings)
    ours = numbers["surface"]["stacking_fault"]
    first = next(f for f in frames if f.info["case"] == "fault/0")
    a, spacing = first.cell[0, 0], first.cell[2, 2] / len(first)

    def stacked(letters):
        step = np.array([a / 2, a / (2 * np.sqrt(3)), 0])
        places = ["ABC".index(letter) * step + [0, 0, k * spacing] for k, letter in enumerate(letters)]
        cell = [[a, 0, 0], [a / 2, a * np.sqrt(3) / 2, 0], [0, 0, spacing * len(letters)]]
        return Atoms([first.symbols[0]] * len(letters), places, cell=cell, pbc=True)

    perfect = energy(stacked(good * 3), False) / (3 * len(good))
    area = a**2 * np.sqrt(3) / 2
    found = sum(share * (energy(stacked(cell)) - perfect * len(cell)) for cell, share in faulted.items())
    assert ours["intrinsic_mJ_per_m2"] == pytest.approx(found / area / (units.J / 1e20) * 1e3, abs=0.5)
    assert ours["unstable_mJ_per_m2"] > 100


def test_a_plane_that_is_none_is_a_row(copper):
    numbers, _ = compute("surface", [bulk("Al")], surface={"planes": [[0, 0, 0], [1, 1, 1]], "stacking_fault": False})
    assert "does not exist" in numbers["surface"]["000"]["error"]
    assert numbers["surface"]["111"]["energy_J_per_m2"] > 0
    assert "stacking_fault" not in numbers["surface"]


def dimers(energy_of, gamma_of=None):
    """Numbers of pairs whose dimers follow a formula."""
    settings = PropertiesSettings(properties="pairs", pairs={"points": 200, "gamma_limit": 2.0})
    frames, _ = property_structures(settings, [bulk("Cu")], Relaxer(Engine(EMT, "emt")))
    frames = [f for f in frames if "dimer" in f.info["case"]]
    for atoms in frames:
        r = atoms.get_distance(0, 1)
        atoms.calc = SinglePointCalculator(atoms, energy=energy_of(r), forces=np.zeros((2, 3)))
        if gamma_of is not None:
            atoms.info["gamma_max"] = gamma_of(r)
    return property_numbers(settings, frames)["pairs"]["Cu-Cu"]["dimer"]


def lennard_jones(r):
    return 4 * ((2.2 / r) ** 12 - (2.2 / r) ** 6)


def test_holes_and_walls():
    good = dimers(lennard_jones)
    assert good["repulsive"]
    assert good["not_trusted_below_A"] is None
    assert good["minimum_A"] == pytest.approx(2.2 * 2 ** (1 / 6), abs=0.03)
    assert good["depth_eV"] == pytest.approx(1.0, abs=0.01)
    # at 1.5 A the wall turns over into a hole deeper than the bond
    hole = dimers(lambda r: lennard_jones(r) if r > 1.5 else lennard_jones(1.5) - 800 * (1.5 - r))
    assert not hole["repulsive"]
    assert hole["hole_below_A"] == pytest.approx(1.5, abs=0.03)
    assert hole["not_trusted_below_A"] == hole["hole_below_A"]
    assert hole["minimum_A"] == pytest.approx(good["minimum_A"])


def test_grades_limit_the_trust():
    found = dimers(lennard_jones, lambda r: 10.0 if r < 1.8 else 0.5)
    assert found["repulsive"]
    assert found["extrapolates_below_A"] == pytest.approx(1.8, abs=0.03)
    assert found["not_trusted_below_A"] == found["extrapolates_below_A"]
    assert found["gamma_max"] == 10.0


def test_emt_has_no_holes_in_the_crystal():
    numbers, frames = compute("pairs", [bulk("NiAl", "cesiumchloride", a=2.9)], pairs={"points": 20})
    assert set(numbers["pairs"]) == {"Al-Al", "Al-Ni", "Ni-Ni"}
    assert numbers["pairs"]["Al-Ni"]["crystal"]["wall_eV"] > 5
    assert len(frames) == 120


MD = {"cell_length": 7.0, "equilibration": 100, "steps": 150, "interval": 10, "temperature_K": 200.0, "bins": 60}


def test_runs():
    numbers, frames = compute("md", [bulk("Cu")], md=MD)
    ours = numbers["md"]
    assert ours["atoms"] == 32
    assert abs(ours["drift_meV_per_atom_per_ps"]) < 0.1
    assert ours["energy_fluctuation_meV_per_atom"] < 0.05
    # the error of velocity Verlet goes with the square of the time step
    coarse, _ = compute("md", [bulk("Cu")], md={**MD, "timestep_ps": 0.008, "npt": False})
    assert coarse["md"]["energy_fluctuation_meV_per_atom"] > 4 * ours["energy_fluctuation_meV_per_atom"]
    assert "npt" not in coarse["md"]
    assert 0 < ours["npt"]["linear_expansion_percent"] < 1.5
    assert 0.001 < ours["mean_square_displacement_A2"] < 0.1
    g, r = np.array(ours["curves"]["rdf"]["g"]), np.array(ours["curves"]["rdf"]["distance_A"])
    assert r[np.argmax(g)] == pytest.approx(2.56, abs=0.1)
    density = 32 / frames[0].get_volume()
    shell = r < 3.1
    assert (4 * np.pi * density * g * r**2 * (r[1] - r[0]))[shell].sum() == pytest.approx(12, rel=0.05)


def test_a_run_is_its_seed():
    short = {**MD, "equilibration": 10, "steps": 40, "npt": False}
    (one, _), (two, _), (three, _) = (compute("md", [bulk("Al")], md={**short, "seed": seed}) for seed in (1, 1, 2))
    assert one["md"]["curves"] == two["md"]["curves"]
    assert one["md"]["curves"] != three["md"]["curves"]


def test_too_few_frames_are_a_reason():
    numbers, _ = compute("md,elastic", [bulk("Cu")], md={**MD, "equilibration": 0, "steps": 20, "npt": False})
    assert "too few" in numbers["md"]["error"]
    assert numbers["elastic"]["born_stable"]


def test_all_by_the_potential(copper_files, tmp_path):
    """The fitted copper, all properties in one command, with grades; the reference's runs are its own."""
    (tmp_path / "s.yaml").write_text(
        "properties: [vacancy, surface, pairs, md]\ndefects: {cell_length: 7.0}\nsurface: {planes: [[1, 0, 0]]}\n"
        "pairs: {points: 20}\n"
        "md: {cell_length: 7.0, equilibration: 20, steps: 50, interval: 5, npt: false, temperature_K: 100}\n"
    )
    words = ["properties", copper_files / "pot.yaml", copper_files / "cu.extxyz"]
    words += ["--settings-file", tmp_path / "s.yaml"]
    reference = tmp_path / "ref.json"
    for extra in (
        ["--calculator", "emt", "-o", reference],
        ["--asi", copper_files / "set.asi", "-o", tmp_path / "pot.json", "--reference", reference,
         "--report", tmp_path / "r.json"],
        ["--calculator", "emt", "--relax-with", "potential", "--properties", "md,vacancy",
         "-o", tmp_path / "single.json"],
    ):  # fmt: skip
        result = CliRunner().invoke(main, [str(w) for w in [*words, *extra]])
        assert result.exit_code == 0, result.output
    ours, wanted = (json.loads((tmp_path / name).read_text()) for name in ("pot.json", "ref.json"))
    assert ours["surface"]["100"]["gamma_max"] > ours["md"]["gamma_max"] > 0
    assert ours["vacancy"]["Cu"]["formation_energy_eV"] == pytest.approx(
        wanted["vacancy"]["Cu"]["formation_energy_eV"], abs=0.5
    )
    assert ours["pairs"]["Cu-Cu"]["crystal"]["not_trusted_below_A"] > 1.0
    rows = {r["quantity"]: r for r in json.loads((tmp_path / "r.json").read_text())["comparison"]}
    assert 0 < rows["rdf_mean_difference"]["difference"] < 1
    single = json.loads((tmp_path / "single.json").read_text())
    assert "single points" in single["md"]["error"]
    assert single["vacancy"]["Cu"]["max_force_eV_per_A"] > 0.005
