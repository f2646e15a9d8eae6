"""One real campaign: what it stores, what it says, what a second one takes over, what goes wrong and how."""

import re
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.manage.caching import disable_caching, enable_caching
from aiida.plugins import WorkflowFactory
from small_campaign import builder_for, small

from aiida_aceal.ace import AceModel, build_potential
from aiida_aceal.fitting import fit_nonlinear
from aiida_aceal.report.campaign import judgement_lines, result_lines, write_report
from aiida_aceal.report.costs import cost_lines
from aiida_aceal.report.rows import generations, rows_of
from aiida_aceal.report.table import word
from aiida_aceal.uncertainty import ActiveSet
from aiida_aceal.workflows.base import output
from aiida_aceal.workflows.costs import campaign_costs


def jobs(node, label=None):
    found = [n for n in node.called_descendants if isinstance(n, orm.CalcJobNode)]
    return [n for n in found if label is None or n.process_label == label]


#: fits the energies exactly and nothing else: a lower training loss than any start, and useless forces
SPOILT = {"weights": {"kappa": 0.0}, "regularization": {"method": "ridge", "alpha": 1e-12}}


def test_campaign_converges_and_gets_better(finished_campaign):
    assert finished_campaign.is_finished_ok, finished_campaign.exit_message
    total = finished_campaign.outputs.summary.get_dict()
    rows = total["generations"]
    assert total["status"] == "converged"
    assert len(rows) >= 3
    last = rows[-1]
    assert last["md_steps_reached"] == last["md_steps_total"] == 400
    assert last["max_gamma"] <= last["gamma_stop"]
    assert rows[0]["holdout_forces_rmse"] > 1.2 * last["holdout_forces_rmse"]
    for row in rows[1:]:
        if row["status"] == "learned":
            assert 0 < row["n_labelled"] <= 6
            assert row["new_forces_rmse_before"] is not None
            assert row["new_forces_rmse_after"] is not None
    assert [row["n_training"] for row in rows] == sorted(row["n_training"] for row in rows)
    assert rows_of(finished_campaign) == rows


def test_costs_by_stage_stand_in_rows_and_summary(finished_campaign):
    total = finished_campaign.outputs.summary.get_dict()
    for row in total["generations"]:
        cost = row["cost"]
        assert cost["total"]["n_jobs"] == row["n_jobs"] - row["n_jobs_from_cache"]
        assert 0 < cost["rest"]["wall_seconds"] < cost["total"]["wall_seconds"]
        fits = cost["stages"]["fits"]  # none where the run met nothing new
        assert (fits["core_seconds"] > 0) == (fits["n_jobs"] > 0) == (row["status"] != "converged"), cost
        assert (cost["stages"]["md"]["n_jobs"] > 0) == (row["generation"] > 0)
    whole = total["cost"]["total"]["total"]
    outside = total["cost"]["campaign"]
    assert outside["stages"]["labels"]["n_jobs"] == 2  # the validation set is sampled, the test set labelled
    assert outside["stages"]["validation"]["n_jobs"] == 1
    made = [row["cost"]["total"] for row in total["generations"]] + [outside["total"]]
    assert whole["n_jobs"] == sum(part["n_jobs"] for part in made)
    assert whole["core_seconds"] == pytest.approx(sum(part["core_seconds"] for part in made), abs=0.1)
    fit = jobs(finished_campaign, "AceFitCalculation")[0].outputs.report["cost"]
    assert min(fit["wall_seconds"], fit["core_seconds"]) > 0


def test_the_best_potential_is_returned_with_what_belongs_to_it(finished_campaign):
    outputs, total = finished_campaign.outputs, finished_campaign.outputs.summary.get_dict()
    rows = total["generations"]
    learned = {row["generation"]: row["holdout_forces_rmse"] for row in rows if row["accepted"]}
    best = min(learned, key=learned.get)
    assert total["best_generation"] == best
    assert total["holdout_forces_rmse_best"] == learned[best]
    made = generations(finished_campaign)[best]
    for name in ("potential", "active_set", "validation_report"):
        assert outputs[name].uuid == output(made, name).uuid
    assert outputs.validation_report["forces"]["rmse"] == learned[best]
    assert ("latest" in outputs) == (best != max(learned))


