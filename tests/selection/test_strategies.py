"""Seven strategies behind one interface: what each promises, budgets, duplicates, peeling rounds, determinism."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_aceal.ace import AceError, AceModel, build_potential
from aiida_aceal.selection import Budget, Pick, select, strategy_names
from aiida_aceal.selection.base import Pool
from aiida_aceal.selection.matrix import cur
from aiida_aceal.selection.strategies import viability_probability
from aiida_aceal.uncertainty import ActiveSet, build_active_set

NAMES = ["cur", "d_optimal", "diversity", "hybrid", "random", "uncertainty", "viability"]


def shaken(amplitude: float, seed: int, a: float = 3.6) -> Atoms:
    atoms = bulk("Cu", "fcc", a=a, cubic=True)
    atoms.rattle(amplitude, seed=seed)
    return atoms


def known_structures() -> list[Atoms]:
    return [shaken(0.03 + 0.02 * (k % 4), k, a=3.55 + 0.02 * (k % 6)) for k in range(48)]


@pytest.fixture(scope="module")
def model() -> AceModel:
    pot = build_potential(
        {"elements": ["Cu"], "cutoff": 4.5, "nradmax_by_orders": [5, 3, 1], "lmax_by_orders": [0, 2, 1]}
    )
    rng = np.random.default_rng(0)
    return AceModel(pot.with_coefficients({"Cu": 1e-2 * rng.normal(size=pot.n_functions["Cu"])}), threads=1)


@pytest.fixture(scope="module")
def active_set(model: AceModel) -> ActiveSet:
    return build_active_set(model, known_structures())


@pytest.fixture(scope="module")
def candidates() -> list[Atoms]:
    """Thirty ordinary frames and ten strange ones (from index 30 on)."""
    return [shaken(0.05, 100 + k) for k in range(30)] + [shaken(0.25, 200 + k, a=3.6 + 0.05 * k) for k in range(10)]


def test_all_are_installed() -> None:
    assert strategy_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_interface(name: str, model: AceModel, active_set: ActiveSet, candidates: list[Atoms]) -> None:
    """Distinct indices, a reason and a score for each, within the budget, the same for the same seed."""
    common = {"seed": 3, "model": model, "active_set": active_set, "reference": known_structures()}
    first, again = select(name, candidates, 6, **common), select(name, candidates, 6, **common)
    assert first.indices == again.indices
    assert first.reasons == again.reasons
    assert len(first.indices) <= 6
    assert len(set(first.indices)) == len(first.indices)
    assert len(first.scores) == len(first.reasons) == len(first.rounds) == len(first.indices)
    assert all(first.reasons)
    assert first.report()["n_selected"] == len(first.indices)
    if name != "viability":  # which may accept fewer
        assert len(first.indices) == 6


@pytest.mark.parametrize("name", ["random", "diversity", "viability"])
def test_seed_matters(name: str, model: AceModel, active_set: ActiveSet, candidates: list[Atoms]) -> None:
    common = {"model": model, "active_set": active_set, "reference": candidates}
    runs = {tuple(select(name, candidates, 8, seed=s, **common).indices) for s in range(4)}
    assert len(runs) > 1


@pytest.mark.parametrize("name", ["uncertainty", "d_optimal", "cur"])
def test_strange_ones_come_first(name: str, model: AceModel, active_set: ActiveSet, candidates: list[Atoms]) -> None:
    chosen = select(name, candidates, 5, model=model, active_set=active_set)
    assert all(index >= 30 for index in chosen.indices)


def test_uncertainty_is_sorted_gamma(model: AceModel, active_set: ActiveSet, candidates: list[Atoms]) -> None:
    chosen = select("uncertainty", candidates, 40, model=model, active_set=active_set)
    model.active_set = active_set
    gamma = [model.evaluate(atoms, forces=False, stress=False, gamma=True).gamma.max() for atoms in candidates]
    np.testing.assert_allclose(chosen.scores, np.sort(gamma)[::-1], rtol=1e-9)


def test_peeling_rounds(model: AceModel, active_set: ActiveSet, candidates: list[Atoms]) -> None:
    """Asked for all, it goes on beyond the size of the active set, says the round, and later rounds gain less."""
    chosen = select("d_optimal", candidates, len(candidates), model=model, active_set=active_set, duplicate_distance=0)
    assert sorted(chosen.indices) == list(range(len(candidates)))
    assert chosen.rounds == sorted(chosen.rounds)
    assert max(chosen.rounds) >= 1
    K = model.n_functions["Cu"]
    assert sum(s for s, r in zip(chosen.scores, chosen.rounds) if r == 0) <= K
    assert min(chosen.scores[:3]) >= 1


def test_first_round_is_maxvol_over_both(model: AceModel, active_set: ActiveSet, candidates: list[Atoms]) -> None:
    """With the whole first round in the active set, no candidate extrapolates any more."""
    chosen = select("d_optimal", candidates, len(candidates), model=model, active_set=active_set, duplicate_distance=0)
    first = [candidates[i] for i, r in zip(chosen.indices, chosen.rounds) if r == 0]
    new = build_active_set(model, known_structures() + first)
    rows = model.projections(candidates)["Cu"].rows
    assert new.grade("Cu", rows).max() < 1.5  # 1 but for another local maximum of the volume
    assert active_set.grade("Cu", rows).max() > 5


def test_near_duplicates_are_dropped(model: AceModel, active_set: ActiveSet, candidates: list[Atoms]) -> None:
    top = select("uncertainty", candidates, 1, model=model, active_set=active_set).indices[0]
    twins = [candidates[top].copy() for _ in range(4)]
    for k, atoms in enumerate(twins):
        atoms.positions += 1e-7 * k
    pool = [*candidates, *twins]
    chosen = select("uncertainty", pool, 8, model=model, active_set=active_set)
    alike = {top, *range(len(candidates), len(pool))}
    assert len(alike.intersection(chosen.indices)) == 1
    assert len(chosen.indices) == 8
    kept = select("uncertainty", pool, 44, model=model, active_set=active_set, duplicate_distance=0)
    assert len(kept.indices) == 44


def test_budgets(model: AceModel, active_set: ActiveSet, candidates: list[Atoms]) -> None:
    big = candidates[35] * (2, 1, 1)
    pool = [*candidates, big]
    by_atoms = select("uncertainty", pool, model=model, active_set=active_set, budget=Budget(atoms=22))
    assert sum(len(pool[i]) for i in by_atoms.indices) <= 22
    assert len(by_atoms.indices) >= 4
    by_cost = select("random", pool, model=model, active_set=active_set, budget=Budget(cost=3 * 4**3))
    assert len(by_cost.indices) == 3
    assert all(len(pool[i]) == 4 for i in by_cost.indices)
    with pytest.raises(AceError, match="needs a budget"):
        select("random", pool, model=model)
    with pytest.raises(AceError, match="above 0"):
        select("random", pool, 0, model=model)


def test_viability_limits() -> None:
    """P_E is 1 at the mean energy, the floor at E + 1.8 sE, and never rises; P_U is 1/2 at U + 2 sU."""
    reference = {"U": 2.0, "sU": 0.5, "E": -3.0, "sE": 0.1}
    e = np.linspace(-3.5, -2.0, 400)
    p_u, p_e = viability_probability(np.full_like(e, 3.0), e, reference)
    np.testing.assert_allclose(p_u, 0.5)
    assert np.all(np.diff(p_e) <= 0)
    at = viability_probability(np.zeros(3), np.array([-3.0, -2.9, -3.0 + 1.8 * 0.1]), reference)[1]
    np.testing.assert_allclose(at, [1.0, 1.0, 0.2])
    u = np.linspace(0, 6, 100)
    assert np.all(np.diff(viability_probability(u, np.full(100, -3.0), reference)[0]) >= 0)
    assert viability_probability(np.array([10.0]), np.array([-3.0]), reference)[0][0] == pytest.approx(1.0)
    with pytest.raises(AceError, match="spread must be positive"):
        viability_probability(u, u, {**reference, "sE": 0.0})


def test_viability_logs_every_decision(model: AceModel, active_set: ActiveSet, candidates: list[Atoms]) -> None:
    chosen = select(
        "viability", candidates, 40, model=model, active_set=active_set, duplicate_distance=0,
        options={"reference": {"U": 1.0, "sU": 1.0, "E": 1e3, "sE": 1.0}},
    )  # fmt: skip
    assert len(chosen.log) == len(candidates)
    accepted = [entry["index"] for entry in chosen.log if entry["accepted"]]
    assert chosen.indices == accepted
    for entry in chosen.log:
        assert entry["accepted"] == (entry["draw"] < entry["P_U"] * entry["P_E"])
    share = [np.mean([i in accepted for i in group]) for group in (range(30), range(30, 40))]
    assert share[1] > 0.9 > share[0]


def test_diversity_covers_clusters(model: AceModel, active_set: ActiveSet) -> None:
    """Three kinds of structures: the first three picks are one of each."""
    kinds = [[shaken(0.02, 10 * k + s, a=a) for s in range(8)] for k, a in enumerate((3.3, 3.6, 3.9))]
    pool = [atoms for kind in kinds for atoms in kind]
    chosen = select("diversity", pool, 6, model=model, active_set=active_set, options={"clusters": 3})
    assert {i // 8 for i in chosen.indices[:3]} == {0, 1, 2}
    assert chosen.rounds[:6] == [0, 0, 0, 1, 1, 1]


def test_hybrid_weights(model: AceModel, active_set: ActiveSet, candidates: list[Atoms]) -> None:
    """Weight 1 is the order of the uncertainty; weight 0 does not look at it after the first."""

    def run(weight):
        options = {"weight": weight}
        return select(
            "hybrid", candidates, 10, model=model, active_set=active_set, options=options, duplicate_distance=0
        ).indices  # fmt: skip

    assert run(1.0) == select("uncertainty", candidates, 10, model=model, active_set=active_set).indices
    assert run(0.0) != run(1.0)
    with pytest.raises(AceError, match="weight"):
        run(1.5)


def test_cur_scaling(model: AceModel, candidates: list[Atoms]) -> None:
    """Leverage scores of all rows sum to the rank, and scaling the functions changes only the unscaled choice."""
    rows = model.projections(candidates)["Cu"].rows
    U = np.linalg.svd(rows / np.sqrt((rows**2).sum(axis=0)), full_matrices=False)[0]
    leverage = (U**2).sum(axis=1).reshape(len(candidates), -1).max(axis=1)
    picks = list(cur(Pool(candidates, model), 40, np.random.default_rng(0)))
    assert [p.index for p in picks[:5]] == np.argsort(-leverage, kind="stable")[:5].tolist()
    np.testing.assert_allclose([p.score for p in picks[:5]], np.sort(leverage)[::-1][:5], rtol=1e-4)
    rank1 = [p.index for p in cur(Pool(candidates, model), 40, np.random.default_rng(0), scaled=False, rank=1)]
    biggest = np.abs(rows @ np.linalg.svd(rows, full_matrices=False)[2][0]).reshape(len(candidates), -1).max(axis=1)
    assert rank1[0] == int(np.argmax(biggest))


def test_indicator_takes_the_place_of_gamma(model: AceModel, candidates: list[Atoms]) -> None:
    class Volume:
        def indicator(self, structures):
            return np.array([atoms.get_volume() for atoms in structures])

    chosen = select("uncertainty", candidates, 3, model=model, indicator=Volume())
    assert chosen.indices == [39, 38, 37]
    assert "indicator" in chosen.reasons[0]


def test_composition_descriptor() -> None:
    pot = build_potential(
        {"elements": ["Al", "Ni"], "cutoff": 4.0, "nradmax_by_orders": [3, 1], "lmax_by_orders": [0, 1]}
    )
    model = AceModel(pot, threads=1)
    pool = []
    for n_ni in (0, 1, 2, 3, 4):
        for seed in range(3):
            atoms = bulk("Al", "fcc", a=3.8, cubic=True)
            atoms.symbols[:n_ni] = "Ni"
            atoms.rattle(0.05, seed=seed)
            pool.append(atoms)
    active_set = build_active_set(model, pool[:3] + pool[-3:])
    chosen = select("diversity", pool, 5, model=model, active_set=active_set, descriptor="composition",
                    options={"clusters": 5})  # fmt: skip
    assert {atoms.symbols.count("Ni") for atoms in (pool[i] for i in chosen.indices)} == {0, 1, 2, 3, 4}


def test_third_party_strategy(model: AceModel, candidates: list[Atoms]) -> None:
    def last(pool: Pool, wanted: int, rng: np.random.Generator):
        for index in range(len(pool) - 1, -1, -1):
            yield Pick(index, float(index), "from the end")

    assert select(last, candidates, 2, model=model).indices == [39, 38]


def test_errors(model: AceModel, active_set: ActiveSet, candidates: list[Atoms]) -> None:
    with pytest.raises(AceError, match="did you mean 'd_optimal'"):
        select("d_optimel", candidates, 3, model=model)
    with pytest.raises(AceError, match="no candidates"):
        select("random", [], 3, model=model)
    with pytest.raises(AceError, match="needs the extrapolation grade"):
        select("d_optimal", candidates, 3, model=model)
    with pytest.raises(AceError, match="unexpected keyword"):
        select("random", candidates, 3, model=model, options={"colour": 1})


def test_large_pools_in_stages(model: AceModel, active_set: ActiveSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is searched in stages: nothing is left outside, and nearly the same volume is reached."""
    from aiida_aceal.selection import matrix

    rng = np.random.default_rng(5)
    many = [shaken(rng.uniform(0.05, 0.3), 300 + k, a=rng.uniform(3.5, 3.9)) for k in range(400)]
    found = {}
    real = matrix.update_active_set

    def noted(*args, **kwargs):
        found["set"] = real(*args, **kwargs)
        found["calls"] = found.get("calls", 0) + 1
        return found["set"]

    monkeypatch.setattr(matrix, "update_active_set", noted)
    reached = {}
    for room in (2**25, 8):
        monkeypatch.setattr(matrix, "_SHORTLIST_BYTES", room)
        found.clear()
        pool = Pool(many, model, active_set)
        counts = matrix._entering(pool, active_set, np.arange(400), pool.gamma, 1.001)
        assert counts.sum() == (found["set"].environments["Cu"][:, 0] >= matrix._OFFSET).sum()
        assert (pool.grades(found["set"], np.arange(400)).max() <= 1.06) or found["calls"] == 4
        reached[room] = (found["calls"], found["set"].log_volume["Cu"])
    assert reached[2**25][0] == 1
    assert reached[8][0] > 1
    assert reached[8][1] == pytest.approx(reached[2**25][1], abs=0.5)


def test_viability_by_an_ensemble(model: AceModel, candidates: list[Atoms]) -> None:
    """The rule of the viability strategy with the deviation of members as the uncertainty."""
    from aiida_aceal.fitting import Ensemble

    pot = model.potential
    rng = np.random.default_rng(5)
    members = Ensemble(
        tuple(pot.with_coefficients({"Cu": 1e-3 * rng.standard_normal(pot.coefficients("Cu").shape)}) for _ in range(3))
    )
    dF = members.indicator(candidates)
    reference = {"U": float(np.median(dF)), "sU": float(dF.std()), "E": 1e3, "sE": 1.0}
    chosen = select(
        "viability", candidates, len(candidates), model=model, indicator=members, duplicate_distance=0,
        options={"reference": reference},
    )  # fmt: skip
    expected = viability_probability(dF, np.zeros(len(dF)), reference)[0]
    for entry in chosen.log:
        assert entry["P_U"] == pytest.approx(expected[entry["index"]], abs=1e-9)
        assert entry["P_E"] == 1.0
