"""What is said of a potential: errors beside the spread of the labels, outliers by name, what to do next."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.ace import build_potential
from aiida_aceal.common.configurations import write_configurations
from aiida_aceal.fitting import fit
from aiida_aceal.fitting.checks import stand_out
from aiida_aceal.fitting.metrics import label_spread
from aiida_aceal.jobs.evaluate import JOB, EvaluateSettings, run
from aiida_aceal.jobs.task import Task
from aiida_aceal.report.judgement import colour, judge

FILES = {"potential": "pot.yaml", "evaluated": "out.extxyz"}


def report(energy, forces, spread=(0.1, 1.0), **more):
    """Numbers in eV/atom and eV/A, as `aceal-worker evaluate` gives them."""
    return {
        "energy": {"rmse": energy}, "forces": {"rmse": forces},
        "spread": {"energy": spread[0], "forces": spread[1]}, **more,
    }  # fmt: skip


def lines(found):
    return dict(line.split(": ", 1) for line in found.lines)


def test_small_errors_are_called_small():
    found = judge(report(0.002, 0.05), report(0.003, 0.06), {"train": report(0.002, 0.04)}, 4.0)
    said = lines(found)
    assert found.level == "small"
    assert said["Errors"] == (
        "small beside the labels of the test set: forces 60 meV/A, 6 % of their spread (1000); "
        "energy 3 meV/atom, 3 % of their spread (100)"
    )
    assert said["On the structures fitted"] == (
        "forces 40 meV/A, energy 2 meV/atom; the errors of the test set are 1.5 and 1.5 times these"
    )
    assert "validate" in said["Next"]
    assert colour(found.lines[0]) == "green"


def test_errors_as_large_as_the_labels_say_that_nothing_was_learnt():
    found = judge(report(0.09, 0.98), None, {"train": report(0.09, 0.95)}, 1.0)
    said = lines(found)
    assert found.level == "large"
    assert "of the validation set" in said["Errors"]
    assert said["Errors"].count("no better than the mean of the labels") == 2
    assert "has not lowered the error" in said["Next"]
    assert "larger basis" in said["Next"]
    assert colour(found.lines[0]) == "red"


def test_far_smaller_errors_on_what_was_fitted_ask_for_structures():
    said = lines(judge(report(0.02, 0.25), None, {"train": report(0.002, 0.02)}, 3.0))
    assert said["Errors"].startswith("moderate")
    assert "more structures like those of the validation set" in said["Next"]
    assert "larger basis" not in said["Next"]


def test_wrong_energies_with_right_forces_are_not_called_small():
    found = judge(report(0.5, 0.05, spread=(0.6, 1.0)))
    assert found.level == "large"
    assert "the forces are learnt, the energies are not" in lines(found)["Next"]


def test_tiny_errors_are_small_where_the_labels_hardly_differ():
    assert judge(report(0.001, 0.004, spread=(0.001, 0.0))).level == "small"


@pytest.mark.parametrize("old", [None, {}, {"forces": {"rmse": 0.1}}, {"energy": {}, "forces": {}, "spread": {}}])
def test_reports_without_spread_are_not_judged(old):
    assert judge(old) is None


def emt(atoms, shift=0.0):
    atoms = atoms.copy()
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy() + shift, "forces": atoms.get_forces()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def crystals(count, seed, wrong=(), shift=200.0):
    found = []
    for k in range(count):
        atoms = bulk("Cu", a=3.5 + 0.02 * (k % 10), cubic=True) * (2, 1, 1)
        atoms.rattle(0.1, seed=seed + k)
        atoms.info["source"] = f"mine.extxyz#{k}"
        found.append(emt(atoms, shift if k in wrong else 0.0))
    return found


def basis():
    return build_potential(
        {"elements": ["Cu"], "cutoff": 5.0, "nradmax_by_orders": [6, 3], "lmax_by_orders": [0, 2]}, seed=0
    )


@pytest.mark.parametrize("shift", [2.0, 200.0])
def test_one_wrong_energy_is_named(shift, tmp_path):
    """0.25 eV/atom can only be seen from a fit, 25 eV/atom from the labels alone."""
    wrong = fit(basis(), crystals(40, 0, wrong=[7], shift=shift), {"outliers": "keep"}, crystals(10, 100))
    right = fit(basis(), crystals(40, 0), {}, crystals(10, 100))

    def said(result, validation):
        result.potential.write(tmp_path / "pot.yaml")
        write_configurations(tmp_path / "held.extxyz", validation)
        files = {name: tmp_path / file for name, file in FILES.items()}
        evaluated = run(Task(JOB, EvaluateSettings(), {**files, "configurations": [tmp_path / "held.extxyz"]}))
        return lines(judge(evaluated, None, result.report))

    assert "structure 7" in said(wrong, crystals(10, 100))["Outliers"]
    found = said(right, crystals(10, 100, wrong=[3], shift=shift))
    assert found["Outliers"].startswith("mine.extxyz#3 (validation set): energy error")
    assert found["Next"].startswith("check the labels of the outliers")
    assert "larger basis" not in found["Next"]
    assert not found["Errors"].startswith("small")
    clean = said(right, crystals(10, 100))
    assert "Outliers" not in clean
    assert clean["Errors"].startswith("small")


def test_what_stands_out():
    rng = np.random.default_rng(0)
    energy, forces = np.abs(rng.normal(0, 0.01, 50)), np.abs(rng.normal(0, 0.05, 50))
    names = [f"s{k}" for k in range(50)]
    assert stand_out(energy, forces, names) == []
    energy[[4, 9]], forces[[9, 20]] = [1.0, 1.5], [0.3, 9.0]
    found = stand_out(energy, forces, names)
    assert [(entry["name"], entry["what"]) for entry in found] == [
        ("s9", "energy"),
        ("s20", "forces"),
        ("s4", "energy"),
    ]
    assert found[0]["error"] == 1.5
    assert 0.008 < found[0]["usual"] < 0.012
    # errors that do not matter, few structures, a second kind that is no exception
    assert stand_out(np.array([1e-9] * 20 + [1e-4]), np.zeros(21), ["x"] * 21) == []
    assert stand_out(np.array([0.01] * 6 + [9.0]), np.zeros(7), ["x"] * 7) == []
    assert stand_out(np.array([0.01] * 20 + [9.0] * 10), np.zeros(30), ["x"] * 30) == []


def test_spread_of_labels_is_without_the_composition():
    counts = np.array([[4, 0], [2, 2], [0, 4], [3, 1]])
    noise = np.array([0.04, -0.04, 0.04, -0.04])
    found = label_spread(counts, counts @ [-3.0, -700.0] + noise, [None, np.array([[1.0, -1.0, 0.0]]), None, None])
    assert found["energy"] <= 0.01
    assert found["forces"] == pytest.approx(np.sqrt(2 / 3))
    assert label_spread(counts[:1], np.array([5.0]), []) == {"energy": pytest.approx(0.0, abs=1e-12)}
