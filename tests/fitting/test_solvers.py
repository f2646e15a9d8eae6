"""Least squares on a streamed factor: against plain numpy, and evidence and ARD on problems with a known answer."""

import numpy as np
import pytest

from aiida_aceal.ace import AceError
from aiida_aceal.fitting.solvers import NormalAccumulator, QrAccumulator, solve


def _problem(rows=400, columns=12, noise=0.05, seed=0, spread=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, columns)) * 10.0 ** rng.uniform(-spread, spread, columns)
    c = rng.normal(size=columns)
    return X, c, X @ c + noise * rng.normal(size=rows)


def _factor(kind, X, y, pieces=7):
    acc = kind(X.shape[1] + 1)
    for block in np.array_split(np.column_stack([X, y]), pieces):
        acc.add(block)
    return acc.factor(), acc.rows


@pytest.mark.parametrize("kind", [QrAccumulator, NormalAccumulator])
@pytest.mark.parametrize("pieces", [1, 7, 400])
def test_streamed_factor_is_that_of_the_whole(kind, pieces):
    X, _, y = _problem(rows=2000)
    R, rows = _factor(kind, X, y, pieces)
    assert rows == 2000
    full = np.column_stack([X, y])
    np.testing.assert_allclose(R.T @ R, full.T @ full, rtol=1e-10, atol=1e-8)


def test_fewer_rows_than_columns():
    X, _, y = _problem(rows=5, columns=12)
    R, rows = _factor(QrAccumulator, X, y, 1)
    sol = solve(R, rows, np.ones(12), "none")
    np.testing.assert_allclose(sol.coefficients, np.linalg.lstsq(X, y, rcond=None)[0], rtol=1e-8)


def test_ridge_is_tikhonov():
    X, _, y = _problem()
    R, rows = _factor(QrAccumulator, X, y)
    d = np.linspace(0.5, 3.0, 12)
    unit = np.mean(((X / d) ** 2).sum(0))
    sol = solve(R, rows, d, "ridge", 1e-2)
    expected = np.linalg.solve(X.T @ X + 1e-2 * unit * np.diag(d**2), X.T @ y)
    np.testing.assert_allclose(sol.coefficients, expected, rtol=1e-9)
    cov = sol.covariance_root @ sol.covariance_root.T
    np.testing.assert_allclose(
        cov, sol.noise**2 * np.linalg.inv(X.T @ X + 1e-2 * unit * np.diag(d**2)), rtol=1e-8, atol=1e-14
    )


def test_qr_survives_columns_of_very_different_size():
    """Columns over ten orders of magnitude: exact with QR."""
    X, c, y = _problem(noise=0.0, spread=5)
    R, rows = _factor(QrAccumulator, X, y)
    sol = solve(R, rows, np.linalg.norm(X, axis=0), "evidence")
    np.testing.assert_allclose(sol.coefficients, c, rtol=1e-5)


def test_evidence_finds_the_noise_and_beats_no_regularisation():
    rng = np.random.default_rng(3)
    better = 0
    for seed in range(6):
        X, c, y = _problem(rows=40, columns=35, noise=2.0, seed=seed)
        R, rows = _factor(QrAccumulator, X, y)
        sol = solve(R, rows, np.ones(35))
        plain = solve(R, rows, np.ones(35), "none")
        new = rng.normal(size=(500, 35))
        better += np.std(new @ (sol.coefficients - c)) < np.std(new @ (plain.coefficients - c))
    assert better >= 5
    X, c, y = _problem(rows=5000, noise=0.3)
    R, rows = _factor(QrAccumulator, X, y)
    assert solve(R, rows, np.ones(12)).noise == pytest.approx(0.3, rel=0.05)


def test_evidence_maximises_the_marginal_likelihood():
    """The profiled evidence against the explicit Gaussian marginal likelihood on a grid."""
    X, _, y = _problem(rows=60, columns=8, noise=0.5)
    R, rows = _factor(QrAccumulator, X, y)
    sol = solve(R, rows, np.ones(8))
    unit = np.mean((X**2).sum(0))

    def marginal(alpha):
        C = np.eye(60) + X @ X.T / (alpha * unit)  # covariance up to the noise, which is profiled
        return -0.5 * 60 * np.log(y @ np.linalg.solve(C, y)) - 0.5 * np.linalg.slogdet(C)[1]

    best = marginal(sol.alpha)
    assert best == pytest.approx(sol.log_evidence, rel=1e-6)
    assert all(best >= marginal(a) - 1e-6 for a in sol.alpha * np.array([0.3, 0.8, 1.25, 3.0]))


