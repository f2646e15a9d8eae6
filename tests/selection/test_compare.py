"""Learning curves and their comparison: the same starts, statistics against worked examples, the Cu-II claim."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import yaml
from ase.io import write
from click.testing import CliRunner
from scipy import stats

from aiida_aceal.ace import AceError, build_potential
from aiida_aceal.common.configurations import read_configurations
from aiida_aceal.selection.compare import CurveSettings, learning_curve
from aiida_aceal.selection.summary import holm, interval, labels_needed, paired_test, summarise
from aiida_aceal.worker.main import main

BASIS = {"elements": ["Cu"], "cutoff": 5.0, "nradmax_by_orders": [6, 3], "lmax_by_orders": [0, 2]}


@pytest.fixture(scope="module")
def potential():
    return build_potential(BASIS)


@pytest.fixture(scope="module")
def pool(cu_atoms):
    return cu_atoms(24, seed=1, rattle=0.08) + cu_atoms(6, seed=2, rattle=0.3) + cu_atoms(4, seed=3, repeat=(2, 1, 1))


@pytest.fixture(scope="module")
def test_set(cu_atoms):
    return cu_atoms(8, seed=4, rattle=0.2)


def settings(strategy: str = "random", **more) -> dict:
    return {"strategy": strategy, "sizes": [5, 9, 14], "threads": 1, **more}


# --- curves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["random", "uncertainty", "d_optimal", "cur", "diversity", "hybrid", "viability"])
def test_every_strategy(strategy, potential, pool, test_set):
    """Exact sizes, nothing chosen twice, the start that random has, JSON types, the same again for the same seed."""
    curve = learning_curve(potential, pool, test_set, settings(strategy), seed=3)
    again = learning_curve(potential, pool, test_set, settings(strategy), seed=3)
    start = learning_curve(potential, pool, test_set, {**settings(), "sizes": [5, 6]}, seed=3)["points"][0]
    points = curve["points"]
    assert [p["n_structures"] for p in points] == [5, 9, 14]
    chosen = [i for p in points for i in p["chosen"]]
    assert len(set(chosen)) == len(chosen) == 14
    assert points[-1]["n_atoms"] == sum(len(pool[i]) for i in chosen)
    assert points[0]["chosen"] == start["chosen"]
    assert points[0]["forces_rmse"] == start["forces_rmse"]
    for first, second in zip(points, again["points"]):
        assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in second.items() if k != "seconds"}
    assert json.loads(json.dumps(curve, allow_nan=False)) == curve
    assert points[-1]["forces_max"] >= points[-1]["forces_rmse"] > 0


def test_seed_and_errors(potential, pool, test_set):
    """Another seed starts elsewhere; the errors are those of a fit made by hand."""
    from aiida_aceal.fitting import fit_linear

    curve = learning_curve(potential, pool, test_set, settings(), seed=0)
    other = learning_curve(potential, pool, test_set, settings(), seed=1)
    assert curve["points"][0]["chosen"] != other["points"][0]["chosen"]
    chosen = [i for p in curve["points"] for i in p["chosen"]]
    metrics = fit_linear(potential, [pool[i] for i in chosen], {"threads": 1}, test_set).metrics["validation"]
    assert curve["points"][-1]["forces_rmse"] == pytest.approx(metrics["forces"]["rmse"], rel=1e-6)
    assert curve["points"][-1]["forces_max"] == pytest.approx(metrics["forces"]["max"], rel=1e-6)
    assert curve["points"][-1]["energy_rmse"] == pytest.approx(metrics["energy"]["rmse"], rel=1e-6)


@pytest.mark.parametrize("strategy", ["random", "d_optimal"])
def test_sizes_in_atoms(strategy, potential, pool, test_set):
    curve = learning_curve(potential, pool, test_set, settings(strategy, sizes=[22, 46], unit="atoms"), seed=1)
    for point, limit in zip(curve["points"], (22, 46)):
        assert limit - 3 <= point["n_atoms"] <= limit  # no smaller cell than four atoms in the pool


def test_filled_up_at_random(potential, pool, test_set, monkeypatch):
    """A strategy that names too few: the rest is drawn, and said to be."""
    from aiida_aceal.selection import Pick, compare

    def one_only(candidates, wanted, rng):
        yield Pick(0, 1.0, "the first")

    real = compare.select
    monkeypatch.setattr(compare, "select", lambda name, *args, **kwargs: real(one_only, *args, **kwargs))
    curve = learning_curve(potential, pool, test_set, settings("d_optimal"), seed=0)
    assert [p["n_random"] for p in curve["points"]] == [0, 3, 4]
    assert [p["n_structures"] for p in curve["points"]] == [5, 9, 14]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"sizes": [5]}, "at least two"),
        ({"sizes": [9, 5]}, "ascending"),
        ({"sizes": [5, 500]}, "the pool has only 34"),
        ({"strategy": "d_optmal"}, "did you mean 'd_optimal'"),
        ({"strateggy": "random"}, "did you mean 'strategy'"),
        ({"fit": {"reguralization": {}}}, "did you mean 'regularization'"),
        ({"options": {"scaled": False}, "strategy": "d_optimal"}, "scaled"),
        ({"options": [1]}, "must be a mapping"),
        ({"unit": "atoms", "sizes": [2, 40]}, "holds no structure"),
    ],
)
def test_refused(bad, message, potential, pool, test_set):
    with pytest.raises(AceError, match=message):
        learning_curve(potential, pool, test_set, settings(**bad))


def test_worker_command(potential, pool, test_set, tmp_path):
    """The same numbers through files."""
    write(tmp_path / "pool.extxyz", pool, format="extxyz")
    write(tmp_path / "test.extxyz", test_set, format="extxyz")
    plan = {**settings("d_optimal"), "seed": 2, "potential": BASIS, "pool": str(tmp_path / "pool.extxyz")}
    plan.update(test=[str(tmp_path / "test.extxyz")], output=str(tmp_path / "curve.json"))
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(plan))
    result = CliRunner().invoke(main, ["learning-curve", str(tmp_path / "settings.yaml")])
    assert result.exit_code == 0, result.output
    curve = json.loads((tmp_path / "curve.json").read_text())
    ours = learning_curve(potential, pool, test_set, settings("d_optimal"), seed=2)
    assert [p["chosen"] for p in curve["points"]] == [p["chosen"] for p in ours["points"]]
    assert curve["points"][-1]["forces_rmse"] == pytest.approx(ours["points"][-1]["forces_rmse"], rel=1e-4)
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({**plan, "poool": 1}))
    result = CliRunner().invoke(main, ["learning-curve", str(tmp_path / "settings.yaml")])
    assert result.exit_code == 2
    assert "did you mean 'pool'" in result.output


# --- statistics --------------------------------------------------------------------------------------------------


def made_up(seed: int, errors: list[float], strategy: str = "random", atoms: float = 4) -> dict:
    points = [
        {
            "size": n, "n_structures": n, "n_atoms": int(atoms * n), "n_random": 0, "seconds": {"select": 1.0},
            "forces_rmse": e, "forces_max": 3 * e, "energy_rmse": e / 10, "energy_max": e / 5,
        }
        for n, e in zip((10, 20, 40), errors)
    ]  # fmt: skip
    return {
        "strategy": strategy, "seed": seed, "unit": "structures", "n_pool": 99, "n_test": 9, "seconds": 5.0,
        "options": {}, "points": points,
    }  # fmt: skip


def test_interval_is_that_of_student():
    values = np.array([0.1, 0.12, 0.09, 0.15])
    found = interval(values)
    logs = np.log(values)
    low, high = stats.t.interval(0.95, 3, loc=logs.mean(), scale=stats.sem(logs))
    assert found["mean"] == pytest.approx(stats.gmean(values))
    assert (found["low"], found["high"]) == pytest.approx((np.exp(low), np.exp(high)))
    assert interval(np.array([0.1])) == {"mean": pytest.approx(0.1), "low": None, "high": None}


def test_interval_covers():
    """The 95 % interval holds the truth in 95 % of many experiments."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        found = interval(np.exp(rng.normal(0.3, 0.4, 5)))
        hits += found["low"] < np.exp(0.3) < found["high"]
    assert 0.93 < hits / 2000 < 0.97


