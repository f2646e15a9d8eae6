"""``aceal.compare.selection`` with the real worker: caching, failures, and the command that runs it."""

from __future__ import annotations

import json

import pytest
import yaml
from aiida import orm
from aiida.engine import run_get_node
from aiida.manage.caching import enable_caching
from aiida.plugins import WorkflowFactory
from ase.io import write
from click.testing import CliRunner

pytestmark = pytest.mark.long

SETTINGS = {"sizes": [4, 7], "fit": {"reference_energies": "fit"}}


@pytest.fixture
def inputs(aceal_worker_code, cu_potential, cu_configurations, job_metadata):
    return {
        "code": aceal_worker_code,
        "potential": cu_potential(scale=0.0),
        "pool": cu_configurations(14, seed=1),
        "test": cu_configurations(4, seed=2),
        "strategies": {"random": {"strategy": "random"}, "d_optimal": {"strategy": "d_optimal"}},
        "seeds": [0, 1],
        "settings": SETTINGS,
        "max_concurrent": 2,
        "options": job_metadata()["options"],
    }


def from_cache(node) -> dict[str, bool]:
    jobs = [child for child in node.called_descendants if isinstance(child, orm.CalcJobNode)]
    return {job.description: job.base.caching.is_created_from_cache for job in jobs}


def test_adding_a_strategy_recomputes_nothing_else(inputs):
    process = WorkflowFactory("aceal.compare.selection")
    with enable_caching():
        _, first = run_get_node(process, **inputs)
        assert first.is_finished_ok, first.exit_message
        more = {**inputs["strategies"], "cur unscaled": {"strategy": "cur", "options": {"scaled": False}}}
        _, second = run_get_node(process, **{**inputs, "strategies": more})
    assert second.is_finished_ok, second.exit_message
    assert not any(from_cache(first).values())
    assert from_cache(second) == {
        "random, seed 0": True,
        "random, seed 1": True,
        "d_optimal, seed 0": True,
        "d_optimal, seed 1": True,
        "cur unscaled, seed 0": False,
        "cur unscaled, seed 1": False,
    }
    summary = second.outputs.summary.get_dict()
    assert set(summary["strategies"]) == {"random", "d_optimal", "cur unscaled"}
    assert summary["strategies"]["random"] == first.outputs.summary.get_dict()["strategies"]["random"]
    assert set(second.outputs.curves) == {
        f"{name}_seed_{seed}" for name in ("random", "d_optimal", "cur_unscaled") for seed in (0, 1)
    }
    # the start of a seed is that of every strategy
    curves = second.outputs.curves
    starts = {
        seed: {tuple(c.get_dict()["points"][0]["chosen"]) for n, c in curves.items() if n.endswith(seed)}
        for seed in ("_0", "_1")
    }
    assert all(len(found) == 1 for found in starts.values())
    assert starts["_0"] != starts["_1"]


def test_a_failed_strategy_is_left_out(inputs):
    """Viability needs more than the one structure of the start for a spread; random selection does not."""
    changes = {
        "strategies": {"random": {"strategy": "random"}, "viability": {"strategy": "viability"}},
        "settings": {**SETTINGS, "sizes": [1, 4]},
    }
    _, node = run_get_node(WorkflowFactory("aceal.compare.selection"), **{**inputs, **changes})
    assert node.exit_status == 401
    assert "2 of 4 curves failed" in node.exit_message
    assert set(node.outputs.curves) == {"random_seed_0", "random_seed_1"}
    assert set(node.outputs.summary["strategies"]) == {"random"}


def test_options_that_a_strategy_would_refuse_are_found_at_submission(inputs):
    strategies = {
        "random": {"strategy": "random"},
        "bad": {"strategy": "hybrid", "options": {"weight": 7.0}},
    }
    with pytest.raises(ValueError, match=r"strategies\.bad: .*options\.weight: must be a number from 0 to 1, found 7"):
        run_get_node(WorkflowFactory("aceal.compare.selection"), **{**inputs, "strategies": strategies, "seeds": [0]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategies": {"d_optimal": {"strategy": "d_optimal"}}}, "baseline 'random' is not among them"),
        ({"strategies": {"random": {"strategy": "randm"}}}, "did you mean 'random'"),
        ({"settings": {"size": [4, 8]}}, "did you mean 'sizes'"),
        ({"seeds": [1, 1]}, "may occur only once"),
        ({"strategies": {name: {"strategy": "random"} for name in ("random", "a b", "a_b")}}, "rename"),
    ],
)
def test_refused_at_submission(inputs, change, message):
    with pytest.raises(ValueError, match=message):
        run_get_node(WorkflowFactory("aceal.compare.selection"), **{**inputs, **change})


