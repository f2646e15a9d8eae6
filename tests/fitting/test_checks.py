"""Bad data: named in report and log, and a fit with them stays usable."""

import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.ace import build_potential
from aiida_aceal.fitting import FitSettings, fit, fit_linear, format_report
from aiida_aceal.fitting.checks import find_outliers, screen
from aiida_aceal.fitting.labels import collect_labels


def emt(atoms, **wrong):
    """A copy with energy, forces and stress of EMT, some of them wrong."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if atoms.cell.rank == 3:
        results["stress"] = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms)
    atoms.calc.results.update(results | wrong)
    return atoms


def crystals(count, seed=0, **wrong):
    out = []
    for k in range(count):
        atoms = bulk("Cu", a=3.5 + 0.02 * (k % 10), cubic=True)
        atoms.rattle(0.1, seed=seed + k)
        out.append(emt(atoms, **wrong))
    return out


@pytest.fixture(scope="module")
def basis():
    return build_potential(
        {"elements": ["Cu"], "cutoff": 5.0, "nradmax_by_orders": [6, 3], "lmax_by_orders": [0, 2]}, seed=0
    )


def dimer(distance):
    return emt(Atoms("Cu2", [[0, 0, 0], [distance, 0, 0]]), energy=500.0, forces=np.array([[-1e5, 0, 0], [1e5, 0, 0]]))


def warned(result, *words):
    """The one line of the report with all the words; it stands in the text too."""
    lines = [line for line in result.report["warnings"] if all(w in line for w in words)]
    assert len(lines) == 1, result.report["warnings"]
    assert f"warning: {lines[0]}" in format_report(result.report)
    return lines[0]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lambda: crystals(1, 99, energy=1e6)[0], "eV/atom from what its composition has in the other structures"),
        (lambda: crystals(1, 99, energy=-70.0)[0], "eV/atom from what its composition"),
        (lambda: crystals(1, 99, forces=np.full((4, 3), 5e3))[0], "its largest force is 8660 eV/A"),
        (lambda: dimer(0.05), "atoms 0 and 1 (Cu-Cu) are 0.05 A apart"),
    ],
)
@pytest.mark.parametrize("method", ["linear", "nonlinear"])
def test_a_fit_with_an_outlier_stays_usable(basis, bad, reason, method, caplog):
    data, held = crystals(20), crystals(5, 50)
    settings = {"method": method, "nonlinear": {"evaluations": 10}}
    clean = fit(basis, data, settings, held)
    with caplog.at_level(logging.WARNING):
        result = fit(basis, [*data[:7], bad(), *data[7:]], settings, held)
    line = warned(result, "training set, structure 7 (Cu", reason, "left out; relabel or remove it")
    assert line in caplog.text
    for kind in ("energy", "forces"):
        errors = [r.metrics["validation"][kind]["rmse"] for r in (result, clean)]
        assert errors[0] < (1.01 if method == "linear" else 2.0) * errors[1]


def test_outliers_are_kept_where_that_is_wished(basis):
    data = [*crystals(20), *crystals(1, 99, energy=1e6)]
    result = fit_linear(basis, data, {"outliers": "keep"})
    warned(result, "structure 20 (Cu4)", "kept; relabel or remove it, or set outliers: exclude")
    assert result.metrics["train"]["n_structures"] == 21
    assert result.metrics["train"]["energy"]["max"] > 1e3


def test_outliers_of_the_validation_set_are_named(basis):
    result = fit_linear(basis, crystals(20), None, [*crystals(3, 50), *crystals(1, 99, energy=1e6)])
    warned(result, "validation set, structure 3 (Cu4)", "kept; relabel or remove it")
    assert result.metrics["validation"]["n_structures"] == 4


def test_many_of_a_kind_are_no_outliers():
    data = collect_labels([*crystals(10), *crystals(4, 60, energy=900.0)], ["Cu"])
    same, lines = screen(data, "exclude")
    assert len(same) == 14
    assert len(lines) == 4
    assert "kept, since 4 of 14 structures are like that" in lines[0]


def test_real_extremes_are_no_outliers():
    """Free atoms and crystals pressed together belong to good sets; two structures cannot judge each other."""
    free = emt(Atoms("Cu"))
    free.calc.results["energy"] = 9.0
    pressed = emt(bulk("Cu", a=2.4, cubic=True), energy=4 * 60.0)
    assert find_outliers(collect_labels([*crystals(20), free, pressed], ["Cu"])) == []
    assert find_outliers(collect_labels([*crystals(1), *crystals(1, 5, energy=1e6)], ["Cu"])) == []
    # energies that nothing explains
    lifted = emt(bulk("Cu", a=3.6, cubic=True), energy=4 * 60.0)
    assert [o.index for o in find_outliers(collect_labels([*crystals(20), lifted], ["Cu"]))] == [20]


def test_outliers_of_a_mixture_and_by_a_prediction():
    """Total energies of the elements differ by keV: judged by composition. A prediction may judge instead."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(30):
        atoms = bulk("Ni", cubic=True)
        atoms.symbols = rng.choice(["Al", "Ni"], 4)
        count = int(np.sum(atoms.symbols == "Al"))
        frames.append(emt(atoms, energy=-66.0 * count - 4000.0 * (4 - count) + 0.1 * rng.normal()))
    frames[11].calc.results["energy"] -= 100.0
    data = collect_labels(frames, ["Al", "Ni"])
    assert [o.index for o in find_outliers(data)] == [11]
    predicted = data.energies.copy()
    predicted[4] += 4 * 0.3
    assert find_outliers(data, predicted=predicted) == []
    (found,) = find_outliers(data, predicted=predicted, max_deviation=0.25)
    assert (found.index, found.reason) == (4, "its energy is -0.3 eV/atom from the prediction")