def test_the_test_set_is_only_reported(finished_campaign):
    outputs, total = finished_campaign.outputs, finished_campaign.outputs.summary.get_dict()
    assert len(outputs.test) == 4
    assert outputs.test.has_labels("energy", "forces")
    users = outputs.test.base.links.get_outgoing(link_type=LinkType.INPUT_CALC).all_nodes()
    (evaluation,) = [user for user in users if user in finished_campaign.called_descendants]
    assert evaluation.process_label == "AceEvaluateCalculation"
    assert evaluation.inputs.potential.uuid == outputs.potential.uuid
    assert total["test_forces_rmse"] == outputs.test_report["forces"]["rmse"]
    assert total["n_test"] == 4
    lines = result_lines(finished_campaign, rows_of(finished_campaign))
    assert lines[0].startswith(f"Potential: of generation {total['best_generation']}, the best on the validation set")
    assert any(line.startswith("Validation force RMSE (gate, choice, calibration): ") for line in lines)
    assert any(line.startswith("Test RMSE (only reported): energy ") for line in lines)


def test_the_last_lines_judge_the_potential(finished_campaign, tmp_path):
    said = dict(line.split(": ", 1) for line in result_lines(finished_campaign, rows_of(finished_campaign)))
    report = finished_campaign.outputs.test_report.get_dict()
    forces = 1000 * report["forces"]["rmse"]
    labels = np.concatenate([atoms.get_forces() for atoms in finished_campaign.outputs.test.to_atoms()])
    assert report["spread"]["forces"] == pytest.approx(labels.std(), rel=1e-6)
    assert f"beside the labels of the test set: forces {forces:.3g} meV/A" in said["Errors"]
    fit = finished_campaign.outputs.potential.creator.outputs.report.get_dict()
    assert f"forces {1000 * fit['train']['forces']['rmse']:.3g} meV/A" in said["On the structures fitted"]
    assert said["Next"]
    text = write_report(finished_campaign, tmp_path / "report.html").read_text()
    assert text.index("<dt>Errors</dt>") < text.index("<dt>Campaign</dt>")


def test_a_generation_stores_only_what_is_new(finished_campaign):
    children = generations(finished_campaign)
    hashes = []
    for number, child in enumerate(children):
        assert child.inputs.generation.value == number
        known = (
            {digest for key in child.inputs.dataset for digest in child.inputs.dataset[key].hashes}
            if ("dataset" in child.inputs)
            else set()
        )
        assert known == set(hashes)
        labelled = output(child, "labelled")
        if labelled is not None:
            assert not known & set(labelled.hashes)
            hashes += labelled.hashes
            fit = child.base.links.get_outgoing(link_label_filter="fit").one().node
            assert len(fit.inputs.job.dataset) == number + 1
    final = [
        digest for key in finished_campaign.outputs.dataset for digest in finished_campaign.outputs.dataset[key].hashes
    ]
    assert sorted(final) == sorted(hashes)


def _steps(generation):
    links = generation.base.links.get_outgoing(link_type=LinkType.CALL_WORK)
    return {link.link_label: link.node for link in links.all()}