def test_paired_test():
    theirs = np.array([0.1, 0.2, 0.4, 0.3, 0.15, 0.6])
    ours = theirs * np.array([0.7, 0.8, 0.75, 0.9, 0.85, 0.6])
    found = paired_test(ours, theirs)
    assert found["p_t"] == pytest.approx(stats.ttest_rel(np.log(ours), np.log(theirs)).pvalue)
    assert found["p_wilcoxon"] == pytest.approx(2 / 2**6)  # all of one sign
    assert found["ratio"]["mean"] == pytest.approx(stats.gmean(ours / theirs))
    assert found["wins"] == found["n"] == 6
    # a spread over decades between seeds does not hide what is the same in each pair
    assert found["p_t"] < 0.01 < stats.ttest_ind(np.log(ours), np.log(theirs)).pvalue
    assert paired_test(theirs, theirs)["p_t"] == 1.0
    assert paired_test(ours[:3], theirs[:3])["p_wilcoxon"] is None


def test_holm():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})


def test_labels_needed():
    # error ~ 1/n: a target between the points is met exactly in logarithms
    assert labels_needed([10, 20, 40], [1.0, 0.5, 0.25], 0.4) == pytest.approx(25.0)
    assert labels_needed([10, 20, 40], [1.0, 0.5, 0.25], 2.0) == 10.0
    assert labels_needed([10, 20, 40], [1.0, 0.5, 0.25], 0.1) is None
    assert labels_needed([10, 20, 40], [1.0, 0.5, 0.25], 0.25) == pytest.approx(40.0)


