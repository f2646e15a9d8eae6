"""Numbers of a reference and a potential from labels of the same structures."""

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from click.testing import CliRunner

from aiida_aceal.common.configurations import configuration_hash, read_configurations, write_configurations
from aiida_aceal.properties import (
    Engine,
    Fixed,
    PropertiesSettings,
    compute_properties,
    eos_structures,
    property_structures,
    reference_lattices,
    worst_row,
)
from aiida_aceal.properties.compare import intervals_that_hold
from aiida_aceal.properties.settings import NumbersSettings
from aiida_aceal.properties.validation import unique, validation_numbers, with_labels
from aiida_aceal.worker.main import main


def run(*words, code=0):
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result.output


def test_lattice_of_the_reference_is_that_of_its_minimum():
    given = [bulk("Cu", a=3.62)]
    settings = PropertiesSettings(eos={"phases": ["hcp"]})
    emt = Engine(EMT)
    lattices, reasons, again = reference_lattices(settings, given, emt.label(eos_structures(settings, given)))
    assert again  # the minimum is at the small end of the volumes
    lattices, reasons, again = reference_lattices(settings, lattices, emt.label(eos_structures(settings, lattices)))
    assert not again
    assert not reasons
    relaxed, _ = compute_properties(PropertiesSettings(properties="eos"), given, emt)
    volume = relaxed["eos"]["fcc"]["volume_A3_per_atom"]
    assert lattices[0].get_volume() == pytest.approx(volume, rel=2e-5)


@pytest.mark.parametrize("a", [3.35, 3.9])
def test_lattice_is_found_from_afar(a):
    settings, emt, atoms = PropertiesSettings(), Engine(EMT), [bulk("Cu", a=a)]
    for _ in range(4):
        frames = emt.label(eos_structures(settings, atoms))
        atoms, reasons, again = reference_lattices(settings, atoms, frames)
        if not again:
            break
        assert reasons or abs(atoms[0].get_volume() / frames[4].get_volume() - 1) > 0.015
    assert not again
    assert atoms[0].cell.lengths()[0] * 2**0.5 == pytest.approx(3.590, abs=0.002)


def test_structures_that_no_engine_moves_are_the_same_for_all(copper_files, tmp_path):
    """Of a potential and of nobody; what the potential relaxes is marked."""
    options = ["--properties", "elastic,vacancy,pairs", "--no-relax-start", "--structures-only"]
    path = tmp_path / "todo.extxyz"
    run("properties", copper_files / "pot.yaml", copper_files / "cu.extxyz", *options, "--structures", path)
    frames = read_configurations(path)
    moved = {f.info["case"] for f in frames if f.info["relaxed"]}
    assert moved == {"defect/Cu"}
    settings = PropertiesSettings(properties="elastic,vacancy,pairs")
    fixed, errors = property_structures(settings, read_configurations(copper_files / "cu.extxyz"), Fixed())
    assert not errors
    known = {configuration_hash(f) for f in fixed}
    assert {configuration_hash(f) in known for f in frames if not f.info["relaxed"]} == {True}


def test_both_sides_from_the_same_structures(copper_files, tmp_path):
    paths = {name: tmp_path / f"{name}.extxyz" for name in ("todo", "reference", "evaluated")}
    options = ["--properties", "elastic,vacancy", "--no-relax-start", "--structures-only"]
    potential, crystal = copper_files / "pot.yaml", copper_files / "cu.extxyz"
    run("properties", potential, crystal, *options, "--structures", paths["todo"])
    bare = unique(read_configurations(paths["todo"]))
    write_configurations(paths["reference"], Engine(EMT).label(bare))
    write_configurations(tmp_path / "bare.extxyz", bare)
    asi = ["--asi", copper_files / "set.asi"]
    run("evaluate", potential, tmp_path / "bare.extxyz", "-o", paths["evaluated"], *asi)
    options = ["--properties", "elastic,vacancy", "-o", tmp_path / "numbers.json"]
    table = run("property-numbers", *paths.values(), *options)
    assert "elastic.independent_GPa.C44" in table
    found = json.loads((tmp_path / "numbers.json").read_text())
    wanted, _ = compute_properties(
        PropertiesSettings(properties="elastic", relax_start=False), read_configurations(crystal), Engine(EMT)
    )
    assert found["reference"]["elastic"]["C_GPa"] == pytest.approx(np.array(wanted["elastic"]["C_GPa"]), abs=1e-6)
    # the structure is relaxed with the potential: what is left of the forces of the reference is reported
    assert found["reference"]["vacancy"]["Cu"]["max_force_eV_per_A"] > 0.005
    assert found["potential"]["vacancy"]["Cu"]["max_force_eV_per_A"] <= 0.005
    rows = {(row["property"], row["quantity"]): row for row in found["rows"]}
    row = rows["vacancy", "Cu.formation_energy_eV"]
    assert abs(row["relative_percent"]) < 30
    assert row["gamma_max"] == found["potential"]["vacancy"]["Cu"]["gamma_max"] > 0
    assert found["reference"]["vacancy"]["Cu"]["gamma_max"] is None
    worst = worst_row(found["rows"])
    ratios = [abs(rows["elastic", f"independent_GPa.{c}"]["relative_percent"]) for c in ("C11", "C12", "C44")]
    assert abs(worst["relative_percent"]) >= max(ratios)