def test_every_step_is_a_process_of_its_own(finished_campaign):
    child = next(c for c in generations(finished_campaign) if c.outputs.generation_report["status"] == "learned")
    called = {
        link.link_label: link.node.process_label
        for link in child.base.links.get_outgoing(link_type=(LinkType.CALL_CALC, LinkType.CALL_WORK))
    }
    assert called["explore_md"] == "ExploreMdWorkChain"
    assert called["label_label"] == "LabelRestartWorkChain"
    assert called["maxvol"] == "maxvol"
    assert {called[name] for name in ("select", "before", "after", "holdout")} == {"RestartWorkChain"}
    assert called["fit"] == "FitRestartWorkChain"
    jobs = {name: [job.process_label for job in node.called] for name, node in _steps(child).items()}
    assert jobs["select"] == ["AceSelectCalculation"]
    assert jobs["label_label"] == ["AceLabelAseCalculation"]
    assert jobs["fit"] == ["AceFitCalculation"]
    window = child.outputs.window.get_dict()
    assert (window["gamma_lo"], window["gamma_hi"], window["reason"]) == (1.5, 20.0, "fixed")


def test_which_structures_a_generation_added_and_why(finished_campaign):
    """The question of the documentation: which structures did generation g add, why, and what did they cost."""
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={"id": finished_campaign.pk}, tag="campaign")
    query.append(
        orm.WorkChainNode, with_incoming="campaign", filters={"attributes.process_label": "GenerationWorkChain"},
        tag="generation",
    )  # fmt: skip
    query.append(orm.Data, with_incoming="generation", edge_filters={"label": "labelled"}, project="*", tag="new")
    query.append(orm.Int, with_outgoing="generation", edge_filters={"label": "generation"}, project="attributes.value")
    found = {number: node for node, number in query.all()}
    assert 0 in found
    later = [node for number, node in found.items() if number > 0]
    assert later
    for node in later:
        for atoms in node.to_atoms():
            assert atoms.info["reason"]
            assert atoms.info["gamma_max"] >= 1.5
            assert atoms.info["walker"] == "walker_000"


def test_gamma_of_the_training_set_is_at_most_one(finished_campaign):
    """The active set in force belongs to the potential in force and covers what it learnt."""
    outputs = finished_campaign.outputs
    model = AceModel(outputs.potential.get_potential())
    with outputs.active_set.as_file() as path:
        model.active_set = ActiveSet.load(path)
    atoms = [a for key in outputs.dataset for a in outputs.dataset[key].to_atoms()]
    results = model.evaluate_batch(atoms, forces=False, stress=False, gamma=True)
    assert max(result.gamma.max() for result in results) <= 1.001 + 1e-6


def test_every_decision_is_reported_with_numbers(finished_campaign):
    from aiida_aceal.report.campaign import decisions

    text = "\n".join(decisions(finished_campaign))
    for pattern in (
        r"campaign for Cu \(\d+ functions\)",
        r"generation 0: labelling 6 configurations \(initial\)",
        r"generation 1: explored \d+ of 400 steps, max gamma [\d.]+, \d+ candidates",
        r"generation 1: \d+ of \d+ candidates selected by d_optimal",
        r"generation 1: accepted potential<\d+>: validation RMSE [\d.]+ meV/atom",
        r"every run reached its full length with gamma <= 5: converged",
    ):
        assert re.search(pattern, text), pattern


def test_lines_name_the_step_they_come_from(finished_campaign):
    logs = orm.Log.collection.get_logs_for(generations(finished_campaign)[1])
    named = {re.match(r"\[\d+\|GenerationWorkChain\|(\w+)\]: generation 1: ", log.message)[1] for log in logs}
    inspected = {f"inspect_{name}" for name in ("exploration", "selection", "labels", "validation")}
    assert named == {"prepare", "explore", "label", "fit", "conclude", *inspected}


def test_context_holds_no_data(finished_campaign, checkpoint_sizes):
    """Checkpoints are written to the data base at every transition: they must stay small."""
    for node in [finished_campaign, *generations(finished_campaign)]:
        assert 0 < checkpoint_sizes[node.uuid] < 100_000


def test_scratch_is_cleaned(finished_campaign):
    """Work folders of jobs that ended well are gone after their generation."""
    for generation in generations(finished_campaign):
        for job in jobs(generation):
            assert output(job, "remote_folder").is_cleaned
            assert not list(Path(job.get_remote_workdir()).glob("*"))


