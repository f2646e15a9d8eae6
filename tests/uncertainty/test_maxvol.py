"""MaxVol: exactness of what it reports, ranks, scales, limits."""

import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aiida_aceal.ace import AceModel, build_potential
from aiida_aceal.common.errors import AceError
from aiida_aceal.uncertainty import maxvol
from aiida_aceal.uncertainty.active_rows import FLOOR, FLOOR_ROW
from aiida_aceal.uncertainty.swaps import largest_rows


def check(rows, result):
    """Everything a result says of itself, recomputed from the rows."""
    k = rows.shape[1]
    real = result.indices >= 0
    assert len(set(result.indices[real])) == real.sum() == result.rank
    assert np.array_equal(result.active[real], rows[result.indices[real]]) or np.allclose(
        result.active[real], rows[result.indices[real]], rtol=1e-14
    )
    assert np.isfinite(result.inverse).all()
    assert np.isfinite(result.log_volume)
    assert result.log_volume == pytest.approx(np.linalg.slogdet(result.active)[1], abs=1e-6 * k)
    gamma = np.abs(rows @ result.inverse).max(axis=1, initial=0.0)
    assert gamma.max(initial=0.0) == pytest.approx(result.tolerance_reached, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("shape", [(500, 12), (40, 12), (12, 12), (5, 12), (1, 12), (0, 12), (30, 1)])
def test_any_shape(shape):
    rows = np.random.default_rng(1).normal(size=shape)
    result = maxvol(rows)
    check(rows, result)
    assert result.rank == min(shape)
    assert result.tolerance_reached <= 1.001
    assert result.converged


def test_more_rows_than_the_working_set():
    """Several rounds, leverage start, threads: the same set whatever the number of threads."""
    rows = np.random.default_rng(2).normal(size=(9000, 40)) ** 3
    one, two = maxvol(rows, threads=1), maxvol(rows, threads=2)
    check(rows, one)
    assert one.converged
    assert np.array_equal(one.indices, two.indices)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float64, st.tuples(st.integers(0, 12), st.integers(1, 6)), elements=st.integers(-3, 3)))
def test_small_integers(rows):
    """Ranks are exact for small integers; nothing is ever NaN or infinite."""
    result = maxvol(rows)
    check(rows, result)
    assert result.rank == (np.linalg.matrix_rank(rows) if rows.size else 0)
    assert result.tolerance_reached <= 1.001 + 1e-6


def test_duplicates_and_zero_columns():
    rng = np.random.default_rng(3)
    rows = np.repeat(rng.normal(size=(4, 9)), 10, axis=0)
    rows[:, 2] = 0.0
    result = maxvol(rows)
    check(rows, result)
    assert result.rank == 4
    assert (result.indices == FLOOR_ROW).sum() == 5


def test_unseen_direction_is_a_large_gamma():
    """The pseudo-inverse gives 0 where nothing was ever seen; floor rows give component / (floor scale)."""
    rng = np.random.default_rng(4)
    seen = rng.normal(size=(6, 10))
    rows = rng.normal(size=(300, 6)) @ seen
    result = maxvol(rows)
    assert result.rank == 6
    assert np.abs(rows @ result.inverse).max() <= 1.001
    new = np.linalg.svd(seen)[2][-1]  # orthogonal to all rows
    assert np.abs(new @ np.linalg.pinv(rows[result.indices[result.indices >= 0]])).max() < 1e-9
    gamma = np.abs(new @ result.inverse).max()
    assert gamma > 100
    assert np.abs((rows[0] + 1e-2 * new * np.abs(rows).max()) @ result.inverse).max() > 1
    halved = maxvol(rows, floor=FLOOR / 2)
    assert np.abs(new @ halved.inverse).max() == pytest.approx(2 * gamma, rel=1e-6)


def test_single_impurity():
    row = np.random.default_rng(5).normal(size=(1, 8))
    result = maxvol(row)
    assert result.rank == 1
    assert result.tolerance_reached == pytest.approx(1.0)
    assert np.abs(2 * row @ result.inverse).max() == pytest.approx(2.0, rel=1e-9)
    changed = row.copy()
    changed[0, 3] += 0.1
    assert np.abs(changed @ result.inverse).max() > 100