def test_summary():
    """A strategy that is exactly twice as good per label: half of the labels are saved."""
    rng = np.random.default_rng(1)
    noise = np.exp(0.02 * rng.normal(size=(2, 4, 3)))
    curves = {
        "random": [made_up(s, list(noise[0, s] / np.array([10, 20, 40]))) for s in range(4)],
        "better": [
            made_up(s, list(noise[1, s] / np.array([10, 40, 80])), "d_optimal", atoms=8) for s in reversed(range(4))
        ],
    }
    found = summarise(curves)
    json.dumps(found, allow_nan=False)
    assert list(found["strategies"]) == ["random", "better"]
    better = found["strategies"]["better"]
    needed = better["needed"]["forces_rmse"][0]
    assert needed["saving_structures"] == pytest.approx(0.5, abs=0.05)
    assert needed["saving_atoms"] == pytest.approx(0.0, abs=0.1)  # structures of twice the size
    assert found["strategies"]["random"]["needed"]["forces_rmse"][0]["structures"] == pytest.approx(40.0)
    assert better["overall"]["forces_max"]["ratio"]["mean"] == pytest.approx(0.5, abs=0.03)
    assert better["overall"]["forces_max"]["p_holm"] < 1e-3
    assert better["points"][-1]["forces_rmse"]["vs"]["wins"] == 4
    assert "vs" not in better["points"][0]["forces_rmse"]
    named = summarise(curves, targets={"forces_rmse": [1e-6]})["strategies"]["better"]["needed"]["forces_rmse"][0]
    assert named["structures"] is None
    assert named["n_reached"] == 0


def test_summary_refuses():
    curves = {"random": [made_up(0, [1, 0.5, 0.3])], "other": [made_up(1, [1, 0.5, 0.3])]}
    with pytest.raises(AceError, match="only curves of the same seeds"):
        summarise(curves)
    with pytest.raises(AceError, match="baseline 'random' is not among"):
        summarise({"other": curves["other"]})
    with pytest.raises(AceError, match="two curves have the same seed"):
        summarise({"random": curves["random"] * 2})


def test_report():
    """Every strategy stands in the table and in a page that refers to nothing outside itself."""
    from rich.console import Console

    from aiida_aceal.report.selection import figures, markdown_table, page, rich_table

    curves = {
        name: [made_up(s, [factor * (1 + 0.1 * s) / n for n in (10, 20, 40)], name) for s in range(3)]
        for name, factor in (("random", 1.0), ("d_optimal", 0.5), ("<b>", 2.0))
    }
    found = summarise(curves)
    table = markdown_table(found)
    assert len(table.splitlines()) == 5
    assert "3/3 seeds" in table
    assert "not reached" in table
    text = page(found, "a <title>")
    assert "<title>a &lt;title&gt;" in text
    assert "<td><b>" not in text
    assert "http" not in text
    assert text.count("data:image/png;base64,") == len(figures(found)) == 10
    for width in (80, 120):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(rich_table(found, "t", width))
        printed = console.export_text()
        assert "…" not in printed
        assert max(map(len, printed.splitlines())) <= width


def test_settings_round_trip():
    read = CurveSettings.read({"strategy": "cur", "options": {"scaled": False}, "fit": {"method": "linear"}})
    assert read.options == {"scaled": False}
    assert CurveSettings.read(read) is read


# --- published data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "sizes"), [("structures", [20, 50]), ("atoms", [400, 800, 1600])])
def test_copper(unit, sizes, data_dir):
    """PRM 7, 043801, Fig. 6: at equal size D-optimality has the lower largest force error, here in every seed and
    size."""
    frames = read_configurations(data_dir / "Cu-II_1k.extxyz", energy_key="REF_energy", forces_key="REF_forces")
    test = [atoms for k, atoms in enumerate(frames) if k % 10 == 7]
    pool = [atoms for k, atoms in enumerate(frames) if k % 10 != 7]
    pot = build_potential(
        {"elements": ["Cu"], "cutoff": 6.0, "nradmax_by_orders": [8, 4, 2], "lmax_by_orders": [0, 3, 1]}
    )
    common = {"sizes": sizes, "unit": unit, "threads": 1, "fit": {"reference_energies": "none"}}
    for seed in range(3):
        random, chosen = (
            learning_curve(pot, pool, test, {"strategy": name, **common}, seed)["points"]
            for name in ("random", "d_optimal")
        )
        assert random[0]["chosen"] == chosen[0]["chosen"]
        for one, two in zip(random[1:], chosen[1:]):
            assert two["forces_max"] < one["forces_max"], f"seed {seed}, {one['size']} {unit}"
            if unit == "atoms":  # the last cells may not fit: never is it D-optimality that has more
                assert two["n_atoms"] <= one["size"]