def test_second_campaign_takes_over_all_jobs(finished_campaign, codes):
    with enable_caching():
        node = run_get_node(builder_for(small(), codes)).node
    assert node.is_finished_ok
    assert jobs(node)
    assert all(job.base.caching.is_created_from_cache for job in jobs(node))
    assert len(jobs(node)) == len(jobs(finished_campaign))
    first, second = (n.outputs.potential.content for n in (finished_campaign, node))
    assert first == second
    rows = node.outputs.summary["generations"]
    assert sum(row["n_jobs_from_cache"] for row in rows) == sum(row["n_jobs"] for row in rows) > 0


@pytest.mark.long
def test_same_seed_is_the_same_campaign(finished_campaign, codes):
    """Computed anew, not taken over: the same structures, grades and coefficients."""
    with disable_caching():
        node = run_get_node(builder_for(small(loop={"max_generations": 1}), codes)).node
    assert not any(job.base.caching.is_created_from_cache for job in jobs(node))
    for first, second in zip(generations(finished_campaign)[:2], generations(node), strict=True):
        assert output(first, "labelled").hashes == output(second, "labelled").hashes
        assert first.outputs.potential.content == second.outputs.potential.content
        reports = [node.outputs.generation_report.get_dict() for node in (first, second)]
        assert reports[0].get("max_gamma") == reports[1].get("max_gamma")


@pytest.mark.release
def test_another_seed_is_another_campaign(finished_campaign, codes):
    data = small(seed=4, loop={"max_generations": 1})
    with enable_caching():
        node = run_get_node(builder_for(data, codes)).node
    assert node.exit_status == 410
    assert "1 generations" in node.exit_message
    assert "potential" in node.outputs
    assert "summary" in node.outputs
    assert not any(job.base.caching.is_created_from_cache for job in jobs(node, "AceLammpsCalculation"))


def test_status_and_report_of_a_campaign(finished_campaign, aiida_profile, tmp_path):
    from click.testing import CliRunner

    from aiida_aceal.cli.root import main

    def cli(*words):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result.output

    text = cli("status", finished_campaign.pk, "--profile", aiida_profile.name)
    assert f"Campaign {finished_campaign.pk}: converged (" in text
    costs = cost_lines(campaign_costs(finished_campaign))
    assert "\n".join(costs) in text
    # beside the rows and costs: the heading, the potential, validation and test errors, the calibration, the state, and
    # the judgement
    judged = judgement_lines(finished_campaign, rows_of(finished_campaign))
    assert len(text.splitlines()) == len(generations(finished_campaign)) + len(costs) + len(judged) + 6
    assert "Test RMSE (only reported): " in text
    cli("report", finished_campaign.pk, "--profile", aiida_profile.name, "-o", tmp_path / "out")
    latest = {"latest.yaml", "latest.yace", "latest.asi"} if "latest" in finished_campaign.outputs else set()
    assert {path.name for path in (tmp_path / "out").iterdir()} == latest | {
        "report.html", "potential.yaml", "potential.yace", "potential.asi", "training.extxyz", "validation.extxyz",
        "test.extxyz",
    }  # fmt: skip
    page = (tmp_path / "out" / "report.html").read_text()
    assert "converged" in page
    assert "<dt>Test RMSE (only reported)</dt>" in page