def test_labels_and_overlap_are_checked(inputs, cu_configurations):
    process = WorkflowFactory("aceal.compare.selection")
    with pytest.raises(ValueError, match="label them first"):
        run_get_node(process, **{**inputs, "pool": cu_configurations(9, labelled=False)})
    with pytest.raises(ValueError, match="4 configurations are in both pool and test"):
        run_get_node(process, **{**inputs, "pool": inputs["pool"].extend(inputs["test"])})


# --- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def cli():
    from aiida_aceal.cli.root import main

    def run(*words, code=0):
        result = CliRunner().invoke(main, ["compare", "selection", *map(str, words)])
        assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
        return result.output

    return run


@pytest.fixture
def files(cu_atoms, tmp_path):
    write(tmp_path / "pool.extxyz", cu_atoms(14, seed=1), format="extxyz")
    write(tmp_path / "test.extxyz", cu_atoms(4, seed=2), format="extxyz")
    return tmp_path


def test_command(cli, files, aiida_profile):
    """From an input file to table and report, in the profile that was named."""
    own = {
        "title": "Copper by EMT", "pool": "pool.extxyz", "test": "test.extxyz", "sizes": [4, 7],
        "seeds": 1, "threads": 1,
        "basis": {"cutoff": 4.5, "nradmax_by_orders": [4, 2], "lmax_by_orders": [0, 1]},
        "strategies": ["d_optimal", {"name": "raw cur", "strategy": "cur", "options": {"scaled": False}}],
    }  # fmt: skip
    (files / "input.yaml").write_text(yaml.safe_dump(own))
    text = cli(files / "input.yaml", "--profile", aiida_profile.name, "-o", files / "out")
    assert "curves: 3 (1 seed)" in text
    assert "raw cur" in text
    numbers = json.loads((files / "out" / "report.json").read_text())
    assert set(numbers["strategies"]) == {"random", "d_optimal", "raw cur"}
    page = (files / "out" / "report.html").read_text()
    assert "Copper by EMT" in page
    assert "data:image/png;base64," in page


def test_dry_run_and_bad_input(cli, files):
    pool, test = files / "pool.extxyz", files / "test.extxyz"
    text = cli("--pool", pool, "--test", test, "--strategy", 'cur:{"scaled": false}', "--seeds", 3, "--dry-run")
    assert "strategies: random, cur scaled=false" in text
    assert "pool: 14 structures, 56 atoms" in text
    text = cli("--pool", pool, "--test-fraction", 0.25, "--dry-run")
    assert "pool: 10 structures, 40 atoms; test set: 4 structures" in text
    assert "strategies: random, uncertainty, d_optimal, cur, diversity, hybrid, viability" in text
    # the same structures in both: they stay in the test set only
    assert "4 duplicate structures left out" in cli("--pool", pool, "--pool", test, "--test", test, "--dry-run")
    assert "give either `test` (files) or `test_fraction`" in cli("--pool", pool, "--dry-run", code=2)
    assert "no such file" in cli("--pool", "nowhere.xyz", "--test", test, "--dry-run", code=2)
    assert "--sizes: numbers separated by commas" in cli("--pool", pool, "--test", test, "--sizes", "4-8", code=2)
    (files / "input.yaml").write_text("pool: pool.extxyz\ntest: test.extxyz\nstrategys: [random]\n")
    assert "unknown key 'strategys'; did you mean 'strategies'" in cli(files / "input.yaml", code=2)


def test_ensemble_in_place_of_gamma(inputs):
    """The same pool and seed: only the strategy that looks at the uncertainty chooses otherwise."""
    process = WorkflowFactory("aceal.compare.selection")
    wanted = {"random": {"strategy": "random"}, "uncertainty": {"strategy": "uncertainty"}}
    base = {**inputs, "strategies": wanted, "seeds": [0]}
    with enable_caching():
        _, plain = run_get_node(process, **base)
        settings = {**SETTINGS, "ensemble": {"members": 3}}
        _, node = run_get_node(process, **{**base, "settings": settings})
    assert node.is_finished_ok, node.exit_message

    def chosen(of, name):
        return [point["chosen"] for point in of.outputs.curves[f"{name}_seed_0"].get_dict()["points"]]

    assert chosen(node, "random") == chosen(plain, "random")
    assert chosen(node, "uncertainty")[0] == chosen(plain, "uncertainty")[0]
    assert chosen(node, "uncertainty")[1] != chosen(plain, "uncertainty")[1]


def test_ensemble_of_the_input_file_reaches_the_curves(files):
    from aiida_aceal.ace import AceError
    from aiida_aceal.inputs.compare_selection import check_comparison_input, prepare_comparison

    data = {"pool": "pool.extxyz", "test": "test.extxyz", "sizes": [4, 7], "ensemble": {"members": 3}}
    prepared = prepare_comparison(check_comparison_input(data), files)
    assert prepared.settings["ensemble"] == {"members": 3}
    with pytest.raises(AceError, match="ensemble"):
        check_comparison_input({**data, "ensemble": 3})