def test_scale_of_functions_does_not_matter():
    """Twelve orders of magnitude between the columns: the same active set and the same grades."""
    rng = np.random.default_rng(6)
    rows = rng.normal(size=(2000, 30)) @ np.diag(rng.uniform(0.5, 2, 30))
    factors = 10.0 ** rng.uniform(-6, 6, 30)
    plain, scaled = maxvol(rows), maxvol(rows * factors)
    assert sorted(plain.indices) == sorted(scaled.indices)
    other = 3 * rng.normal(size=(50, 30))
    assert np.allclose(
        np.abs(other @ plain.inverse).max(axis=1), np.abs(other * factors @ scaled.inverse).max(axis=1), rtol=1e-9
    )
    assert scaled.log_volume - plain.log_volume == pytest.approx(np.log(factors).sum(), abs=1e-8)
    tiny = maxvol(rows * 1e-12)
    assert sorted(tiny.indices) == sorted(plain.indices)


def test_gain_of_a_swap_is_gamma():
    """A row with gamma > 1 in place argmax|c| multiplies |det A| by exactly gamma (science: the basis of updates)."""
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(200, 15))
    old = maxvol(rows)
    new = 4 * rng.normal(size=(1, 15))
    gamma = np.abs(new @ old.inverse).max()
    assert gamma > 1.001
    swapped = maxvol(new, active=old.active)
    assert swapped.log_volume - old.log_volume == pytest.approx(np.log(gamma), abs=1e-9)
    assert (swapped.indices >= 0).sum() == 1
    assert np.sum(swapped.indices <= -2) == 14


def test_warm_start_changes_nothing_within_the_tolerance():
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(500, 12))
    old = maxvol(rows)
    again = maxvol(0.2 * rows, active=old.active)
    assert np.array_equal(again.indices, -2 - np.arange(12))
    assert again.swaps == 0


def test_swap_limit_is_reported():
    rows = np.random.default_rng(9).normal(size=(3000, 30)) ** 5
    short = maxvol(rows, max_swaps=1)
    assert short.swaps <= 1
    assert short.tolerance_reached > 1.001
    assert not short.converged
    check(rows, short)


@pytest.mark.parametrize("tolerance", [1.0, 1.001, 1.01, 1.5])
def test_tolerance_is_kept(tolerance):
    rows = np.random.default_rng(10).standard_cauchy(size=(2000, 20))
    result = maxvol(rows, tolerance)
    assert np.abs(rows @ result.inverse).max() <= tolerance * (1 + 1e-8)


@pytest.mark.parametrize("decades", [4, 8, 11])
def test_conditioning(decades):
    """Singular values over many decades that no scaling of columns removes: full rank, tolerance kept."""
    rng = np.random.default_rng(11)
    u, v = (np.linalg.qr(rng.normal(size=s))[0] for s in ((3000, 50), (50, 50)))
    rows = u * np.logspace(0, -decades, 50) @ v.T
    result = maxvol(rows)
    check(rows, result)
    assert result.rank == 50
    assert result.converged
    assert np.abs(rows[result.indices] @ result.inverse - np.eye(50)).max() < 1e-15 * 10.0 ** (decades + 1)


def test_rounding_as_large_as_the_tolerance_is_said():
    """Condition number 1e15: it ends, nothing is NaN, and what was not reached is not claimed."""
    rng = np.random.default_rng(12)
    u, v = (np.linalg.qr(rng.normal(size=s))[0] for s in ((3000, 50), (50, 50)))
    rows = u * np.logspace(0, -15, 50) @ v.T
    result = maxvol(rows)
    check_finite = np.isfinite(result.inverse).all() and np.isfinite(result.tolerance_reached)
    assert check_finite
    assert result.rank < 50
    assert result.converged == (np.abs(rows @ result.inverse).max() <= 1.001)