@pytest.mark.long
def test_nothing_is_labelled_again_from_the_files_of_a_campaign(finished_campaign, codes, tmp_path):
    from aiida_aceal.report.campaign import write_files

    write_files(finished_campaign, tmp_path)
    data = small(loop={"max_generations": 0}, potential=str(tmp_path / "potential.yaml"))
    for key in ("basis", "initial"):
        del data[key]
    data["dataset"] = [str(tmp_path / "training.extxyz")]
    for role in ("validation", "test"):
        data[role] = [{"kind": "files", "paths": [str(tmp_path / f"{role}.extxyz")]}]
    node = run_get_node(builder_for(data, codes)).node
    assert node.exit_status == 410, node.exit_message
    assert {job.process_label for job in jobs(node)} == {"AceFitCalculation", "AceEvaluateCalculation"}
    assert sorted(node.outputs.validation.hashes) == sorted(finished_campaign.outputs.validation.hashes)
    before, after = finished_campaign.outputs.summary, node.outputs.summary
    assert after["n_training"] == before["n_training"]
    assert after["n_test"] == before["n_test"]


def test_a_label_that_fails_is_quarantined(finished_campaign, codes):
    """Two of twenty initial structures cannot be labelled: one message each, the campaign goes on."""
    data = small(loop={"max_generations": 0}, label={"settings": {"calculator": "emt", "max_force": 2.0}})
    del data["test"]
    data["limits"] = {"max_failed_labels": 0.4}
    data["initial"].append(
        {"kind": "rattled", "structure": {"bulk": "Cu", "cubic": True}, "count": 2, "amplitude": 0.4}
    )
    node = run_get_node(builder_for(data, codes)).node
    assert node.exit_status == 410
    row = node.outputs.summary["generations"][0]
    assert row["n_labelled"] == 6
    assert row["n_failed_labels"] >= 2
    assert all(item["hash"] and "force" in item["reason"] for item in row["quarantine"])


@pytest.mark.long
def test_too_many_failed_labels_end_the_campaign(finished_campaign, codes):
    data = small(label={"settings": {"calculator": "emt", "max_force": 1e-6}})
    del data["test"]
    node = run_get_node(builder_for(data, codes)).node
    assert node.exit_status == 401
    assert "Generation 0 failed" in node.exit_message
    assert generations(node)[0].exit_status in (403, 404)


def test_gate_refuses_a_worse_potential_and_keeps_the_old(finished_campaign, codes):
    """A generation whose fit looks at energies only: refused, the last potential and its set stay."""
    first = generations(finished_campaign)[1]
    builder = WorkflowFactory("aceal.generation").get_builder()
    for name in first.inputs:
        if name != "metadata":
            builder[name] = first.inputs[name]
    fitter = dict(first.inputs.fitter)
    fitter["settings"] = orm.Dict({"method": "linear", **SPOILT})
    builder.fitter = fitter
    with enable_caching():
        node = run_get_node(builder).node
    assert node.is_finished_ok
    row = node.outputs.generation_report.get_dict()
    assert row["status"] == "refused"
    assert "validation forces RMSE" in row["refused"]
    assert node.outputs.potential.uuid == first.inputs.potential.uuid
    assert node.outputs.active_set.uuid == first.inputs.active_set.uuid
    assert "refused_potential" in node.outputs
    assert "labelled" in node.outputs
    assert row["holdout_forces_rmse"] == pytest.approx(first.inputs.validation_report["forces"]["rmse"])


def _again(first, **changes):
    """Builder of the same generation with some inputs replaced, or taken out (None)."""
    builder = WorkflowFactory("aceal.generation").get_builder()
    for name, value in {**{name: first.inputs[name] for name in first.inputs}, **changes}.items():
        if name != "metadata" and value is not None:
            builder[name] = value
    return builder


