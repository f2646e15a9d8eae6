"""Calibration of gamma, and indicators side by side."""

import json

import numpy as np
import pytest
from ase.build import bulk

from aiida_aceal.ace import AceError, AceModel
from aiida_aceal.fitting import Calibration, calibrate, compare_uncertainty, fit_ensemble, fit_linear
from aiida_aceal.fitting.compare import IndicatorValues, assess, cross_calibration, structure_grades
from aiida_aceal.fitting.thresholds import outlier_error
from aiida_aceal.report.uncertainty import facts


def _noisy(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    gamma = rng.lognormal(0.0, 1.0, n)
    return gamma, 0.05 * np.maximum(gamma, 1.0) * rng.exponential(size=n)


def test_map_is_monotone_and_right():
    gamma, error = _noisy(40_000)
    c = calibrate(gamma, error)
    assert (np.diff(c.error) >= 0).all()
    assert (np.diff(c.quantile) >= 0).all()
    assert (np.diff(c.gamma) > 0).all()
    assert len(c.gamma) <= 200
    assert c.expected(0.5) == pytest.approx(0.05, rel=0.1)
    assert c.expected(3.0) == pytest.approx(0.15, rel=0.2)
    assert c.upper(0.5) == pytest.approx(0.05 * np.log(10), rel=0.15)
    assert c.expected(1e9) == c.error[-1]
    assert c.count == 40_000


def test_inverse_and_proposal():
    gamma, error = _noisy(40_000)
    c = calibrate(gamma, error)
    assert c.gamma_at(0.15) == pytest.approx(3.0, rel=0.2)
    assert c.gamma_at(1e9) == np.inf
    p = c.propose()
    assert p.base_error == pytest.approx(0.05, rel=0.15)
    assert p.gamma_lo == pytest.approx(2.0, rel=0.25)
    assert p.gamma_hi == pytest.approx(10.0, rel=0.35)
    assert p.lo_reached
    assert p.hi_reached
    given = c.propose(error_lo=0.15, error_hi=0.4)
    assert given.gamma_lo == pytest.approx(3.0, rel=0.2)
    far = c.propose(error_lo=100.0, error_hi=200.0)
    assert (far.gamma_lo, far.gamma_hi, far.lo_reached, far.hi_reached) == (5.0, 25.0, False, False)
    assert json.loads(json.dumps(far.to_dict()))["lo_reached"] is False
    with pytest.raises(AceError, match="must not exceed"):
        c.propose(error_lo=2.0, error_hi=1.0)


def test_storage():
    c = calibrate(*_noisy(300))
    again = Calibration.from_dict(json.loads(json.dumps(c.to_dict())))
    np.testing.assert_array_equal(again.error, c.error)
    assert again.gamma_at(0.1) == c.gamma_at(0.1)


@pytest.mark.parametrize(
    ("gamma", "error", "message"),
    [
        ([1.0], [1.0], "at least two"),
        ([1.0, 2.0], [1.0], "2 indicators but 1"),
        ([1.0, np.nan], [1.0, 1.0], "finite"),
        ([1.0, 2.0], [1.0, -1.0], "not negative"),
    ],
)
def test_bad_pairs(gamma, error, message):
    with pytest.raises(AceError, match=message):
        calibrate(gamma, error)


def test_constant_indicator():
    c = calibrate(np.ones(50), np.linspace(0, 1, 50))
    assert c.expected(3.0) == pytest.approx(0.5)
    assert c.spearman == 0.0
    assert np.isfinite(c.propose().gamma_hi)


def test_assessment_counts():
    errors = np.array([0.1, 0.1, 0.1, 2.0, 2.0])
    values = np.array([0.5, 0.5, 3.0, 0.5, 9.0])
    result = assess(IndicatorValues(values, 1.0, "", 0.0), errors, 1.0, np.array([0, 0, 0, 1, 1], dtype=bool))
    assert result["counts"] == {"true_positives": 1, "false_negatives": 1, "false_positives": 1, "true_negatives": 2}
    assert result["false_negative_rate"] == 0.5
    assert result["false_positive_rate"] == pytest.approx(1 / 3)
    # pairs (novel, known): 9 beats all three; 0.5 ties with two and loses to one
    assert result["novelty"]["auc"] == pytest.approx((3 + 1) / 6)
    calm = assess(IndicatorValues(values, 1.0, "", 0.0), errors, 5.0)
    assert calm["false_negative_rate"] is None
    assert "novelty" not in calm


def test_calibration_tells_good_from_useless():
    gamma, error = _noisy()
    good = cross_calibration(gamma, error)
    useless = cross_calibration(np.random.default_rng(1).permutation(gamma), error)
    assert good["mean_error"] < 0.2
    assert good["skill"] > 0.2 > useless["skill"]
    assert good["predicted"] == sorted(good["predicted"])


def test_outlier_rule():
    assert outlier_error(np.array([1.0, 2.0, 3.0, 4.0, 100.0])) == 7.0


@pytest.fixture(scope="module")
def comparison(small_potential, random_structures, label):
    """A linear fit to wide cells compared on wide and squeezed ones, with a global active set and an ensemble."""
    uncertainty = pytest.importorskip("aiida_aceal.uncertainty")
    true = small_potential(n_density=2, scale=0.1, seed=3)
    basis = small_potential()
    train = label(random_structures(60, cell=5.5), true)
    test = label(random_structures(30, seed=1, cell=5.5), true)
    squeezed = random_structures(15, seed=2, cell=5.5)
    for atoms in squeezed:
        atoms.set_cell(atoms.cell * 0.8, scale_atoms=True)
    novel = label(squeezed, true)
    for atoms in test:
        atoms.info["group"] = "wide"
    for atoms in novel:
        atoms.info["group"] = "squeezed"
    settings = {"reference_energies": "none"}
    fitted = fit_linear(basis, train, settings).potential
    active_set = uncertainty.build_active_set(AceModel(fitted), train)
    ensemble = fit_ensemble(basis, train, settings, {"members": 5})
    report = compare_uncertainty(
        fitted, test + novel, train, {"gamma": active_set}, {"ensemble": ensemble}, known={"wide"}
    )
    return fitted, active_set, ensemble, train, test + novel, report


def test_comparison_of_real_indicators(comparison):
    fitted, active_set, _, train, test, report = comparison
    json.dumps(report, allow_nan=False)
    assert set(report["indicators"]) == {"gamma", "ensemble dE", "ensemble dF"}
    model = AceModel(fitted)
    model.active_set = active_set
    expected = [model.evaluate(a, gamma=True).gamma.max() for a in test]
    np.testing.assert_allclose(report["indicators"]["gamma"]["values"], expected, rtol=1e-9)
    forces = [np.linalg.norm(model.evaluate(a).forces - a.calc.results["forces"], axis=1).max() for a in test]
    np.testing.assert_allclose(report["errors"]["forces"], forces)
    for one in report["indicators"].values():
        assert one["novelty"]["auc"] > 0.8
        assert one["spearman"] > 0.2
        assert one["seconds"] > 0.0
    assert structure_grades(model, active_set, train).max() <= 1.001 + 1e-6


def test_symmetric_structures_do_not_set_the_outlier(comparison, label):
    """As many perfect crystals as structures with forces, all without error: e* of forces stays, energies' may not."""
    fitted, active_set, ensemble, train, test, report = comparison
    crystals = label([bulk("Cu", a=3.5 + 0.01 * k) for k in range(60)], fitted)
    found = compare_uncertainty(fitted, test, [*train, *crystals], {"gamma": active_set}, {"ensemble": ensemble})
    assert found["outlier"]["forces"] == pytest.approx(report["outlier"]["forces"])
    threshold = report["indicators"]["ensemble dF"]["threshold"]
    assert found["indicators"]["ensemble dF"]["threshold"] == pytest.approx(threshold)
    assert "60 learnt and 0 graded structures" in found["notes"][0]
    assert facts({**found, "n_train": 120, "test": {"energy": {"rmse": 1}, "forces": {"rmse": 1}}, "seconds": {}})[
        "Notes"
    ]
    only = compare_uncertainty(fitted, test, crystals, {"gamma": active_set}, {"ensemble": ensemble})
    assert only["indicators"]["ensemble dF"]["threshold"] is None
    assert only["indicators"]["ensemble dF"].get("counts") is None


def test_comparison_refuses_nothing(comparison):
    fitted, _, _, train, test, _ = comparison
    with pytest.raises(AceError, match="nothing to compare"):
        compare_uncertainty(fitted, test, train, {})
