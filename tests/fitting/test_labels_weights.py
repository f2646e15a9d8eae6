"""Labels, reference energies and weights: what is accepted, what is refused, and the numbers."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.ace import AceError
from aiida_aceal.fitting import FitSettings
from aiida_aceal.fitting.labels import collect_labels, reference_energies
from aiida_aceal.fitting.settings import WeightSettings
from aiida_aceal.fitting.weights import above_reference, select_and_weigh


def _labelled(symbols, energy, forces=0.1, stress=None, cell=4.0, pbc=True):
    n = len(Atoms(symbols))
    atoms = Atoms(symbols, positions=np.arange(3 * n).reshape(n, 3) * 0.7, cell=[cell] * 3, pbc=pbc)
    results = {"energy": energy}
    if forces is not None:
        results["forces"] = np.full((n, 3), forces)
    if stress is not None:
        results["stress"] = stress
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _set(*structures, elements=("Al", "Ni"), **kwargs):
    return collect_labels(structures, elements, **kwargs)


def test_labels_are_collected():
    stress = np.arange(6.0)
    data = _set(_labelled("Al2Ni", -3.0, stress=stress), virial=True)
    assert data.counts.tolist() == [[2, 1]]
    assert data.forces[0].shape == (3, 3)
    # Voigt xx yy zz yz xz xy -> xx yy zz xy xz yz, times the volume of 64 A^3
    np.testing.assert_allclose(data.virials[0], np.array([0, 1, 2, 5, 4, 3]) * 64.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: setattr(a, "calc", None), "training set, structure 1: no energy label"),
        (lambda a: a.calc.results.pop("forces"), "structure 1: no forces.*missing_forces"),
        (lambda a: a.calc.results.update(energy=np.nan), "structure 1: the energy is nan"),
        (lambda a: a.calc.results["forces"].__setitem__((1, 2), np.inf), "structure 1: the force on atom 1"),
        (lambda a: a.calc.results.update(forces=np.zeros((1, 3))), "forces have shape"),
        (lambda a: a.set_chemical_symbols(["Al", "Cu"]), "structure 1: element Cu is not in the potential"),
        (lambda a: a.positions.__setitem__((0, 0), np.nan), "structure 1: positions or cell"),
    ],
)
def test_bad_labels_are_named(change, message):
    bad = _labelled("Al2", -1.0)
    change(bad)
    with pytest.raises(AceError, match=message):
        _set(_labelled("Al2", -1.0), bad)


def test_empty_set_and_names():
    with pytest.raises(AceError, match="training set is empty"):
        _set()
    bad = _labelled("Al2", np.inf)
    with pytest.raises(AceError, match=r"old\.xyz, structure 7"):
        _set(bad, names=["old.xyz, structure 7"])


def test_missing_forces_can_be_skipped():
    data = _set(_labelled("Al2", -1.0), _labelled("Al2", -1.0, forces=None), missing_forces="skip")
    assert data.forces[1] is None
    _, w = select_and_weigh(data, WeightSettings(), {})
    assert w.forces[1] is None
    assert w.energy.sum() == pytest.approx(0.7)
    assert w.forces[0].sum() == pytest.approx(0.3)


def test_reference_energies():
    free = _labelled("Al", -0.3, cell=12.0)
    data = _set(free, _labelled("Ni", -0.5, cell=12.0), _labelled("Al2Ni", -3.0), _labelled("AlNi3", -5.0))
    assert reference_energies(data, "isolated") == {"Al": -0.3, "Ni": -0.5}
    assert reference_energies(data, "none") == {}
    assert reference_energies(data, {"Al": 1.0, "Ni": 2}) == {"Al": 1.0, "Ni": 2.0}
    with pytest.raises(AceError, match="no value for Ni"):
        reference_energies(data, {"Al": 1.0})
    with pytest.raises(AceError, match="no isolated atom of Al, Ni"):
        reference_energies(_set(_labelled("Al2Ni", -3.0)), "isolated")
    exact = _set(_labelled("Al2Ni", 2 * -1.5 - 4.0), _labelled("AlNi3", -1.5 - 12.0))
    assert reference_energies(exact, "fit") == pytest.approx({"Al": -1.5, "Ni": -4.0})
    # one composition only: the sum is right, and no number is wild
    one = reference_energies(_set(_labelled("AlNi", -6.0), _labelled("Al2Ni2", -12.0)), "fit")
    assert one["Al"] + one["Ni"] == pytest.approx(-6.0)
    assert one["Al"] == pytest.approx(-3.0)


def test_uniform_weights_sum_to_kappa():
    data = _set(_labelled("Al2", -1.0), _labelled("Al3", -2.0), _labelled("Ni4", -2.0, stress=np.ones(6)), virial=True)
    _, w = select_and_weigh(data, WeightSettings(kappa=0.2, virial=0.1), {})
    np.testing.assert_allclose(w.energy, 0.8 / 3)
    np.testing.assert_allclose(np.concatenate(w.forces), 0.2 / 9)
    np.testing.assert_allclose(w.virial, [0, 0, 0.1])


def test_auto_kappa_balances_the_variances():
    data = _set(_labelled("Al2", -1.0, forces=0.5), _labelled("Al2", -3.0, forces=-0.5))
    _, w = select_and_weigh(data, WeightSettings(kappa="auto"), {})
    var_e, var_f = 0.25, 0.75
    assert w.kappa == pytest.approx(var_e / (var_e + var_f))


def test_energy_based_weights():
    energies = np.array([-4.0, -3.5, -1.0, 9.0])  # per atom: last one lies above DEup
    data = _set(*[_labelled("Al2", 2 * e, forces=0.1) for e in energies])
    settings = WeightSettings(type="energy_based", wlow=None, kappa=0.4)
    kept, w = select_and_weigh(data, settings, {})
    assert kept.kept.tolist() == [0, 1, 2]
    assert w.dropped == 1
    raw = 1.0 / (energies[:3] + 4.0 + 1.0) ** 2
    np.testing.assert_allclose(w.energy, 0.6 * raw / raw.sum())
    per_structure = np.array([f.sum() for f in w.forces])
    np.testing.assert_allclose(per_structure, 0.4 * raw / raw.sum())
    _, shared = select_and_weigh(data, WeightSettings(type="energy_based", wlow=0.75, kappa=0.4), {})
    assert shared.energy[:2].sum() == pytest.approx(0.6 * 0.75)
    assert sum(f.sum() for f in shared.forces[2:]) == pytest.approx(0.4 * 0.25)


def test_force_limit_and_nothing_left():
    data = _set(_labelled("Al2", -1.0, forces=1.0), _labelled("Al2", -1.0, forces=80.0))
    kept, _ = select_and_weigh(data, WeightSettings(type="energy_based"), {})
    assert kept.kept.tolist() == [0]
    with pytest.raises(AceError, match=r"DFup = 0\.1"):
        select_and_weigh(data, WeightSettings(type="energy_based", DFup=0.1), {})


def test_convex_hull_reference():
    """Al -1, Ni -2, AlNi -3 (hull), Al3Ni -1.2 (hull line between Al and AlNi: -2)."""
    data = _set(_labelled("Al", -1.0), _labelled("Ni", -2.0), _labelled("AlNi", -6.0), _labelled("Al3Ni", -4.8))
    np.testing.assert_allclose(above_reference(data, "convex_hull", {}), [0, 0, 0, 0.8], atol=1e-9)
    np.testing.assert_allclose(above_reference(data, "cohesive", {}), 0.0, atol=1e-12)
    np.testing.assert_allclose(above_reference(data, "lowest", {}), [2, 1, 0, 1.8])
    np.testing.assert_allclose(above_reference(data, "lowest", {"Al": -1.0, "Ni": -2.0}), [1.5, 1.5, 0, 1.55])


def test_weights_from_data():
    a, b = _labelled("Al2", -1.0), _labelled("Al2", -2.0)
    with pytest.raises(AceError, match=r"structure 0: weights\.type is data"):
        select_and_weigh(_set(a, b), WeightSettings(type="data"), {})
    a.info["energy_weight"], b.info["energy_weight"] = 1.0, 3.0
    b.arrays["forces_weight"] = np.array([0.0, 2.0])
    _, w = select_and_weigh(_set(a, b), WeightSettings(type="data"), {})
    np.testing.assert_allclose(w.energy, [0.7 / 4, 0.7 * 3 / 4])
    np.testing.assert_allclose(w.forces[1], [0.0, 0.3 / 2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"wieghts": {}}, "unknown key 'wieghts'; did you mean 'weights'"),
        ({"weights": {"kapa": 1}}, r"settings: unknown key 'weights.kapa'; did you mean 'kappa'"),
        ({"weights": {"kappa": 2}}, "a number from 0 to 1 or 'auto', found 2"),
        ({"weights": {"kappa": "much"}}, "must be a number from 0 to 1 or 'auto', found 'much'"),
        ({"weights": 3}, "must be a mapping"),
        ({"regularization": {"method": "lasso"}}, "'ridge'.*found 'lasso'"),
        ({"reference_energies": {"Cu": "x"}}, "settings.reference_energies.Cu"),
        ({"memory": "2 parsec"}, "2GiB"),
        ({"seed": 1.5}, "must be a non-negative integer, found 1.5"),
        ([1], "must be a mapping"),
    ],
)
def test_bad_settings_are_explained(settings, message):
    with pytest.raises(AceError, match=message):
        FitSettings.read(settings)


def test_settings_are_read():
    s = FitSettings.read({"weights": {"kappa": "auto"}, "regularization": {"alpha": "1e-8"}, "memory": "1.5 MB"})
    assert s.weights.kappa == "auto"
    assert s.regularization.alpha == 1e-8
    assert s.memory_bytes == 1_500_000
    assert FitSettings.read(s) is s
    assert FitSettings.read(None) == FitSettings()