def test_ard_switches_needless_columns_off():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(300, 30))
    c = np.zeros(30)
    c[[2, 5, 11]] = [1.0, -2.0, 0.5]
    y = X @ c + 0.1 * rng.normal(size=300)
    R, rows = _factor(QrAccumulator, X, y)
    sol = solve(R, rows, np.ones(30), "ard")
    assert sol.active[[2, 5, 11]].all()
    assert sol.active.sum() < 20
    assert np.abs(sol.coefficients - c).max() < 0.03
    assert np.abs(sol.coefficients - c).sum() < np.abs(solve(R, rows, np.ones(30), "none").coefficients - c).sum()
    assert sol.noise == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize("method", ["evidence", "ard"])
def test_free_columns_are_not_shrunk(method):
    """A constant a thousand times larger than the rest, with zero penalty, is found exactly."""
    X, c, y = _problem(noise=0.01)
    X, y = np.column_stack([X, np.ones(len(X))]), y + 1000.0
    R, rows = _factor(QrAccumulator, X, y)
    sol = solve(R, rows, np.append(np.ones(12), 0.0), method)
    assert sol.coefficients[-1] == pytest.approx(1000.0, abs=0.01)
    np.testing.assert_allclose(sol.coefficients[:-1], c, atol=0.01)


def test_empty_columns_give_zero():
    X, _, y = _problem()
    X[:, 4] = 0.0
    R, rows = _factor(QrAccumulator, X, y)
    for method in ("none", "ridge", "evidence", "ard"):
        assert solve(R, rows, np.ones(12), method).coefficients[4] == 0.0


def test_infinite_rows_are_refused():
    R = np.full((4, 4), np.nan)
    with pytest.raises(AceError, match="not finite"):
        solve(R, 10, np.ones(3))


def test_rows_that_follow_from_others_are_no_second_observation():
    """Fewer rows than columns: repeated rows change nothing."""
    X, _, y = _problem(rows=30, columns=60, noise=1.0)
    d = np.linspace(1.0, 30.0, 60)
    once = solve(*_factor(QrAccumulator, X, y), d)
    root = np.sqrt(0.5)
    twice = solve(*_factor(QrAccumulator, np.vstack([X, X])[:50] * root, np.append(y, y)[:50] * root), d)
    full = solve(*_factor(QrAccumulator, np.vstack([X, X])[:55] * root, np.append(y, y)[:55] * root), d)
    assert once.alpha > 1e-6
    assert 0.1 < twice.alpha / once.alpha < 10.0
    assert 0.1 < full.alpha / once.alpha < 10.0


def test_rows_without_information_are_not_counted():
    X, _, y = _problem(rows=60, columns=40, noise=2.0)
    plain = solve(*_factor(QrAccumulator, X, y), np.ones(40))
    acc = QrAccumulator(41)
    acc.add(np.column_stack([X, y]))
    acc.add(np.zeros((200, 41)), counted=0)
    padded = solve(acc.factor(), acc.rows, np.ones(40))
    assert padded.alpha == pytest.approx(plain.alpha, rel=1e-3)
    assert padded.noise == pytest.approx(plain.noise, rel=1e-3)


@pytest.mark.parametrize("method", ["evidence", "ridge", "ard"])
def test_bound_holds_where_data_are_silent(method):
    """Two columns that the data know only as a sum: their difference is free without the bound, and held with it."""
    X, c, _ = _problem(rows=200, columns=12)
    rng = np.random.default_rng(1)
    X[:, 1] = X[:, 0] * (1.0 + 1e-5 * rng.normal(size=200))
    y = X @ c + 0.1 * rng.normal(size=200)
    R, rows = _factor(QrAccumulator, X, y)
    new = np.zeros((1, 12))
    new[0, :2] = 1.0, -1.0
    alpha = 1e-12 if method == "ridge" else "auto"
    free = solve(R, rows, np.full(12, 1e-5), method, alpha)
    assert method != "ridge" or np.abs(new @ free.coefficients).max() > 3.0
    held = solve(R, rows, np.full(12, 1e-5), method, alpha, new / 0.5)
    assert np.abs(new @ held.coefficients).max() < 1.0
    assert np.std(X @ held.coefficients - y) < 0.12  # the data are met all the same
    # the posterior knows the bound too
    covariance = held.covariance_root @ held.covariance_root.T
    assert float((new @ covariance @ new.T).squeeze()) < 0.5**2 * 1.2
    # ridge: the posterior mode of data and both priors, written out
    if method == "ridge":
        unit = np.mean(((X * 1e5) ** 2).sum(0))
        P = new / 0.5 * free.noise
        expected = np.linalg.solve(X.T @ X + P.T @ P + 1e-12 * unit * 1e-10 * np.eye(12), X.T @ y)
        np.testing.assert_allclose(held.coefficients, expected, rtol=1e-3, atol=1e-3)