@pytest.mark.long
def test_the_gate_compares_with_the_best_and_not_with_the_last(finished_campaign):
    """Better than the last is not enough: so errors could grow by the tolerance in every generation."""
    first = generations(finished_campaign)[1]
    better = first.outputs.validation_report.get_dict()
    better["forces"]["rmse"] *= 0.5
    best = {**first.inputs.best, "validation_report": orm.Dict(better)}
    with enable_caching():
        node = run_get_node(_again(first, best=best)).node
        tolerant = run_get_node(_again(first, best=best, gate={"enabled": True, "tolerance": 2.0})).node
    assert node.outputs.generation_report["status"] == "refused"
    assert "of the best so far" in node.outputs.generation_report["refused"]
    row = tolerant.outputs.generation_report.get_dict()
    assert (row["status"], row["accepted"], row["is_best"]) == ("learned", True, False)
    assert word(row) == "learned, not best"
    # exploration goes on with the new one, the best stays what it was
    assert tolerant.outputs.potential.uuid != first.inputs.potential.uuid
    assert tolerant.outputs.best.potential.uuid == first.inputs.best.potential.uuid
    assert tolerant.outputs.best.active_set.uuid == first.inputs.best.active_set.uuid
    assert tolerant.outputs.best.validation_report["forces"]["rmse"] == pytest.approx(better["forces"]["rmse"])


@pytest.mark.long
def test_a_worse_potential_explores_but_the_best_is_returned(finished_campaign, codes):
    """A tolerant gate and a spoilt fit: what the campaign was given is better, so it is what it returns."""
    window = {"gamma_lo": 1.01, "gamma_hi": 20.0, "gamma_stop": 1.01}
    data = small(seed=11, loop={"max_generations": 1}, window=window, gate={"tolerance": 1e6})
    outputs = finished_campaign.outputs
    builder = builder_for({**data, "fit": {"settings": SPOILT}}, codes)
    given = {name: outputs[name] for name in ("potential", "active_set", "validation", "test")}
    sets = {key: outputs.dataset[key] for key in outputs.dataset}
    node = run_get_node(_changed(builder, **given, initial=None, dataset=sets, sampler=None)).node
    assert node.exit_status == 410
    assert "the best potential so far (the one given at the start)" in node.exit_message
    row = node.outputs.summary["generations"][0]
    assert (row["accepted"], row["is_best"]) == (True, False)
    assert node.outputs.potential.uuid == outputs.potential.uuid
    assert node.outputs.active_set.uuid == outputs.active_set.uuid
    made = generations(node)[0]
    assert node.outputs.latest.potential.uuid == made.outputs.potential.uuid
    assert node.outputs.latest.active_set.check_potential(made.outputs.potential) is None
    assert node.outputs.test_report["forces"]["rmse"] == pytest.approx(outputs.test_report["forces"]["rmse"])
    assert node.outputs.summary["best_generation"] is None


def test_a_given_potential_that_stays_the_best_gets_an_active_set(finished_campaign, codes):
    """The first fit is accepted although it is worse: what was given is the best, and needs a set of its own."""
    first = generations(finished_campaign)[0]
    fitter = dict(first.inputs.fitter)
    fitter["settings"] = orm.Dict({"method": "linear", **SPOILT})
    potential, dataset = finished_campaign.outputs.potential, {"first": first.outputs.labelled}
    changes = {"potential": potential, "dataset": dataset, "initial": None, "gate": {"enabled": False}}
    with enable_caching():
        node = run_get_node(_again(first, fitter=fitter, validation=first.outputs.validation, **changes)).node
    assert node.is_finished_ok, node.exit_message
    assert node.outputs.generation_report["accepted"] is True
    assert node.outputs.generation_report["is_best"] is False
    assert node.outputs.potential.uuid != potential.uuid
    assert node.outputs.active_set.check_potential(node.outputs.potential) is None
    assert node.outputs.best.potential.uuid == potential.uuid
    assert node.outputs.best.active_set.check_potential(potential) is None
    assert node.outputs.best.validation_report["forces"]["rmse"] < node.outputs.validation_report["forces"]["rmse"]