def test_bad_input():
    with pytest.raises(AceError, match="row 3 holds NaN"):
        maxvol(np.array([[1.0, 2.0]] * 3 + [[np.nan, 1.0]]))
    with pytest.raises(AceError, match="shape"):
        maxvol(np.zeros(5))
    with pytest.raises(AceError, match="below 1"):
        maxvol(np.eye(3), tolerance=0.9)
    with pytest.raises(AceError, match="floor"):
        maxvol(np.eye(3), floor=0.0)
    with pytest.raises(AceError, match="square"):
        maxvol(np.eye(3), active=np.zeros((2, 3)))
    with pytest.raises(AceError, match="singular"):
        maxvol(np.eye(3), active=np.ones((3, 3)))
    with pytest.raises(AceError, match="scale"):
        maxvol(np.eye(3), scale=[1.0, -1.0, 1.0])


def test_copies_of_active_rows_are_not_new_directions():
    """Rank-deficient and ill-conditioned: rounding errors along unseen directions must not look like environments."""
    rng = np.random.default_rng(13)
    u, v = (np.linalg.qr(rng.normal(size=s))[0] for s in ((16, 16), (25, 16)))
    rows = np.repeat(u * np.logspace(0, -7, 16) @ v.T, 6, axis=0) * (1 + 1e-15 * rng.normal(size=(96, 25)))
    for seed in range(5):
        result = maxvol(rows, seed=seed)
        check(rows, result)
        assert result.rank == 16
        assert result.converged


def crystals(seed=0):
    """Perfect crystals, vacancies and warm copies: many environments are equal but for rounding."""
    rng = np.random.default_rng(seed)
    found = []
    for kind, a in (("fcc", 3.61), ("bcc", 2.87), ("hcp", 2.55)):
        for strain in np.linspace(0.9, 1.15, 12):
            atoms = bulk("Cu", kind, a * strain, **({} if kind == "hcp" else {"cubic": True})).repeat(2)
            vacancy, warm = atoms.copy(), atoms.copy()
            del vacancy[0]
            warm.positions += rng.normal(0, 0.15, warm.positions.shape)
            found += [atoms, vacancy, warm]
    return found


@pytest.fixture(scope="module")
def environments():
    """Rows of crystals, and of hot ones to be graded."""
    shape = {"cutoff": 5.0, "nradmax_by_orders": [8, 4, 3], "lmax_by_orders": [0, 3, 2]}
    model = AceModel(build_potential({"elements": ["Cu"], **shape}), threads=1)
    known = crystals()
    rng = np.random.default_rng(5)
    hot = []
    for _ in range(40):
        atoms = known[int(rng.integers(len(known)))].copy()
        atoms.positions += rng.normal(0, 0.25, atoms.positions.shape)
        hot.append(atoms)
    return model.projections(known)["Cu"].rows, model.projections(hot)["Cu"].rows


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_does_not_choose(environments, seed):
    """Projections that differ in the eighth digit give the same set, but for environments that are the same."""
    rows, hot = environments
    reference = maxvol(rows, seed=seed, threads=1)
    gamma = np.abs(hot @ reference.inverse).max(axis=1)
    scale = np.abs(rows).max(axis=0)
    for noise in (1e-13, 1e-10, 1e-8):
        for draw in range(2):
            factor = 1.0 + noise * np.random.default_rng(draw).normal(size=rows.shape)
            other = maxvol(rows * factor, seed=seed, threads=1)
            found = np.abs(hot @ other.inverse).max(axis=1)
            assert np.abs(found / gamma - 1.0).max() < 1e-3
            distance = np.abs((rows[other.indices][:, None] - rows[reference.indices][None]) / scale).max(axis=2)
            assert (distance.min(axis=1) < 1e-6).sum() >= len(scale) - 2


def test_cut_at_a_gap():
    """Which rows are looked at must not hang on the order of sizes that are equal."""
    size = np.concatenate([np.linspace(9, 10, 90), np.full(60, 5.0), np.linspace(0, 1, 100)])
    for draw in range(3):
        noise = 1.0 + 1e-9 * np.random.default_rng(draw).normal(size=size.size)
        assert np.array_equal(largest_rows(size * noise, 95), np.arange(90))
    assert len(largest_rows(np.random.default_rng(0).random(5000), 3072)) == pytest.approx(3072, rel=0.125)
    assert np.array_equal(largest_rows(np.ones(10), 10), np.arange(10))