def test_isolated_atoms_only(basis):
    far = emt(Atoms("Cu2", [[0, 0, 0], [9.0, 0, 0]]))
    result = fit_linear(basis, [emt(Atoms("Cu")), far], None)
    warned(result, "no training structure has two atoms within the cutoff of 5 A", "add structures with neighbours")


def test_element_without_data():
    two = build_potential(
        {"elements": ["Cu", "Au"], "cutoff": 5.0, "nradmax_by_orders": [3, 2], "lmax_by_orders": [0, 1]}, seed=0
    )
    warned(fit_linear(two, crystals(5)), "no training structure has Au", "take the element out of the basis")


def test_stresses_that_are_not_used_or_wrong(basis):
    data = crystals(6)
    warned(
        fit_linear(basis, data), "6 of 6 structures (first: training set, structure 0) have a stress that is not used"
    )
    used = {"weights": {"virial": 0.1}}
    assert not any("stress" in line for line in fit_linear(basis, data, used).report["warnings"])
    for atoms in data:
        del atoms.calc.results["stress"]
    data[4].info["REF_virial"] = np.eye(3)
    warned(fit_linear(basis, data), "1 of 6 structures (first: training set, structure 4) have a virial in info")
    warned(fit_linear(basis, data, used), "weights.virial is set, but no training structure")
    data = crystals(6)
    data[2].calc.results["stress"] = np.array([[1.0, 0.2, 0], [0, 1.0, 0], [0, 0, 1.0]]) * 0.01
    data[3].calc.results["stress"] = np.eye(3) * 0.01
    warned(fit_linear(basis, data, used), "1 of 6 structures (first: training set, structure 2)", "not symmetric")


def test_free_atoms_that_no_data_constrain(basis):
    data = crystals(6)
    result = fit_linear(basis, data)
    energy = result.potential.reference_energies["Cu"]
    line = warned(result, "free atoms are not constrained by the data", f"Cu {energy:.4g} eV", "cohesive energies")
    assert "surfaces" in line
    assert "add an isolated atom of each element and set reference_energies: isolated" in line
    with_atom = [*data, emt(Atoms("Cu"))]
    assert "add an isolated" not in warned(
        fit_linear(basis, with_atom), "free atoms", "set reference_energies: isolated"
    )
    for mode in ("isolated", "none", "joint", {"Cu": 0.0}):
        settings = FitSettings.read({"reference_energies": mode})
        assert not any("free atoms" in line for line in fit_linear(basis, with_atom, settings).report["warnings"])