@pytest.mark.release
@pytest.mark.parametrize("kind", ["linear", "full"])
def test_a_given_potential_explores_although_the_first_fit_is_refused(finished_campaign, codes, tmp_path, kind):
    """The data at hand are fewer than those the potential came from: it stays, and needs an active set of its own."""
    data = small(loop={"max_generations": 1}, activeset={"kind": kind})
    basis = data.pop("basis")
    if kind == "linear":
        potential = finished_campaign.outputs.potential.get_potential()
        data["fit"] = {"settings": SPOILT}
    else:  # by a job, and anew: a full set belongs to the coefficients
        frames = [
            a for key in finished_campaign.outputs.dataset for a in finished_campaign.outputs.dataset[key].to_atoms()
        ]
        start = build_potential({"elements": ["Cu"], **basis, "embedding": "sqrt"})
        potential = fit_nonlinear(start, frames, {"method": "nonlinear", "nonlinear": {"evaluations": 60}}).potential
        spoilt = {
            "nonlinear": {"evaluations": 1, "start": "linear"},
            "regularization": {"method": "ridge", "alpha": 1e6},
        }
        data["fit"] = {"settings": {"method": "nonlinear", **spoilt}}
        data["activeset"]["calcfunction_below_mb"] = 0.0
    potential.write(tmp_path / "given.yaml")
    data["potential"] = str(tmp_path / "given.yaml")
    with enable_caching():
        node = run_get_node(builder_for(data, codes)).node
    assert node.exit_status == 410, node.exit_message
    first, second = generations(node)
    assert first.outputs.generation_report["status"] == "refused"
    assert first.outputs.potential.uuid == first.inputs.potential.uuid
    active_set = first.outputs.active_set
    assert active_set.kind == kind
    assert active_set.check_potential(first.inputs.potential) is None
    assert second.inputs.active_set.uuid == active_set.uuid
    assert second.outputs.generation_report["md_steps_reached"] > 0
    assert second.outputs.generation_report["max_gamma"] > 1.0


def test_inputs_that_do_not_fit_are_refused_at_submission(finished_campaign, codes):
    builder = builder_for(small(), codes)
    unlabelled = builder.initial
    with pytest.raises(ValueError, match="not all configurations have energy and forces"):
        run_get_node(_changed(builder, dataset={"mine": unlabelled}))
    with pytest.raises(ValueError, match="there is nothing to fit"):
        run_get_node(_changed(builder, initial=None))
    with pytest.raises(ValueError, match="either `validation`"):
        run_get_node(_changed(builder, sampler=None))
    with pytest.raises(ValueError, match="either `validation`"):
        run_get_node(_changed(builder, validation=unlabelled))
    with pytest.raises(ValueError, match="either `test`"):
        run_get_node(_changed(builder, test_sampler=builder.sampler))
    with pytest.raises(
        ValueError, match=r"test: 2 of 2 structures stand in `initial` as well \(the first: number 0, init"
    ):
        run_get_node(_changed(builder, test=unlabelled.select([1, 4])))
    with pytest.raises(ValueError, match="requires a fitted"):
        run_get_node(_changed(builder, active_set=finished_campaign.outputs.active_set))


def _changed(builder, **changes):
    """Copy of a builder with some inputs replaced, or taken out (None)."""
    copy = builder.process_class.get_builder()
    for key, value in {**builder._inputs(prune=True), **changes}.items():
        if value is not None:
            copy[key] = value
    return copy


def test_going_on_from_a_finished_campaign(finished_campaign, codes):
    """Potential, active set and data of one campaign start another: no labels, no generation 0."""
    builder = builder_for(small(seed=11, loop={"max_generations": 1}), codes)
    outputs = finished_campaign.outputs
    builder = _changed(
        builder,
        initial=None,
        potential=outputs.potential,
        active_set=outputs.active_set,
        dataset={key: outputs.dataset[key] for key in outputs.dataset},
        validation=outputs.validation,
        sampler=None,
    )
    node = run_get_node(builder).node
    assert node.is_finished
    assert node.exit_status in (0, 410)
    rows = node.outputs.summary["generations"]
    assert [row["generation"] for row in rows] == [1]
    assert np.isfinite(rows[0]["max_gamma"])
