"""``aiida-aceal init``: what it writes passes the dry run, and its numbers fit the structure."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.io import write
from click.testing import CliRunner

from aiida_aceal.cli.init import TEMPLATES
from aiida_aceal.cli.root import main
from aiida_aceal.common.yaml import load_yaml
from aiida_aceal.inputs.campaign import make_builder, prepare
from aiida_aceal.inputs.propose import kind_of, propose
from aiida_aceal.inputs.schema import read_campaign


def water_box(n_side: int = 2, edge: float = 3.2) -> Atoms:
    """Water molecules on a grid, turned at random, about 0.9 g/cm3."""
    rng = np.random.default_rng(1)
    box = Atoms(pbc=True, cell=[n_side * edge] * 3)
    for corner in np.ndindex(n_side, n_side, n_side):
        one = molecule("H2O")
        one.euler_rotate(*rng.uniform(0, 360, 3), center="com")
        one.positions += (np.array(corner) + 0.5) * edge - one.get_center_of_mass()
        box += one
    return box


def alloy() -> Atoms:
    atoms = bulk("Ni", cubic=True) * (2, 1, 1)
    atoms.symbols = "CuNi3Cu3Ni"
    return atoms


SYSTEMS = {
    "copper": (lambda: bulk("Cu", cubic=True), "crystal"),
    "primitive": (lambda: bulk("Cu"), "crystal"),
    "alloy": (alloy, "alloy"),
    "water": (water_box, "liquid"),
    "slab": (lambda: fcc111("Cu", (1, 1, 4), vacuum=8.0, periodic=True), "slab"),
    "ethanol": (lambda: molecule("CH3CH2OH"), "molecule"),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_own_structure(cli, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, kind = SYSTEMS[name]
    atoms = make()
    assert kind_of(atoms) == kind
    (tmp_path / "inputs").mkdir()
    write("mine.extxyz", atoms, format="extxyz")
    method = "emt" if set(atoms.get_chemical_symbols()) <= {"Cu", "Ni"} else "lj"
    words = ["init", "-s", "mine.extxyz", "-m", method, "-t", 200, 900, "-b", 120, "-o", "inputs/input.yaml"]
    assert kind in cli(*words)
    assert "exists" in cli(*words, code=1)
    text = cli("run", "inputs/input.yaml", "--dry-run")
    assert "explore     md: aceal.explore.md" in text
    data = load_yaml(tmp_path / "inputs" / "input.yaml")
    md = data["explore"]["md"]
    settings = md["settings"]
    assert settings["timestep_ps"] == (0.0005 if "H" in atoms.get_chemical_symbols() else 0.002)
    assert settings["ensemble"] == ("npt" if kind in ("crystal", "alloy") else "nvt")
    assert (settings["temperature_K"], settings["temperature_end_K"]) == (200, 900)
    campaign, folder = read_campaign(tmp_path / "inputs" / "input.yaml")
    prepared = prepare(campaign, folder)
    cell = prepared.structures["start_md"][2][0]
    if kind == "slab":
        assert cell.cell[2, 2] == pytest.approx(atoms.cell[2, 2])
    elif kind in ("crystal", "alloy"):
        assert 60 <= len(cell) <= 250
        heights = 1 / np.linalg.norm(cell.cell.reciprocal(), axis=1)
        assert heights.min() > 9.0
    # the repulsion stays clear of the shortest bond
    shortest = min(frame.get_all_distances(mic=True)[np.triu_indices(len(frame), 1)].min() for frame in [cell])
    assert 0.6 < data["basis"]["r_in"] / shortest < 0.8
    labels = len(prepared.structures["initial"][2]) + data["selection"]["count"] * data["loop"]["max_generations"]
    assert 100 <= labels <= 140


def test_budget_counts_all_labels():
    proposal = propose([bulk("Cu", cubic=True)], budget=200)
    held = proposal.n_validation + proposal.n_test
    assert proposal.n_initial + held + proposal.n_select * (proposal.n_generations - 1) < 200
    assert propose([bulk("Cu", cubic=True)], budget=60).protocol == "fast"


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates(name, cli, tmp_path, monkeypatch, aceal_worker_code, aceal_lmp_code):
    """A template is a campaign; the codes of clusters are looked up only when it runs."""
    monkeypatch.chdir(tmp_path)
    text = cli("init", "--template", name)
    campaign, folder = read_campaign("input.yaml")
    prepared = prepare(campaign, folder)
    assert prepared.potential.elements
    if campaign.codes.worker is None:
        codes = {"aceal-worker": aceal_worker_code, "aceal-lmp": aceal_lmp_code}
        make_builder(prepared, lambda label, default, where: codes[label or default], store=False)
    else:
        assert f"Needed first: codes {campaign.label.code}" in text
        assert "no code 'aceal-worker@cluster' in this profile" in cli("run", "input.yaml", "--dry-run", code=2)


def test_from_data(cli, cu_atoms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("train.extxyz", cu_atoms(60, repeat=(2, 1, 1)), format="extxyz")
    cli("init", "--from-data", "train.extxyz")
    text = cli("run", "input.yaml", "--dry-run")
    assert "label       aceal.label.manual" in text
    assert "48 labelled structures" in text
    assert "test        6 structures" in text
    cli("init", "-d", "train.extxyz", "-m", "emt", "-t", 300, 600, "--force")
    assert "label       aceal.label.ase emt" in cli("run", "input.yaml", "--dry-run")
    write("bare.extxyz", cu_atoms(3, labelled=False), format="extxyz")
    assert "bare.extxyz" in cli("init", "-d", "bare.extxyz", "-o", "other.yaml", code=2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--structure FILE, --from-data FILE or --template NAME"),
        (["-s", "cu.xyz"], "give --method"),
        (["-s", "cu.xyz", "-m", "emmt"], "no method 'emmt'; did you mean 'emt'"),
        (["-s", "none.xyz", "-m", "emt"], "none.xyz: no such file"),
        (["-s", "salt.xyz", "-m", "emt"], "calculator 'emt' cannot label Cl, Na"),
        (["-s", "cu.xyz", "-m", "emt", "-t", "900", "300"], "from 900 to 300 K is no range"),
        (["-s", "cu.xyz", "-m", "emt", "-b", "5"], "5 labels are too few"),
    ],
)
def test_what_cannot_be_is_one_line(cli, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("cu.xyz", bulk("Cu", cubic=True), format="extxyz")
    write("salt.xyz", bulk("NaCl", "rocksalt", a=5.64), format="extxyz")
    text = cli("init", *words, code=2)
    assert message in text, text
    assert not (tmp_path / "input.yaml").exists()


def test_it_asks_on_a_terminal(tmp_path, monkeypatch):
    """What is missing is asked for, with defaults."""
    monkeypatch.chdir(tmp_path)
    write("cu.xyz", bulk("Cu", cubic=True), format="extxyz")
    monkeypatch.setattr("aiida_aceal.cli.init.is_terminal", lambda: True)
    result = CliRunner().invoke(main, ["init"], input="cu.xyz\nemt\n\n800\n100\n")
    assert result.exit_code == 0, result.output
    assert "File of your structure" in result.output
    campaign, _ = read_campaign("input.yaml")
    assert campaign.explore["md"].settings["temperature_end_K"] == 800
    assert campaign.label.settings == {"calculator": "emt"}


@pytest.mark.release
@pytest.mark.timeout(600)
def test_the_alloy_runs(cli, aiida_profile, tmp_path, monkeypatch):
    """A file of `init` as it is, for two generations."""
    monkeypatch.chdir(tmp_path)
    cli("init", "--template", "alloy", "-b", 60)
    text = (tmp_path / "input.yaml").read_text()
    generations = next(line for line in text.splitlines() if line.startswith("loop:"))
    (tmp_path / "input.yaml").write_text(text.replace(generations, "loop: {max_generations: 1}"))
    result = CliRunner().invoke(main, ["run", "input.yaml", "-o", "out", "--profile", aiida_profile.name])
    assert result.exit_code in (0, 1), result.output
    assert "exit status 410" in result.output or "Converged" in result.output, result.output
    assert (tmp_path / "out" / "potential.yace").is_file()