def test_a_missing_label_costs_what_needs_it():
    settings = NumbersSettings(properties="elastic,vacancy,pairs", pairs={"points": 12})
    frames, _ = property_structures(settings, [bulk("Cu", a=3.6)], Fixed())
    emt = Engine(EMT)
    labelled = emt.label(unique(frames))
    close = {configuration_hash(f) for f in frames if f.info["case"] == "Cu-Cu/dimer/0"}
    strained = {configuration_hash(f) for f in frames if f.info["case"] == "e1+"}
    reference = [f for f in labelled if configuration_hash(f) not in close | strained]
    reasons = dict.fromkeys(close | strained, "SCF did not converge")
    found = validation_numbers(settings.replace(unlabelled=reasons), frames, reference, labelled)
    assert found["reference"]["elastic"] == {"error": "structure e1+ has no stress: SCF did not converge"}
    assert found["reference"]["pairs"]["Cu-Cu"]["dimer"]["points_without_label"] == 1
    assert found["potential"]["elastic"]["independent_GPa"]["C11"] > 0
    row = next(row for row in found["rows"] if row["quantity"] == "independent_GPa.C11")
    assert row["error"] == "reference: structure e1+ has no stress: SCF did not converge"
    energies = {f.info["case"]: f.calc.results["energy"] for f in with_labels(frames, labelled)}
    assert energies["perfect"] == pytest.approx(energies["cell"] * 108, rel=1e-6)


def test_spread_of_an_ensemble():
    """Members that are EMT with the energy scaled: every number scales alike."""

    class Scaled(EMT):
        def __init__(self, scale):
            super().__init__()
            self.scale = scale

        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            for name in ("energy", "forces", "stress"):
                if name in self.results:
                    self.results[name] = self.scale * self.results[name]

    settings = NumbersSettings(properties="elastic")
    frames, _ = property_structures(settings.replace(properties="elastic,surface"), [bulk("Cu", a=3.6)], Fixed())
    assert len(unique(frames)) < len(frames)  # the crystal is part of both
    frames = [f for f in frames if f.info["property"] == "elastic"]
    labelled = Engine(EMT).label(unique(frames))
    members = [Engine(lambda s=s: Scaled(s), str(s)) for s in (0.9, 1.0, 1.1)]
    rows = validation_numbers(settings, frames, labelled, labelled, members=members)["rows"]
    row = next(row for row in rows if row["quantity"] == "independent_GPa.C12")
    assert row["mean"] == pytest.approx(row["reference"])
    assert row["standard_deviation"] == pytest.approx(0.1 * row["reference"])
    assert not any("members" in row for row in rows if row["quantity"] == "born_stable")


def test_dynamics_of_the_reference(tmp_path):
    write_configurations(tmp_path / "cu.extxyz", [bulk("Cu", a=3.6)])
    (tmp_path / "settings.yaml").write_text(
        "calculator: emt\nmd: {cell_length: 5.0, steps: 40, equilibration: 10, interval: 5}\n"
    )
    run(
        "reference-md",
        tmp_path / "cu.extxyz",
        "--settings-file",
        tmp_path / "settings.yaml",
        "-o",
        tmp_path / "f.extxyz",
    )
    frames = read_configurations(tmp_path / "f.extxyz")
    assert {f.info["property"] for f in frames} == {"md"}
    assert [f.info["case"] for f in frames[:2]] == ["start", "nve/0"]
    md = {"cell_length": 5.0, "steps": 40, "equilibration": 10, "interval": 5}
    settings = NumbersSettings(properties="md", md=md)
    found = validation_numbers(settings, [], [], [], {"reference": frames, "potential": frames})
    assert found["reference"]["md"]["npt"]["volume_A3_per_atom"] == pytest.approx(11.7, abs=0.4)
    assert found["reference"]["md"]["curves"]["rdf"] == found["potential"]["md"]["curves"]["rdf"]
    assert not any("members" in row for row in found["rows"])

    # members make runs of their own from the same start: EMT as a member comes out like EMT as the reference
    settings = settings.replace(md={**md, "members": True, "npt": False})
    members = [Engine(EMT, "first"), Engine(EMT, "second")]
    given = {"reference": frames, "potential": frames}
    rows = validation_numbers(settings, [], [], [], given, members)["rows"]
    row = next(row for row in rows if row["quantity"] == "mean_square_displacement_A2")
    assert row["members"] == pytest.approx([row["reference"]] * 2, rel=1e-6)


def test_how_often_intervals_hold_the_reference():
    def row(reference, members, quantity="independent_GPa.C44"):
        spread = {"mean": float(np.mean(members)), "standard_deviation": float(np.std(members, ddof=1))}
        return {"property": "elastic", "quantity": quantity, "reference": reference, "members": members, **spread}

    # t of 4 degrees of freedom at 95 %: 2.132, and the mean of five is uncertain too
    narrow = [9.0, 9.5, 10.0, 10.5, 11.0]
    half = 2.132 * np.std(narrow, ddof=1) * np.sqrt(1.2)
    rows = [row(10 + 0.99 * half, narrow), row(10 - 1.01 * half, narrow), row(10.0, narrow, "max_misfit_GPa")]
    rows += [row(None, narrow), {"property": "elastic", "quantity": "independent_GPa.C11", "reference": 3.0}]
    assert intervals_that_hold(rows) == {"numbers": 2, "inside": 1, "level": 0.9}
    assert intervals_that_hold(rows[-2:]) is None
