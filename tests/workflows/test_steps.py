"""Steps of a generation alone: what they ask to launch, and what they make of stored processes that have ended."""

import ast
from pathlib import Path

import pytest
from aiida import orm
from aiida.common.extendeddicts import AttributeDict
from aiida.common.links import LinkType
from aiida.orm.utils.serialize import deserialize_unsafe, serialize
from plumpy.process_states import ProcessState

from aiida_aceal.workflows import generation
from aiida_aceal.workflows.base import StepError, why
from aiida_aceal.workflows.generation import (
    active_set,
    conclude,
    explore,
    fit,
    gate,
    label,
    properties,
    score,
    select,
    validate,
)
from aiida_aceal.workflows.generation.state import State, first_state
from aiida_aceal.workflows.generation.workchain import GenerationWorkChain
from aiida_aceal.workflows.sections import filled

WINDOW = {"gamma_lo": 2.0, "gamma_hi": 10.0, "gamma_stop": 5.0, "reason": "fixed"}


def call(_, function, **inputs):
    """What `call_once` of a WorkChain does, without a WorkChain."""
    result, node = function.run_get_node(**inputs)
    if not node.is_finished_ok:
        raise StepError(why(node))
    return result


def ended(status=0, message=None, **outputs):
    """A stored job that has ended, with its outputs."""
    node = orm.CalcJobNode().store()
    for name, data in outputs.items():
        data = orm.Dict(data) if isinstance(data, dict) else data.clone() if data.is_stored else data
        data.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label=name)
        data.store()
    node.set_process_state(ProcessState.FINISHED)
    node.set_exit_status(status)
    if message:
        node.set_exit_message(message)
    return node


def exploration(gamma, status="completed", steps=100):
    return {"status": status, "max_gamma": gamma, "steps_reached": steps, "steps_total": 100}


def explored(children, datasets=None, quarantine=(), tests=None):
    given = {"datasets": datasets or {}, "quarantine": quarantine, "tests": tests or {}}
    return explore.collect(children=children, gamma_stop=5.0, call=call, **given)


def errors(forces, energy=0.001):
    return {"energy": {"rmse": energy}, "forces": {"rmse": forces}}


def judged(potential, made, standing, new, best, status="explored", enabled=True, tolerance=0.25):
    return gate.decide(
        new=new,
        best=best,
        enabled=enabled,
        tolerance=tolerance,
        status=status,
        potential=potential,
        active_set=made,
        standing=standing,
    )


@pytest.fixture
def settings():
    return filled("activeset", {})


@pytest.fixture
def graded(cu_potential, cu_configurations, settings, aceal_worker_code):
    """A potential and its active set, made by the step."""
    potential, sets = cu_potential().store(), {"first": cu_configurations(8).store()}
    made = active_set.start(
        potential=potential, datasets=sets, settings=settings, previous=None, call=call,
        worker={"code": aceal_worker_code},
    )  # fmt: skip
    assert not made.children
    return potential, made.active_set, sets


def test_only_two_classes_know_the_context():
    """Steps state what they take and give: nothing else comes in or goes out by `self.ctx` or `self.inputs`."""
    found = {"ctx": set(), "inputs": set()}
    for path in Path(generation.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in found and getattr(node.value, "id", None) == "self":
                found[node.attr].add(path.stem)
    assert found == {"ctx": {"running"}, "inputs": {"workchain", "running", "given"}}


def test_every_failure_that_a_step_names_is_an_exit_code():
    named = set()
    for path in Path(generation.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Failure":
                named.add(node.args[0].value)
    codes = GenerationWorkChain.spec().exit_codes
    # 410: nothing has failed, the structures wait for labels
    assert named == {name for name, code in codes.items() if 401 <= code.status <= 410}


def test_state_survives_a_checkpoint(cu_configurations):
    node = cu_configurations().store()
    state = first_state(3, WINDOW, explores=True)
    assert (state.facts["status"], state.facts["gamma_hi"], state.node("candidates")) == ("explored", 10.0, None)
    state = state.changed({"n_candidates": 4, "ensemble": {"max_dF": 0.1}}, candidates=node)
    again = State(**deserialize_unsafe(serialize(AttributeDict({"state": state.plain()}))).state)
    assert again == state
    assert again.node("candidates").uuid == node.uuid
    assert again.changed({}, candidates=None).candidates is None


def test_candidates_of_all_explorers_without_what_is_known(cu_configurations):
    first, second = cu_configurations(3, seed=1).store(), cu_configurations(3, seed=2).store()
    children = {
        "base": ended(report=exploration(30.0), candidates=first),
        "md": ended(report=exploration(8.0), candidates=second),
    }
    found = explored(children, {"old": first.select([0]).store()}, [second.hashes[2]])
    assert found.failure is None
    assert not found.converged
    assert found.candidates.hashes == [*first.hashes[1:], *second.hashes[:2]]
    assert {info["explorer"] for info in found.candidates.infos} == {"base", "md"}
    assert found.facts == {"n_candidates": 4}
    assert found.lines == ["explored 100 of 100 steps, max gamma 30, 4 candidates"]
    nothing = explored(children, {"old": first, "older": second})
    assert nothing.candidates is None
    assert nothing.facts == {"n_candidates": 0, "status": "no_candidates"}
    assert nothing.lines[-1] == "not converged, but no configuration lies in the window"


def test_what_errors_are_measured_on_is_no_candidate(cu_configurations):
    found = cu_configurations(4, seed=3)
    child = ended(report=exploration(9.0), candidates=found)
    left = explored({"md": child}, tests={"validation": found.select([0, 2]), "test": cu_configurations(1, seed=9)})
    assert left.candidates.hashes == [found.hashes[1], found.hashes[3]]
    assert "2 candidates left out: errors are measured on the same structures" in left.lines
    nothing = explored({"md": child}, tests={"properties": found})
    assert nothing.facts["status"] == "no_candidates"


def test_converged_only_if_every_explorer_ended_well():
    good = ended(report=exploration(4.0))
    found = explored({"md": good})
    assert found.converged
    assert found.facts["status"] == "converged"
    broken = ended(310, "no time left", report=exploration(4.0))
    mixed = explored({"base": broken, "md": good})
    assert mixed.failure is None
    assert not mixed.converged
    assert "exit 310: no time left" in mixed.lines[0]
    failed = explored({"base": broken})
    assert failed.failure.name == "ERROR_EXPLORATION_FAILED"
    assert "no time left" in failed.failure.values["reason"]


def test_failed_scoring_leaves_the_decision_to_gamma(cu_configurations):
    candidates = cu_configurations().store()
    given = {"candidates": candidates, "explorations": [exploration(9.0)], "call": call}
    both = {"candidates": "ensemble", "factor": 2.0}
    found = score.collect(child=ended(302, "no memory"), settings=both, **given)
    assert found.candidates is candidates
    assert "gamma alone decides" in found.lines[0]


@pytest.mark.parametrize(("limit", "kept"), [(0.15, 1), (0.4, 0)])
def test_the_ensemble_decides_by_factor_times_its_threshold(cu_atoms, limit, kept):
    from aiida_aceal.data.dataset import ConfigurationsData

    frames = cu_atoms(3, labelled=False)
    for atoms, value in zip(frames, (0.1, 0.25, 0.5), strict=True):
        atoms.info["dF"] = value
    scored = ConfigurationsData.from_atoms(frames, source="explore")
    numbers = {"dE": {"max": 0.01}, "dF": {"max": 0.5, "n_above": kept}, "use": "forces", "members": 3}
    child = ended(report={"ensemble": {**numbers, "thresholds": {"forces": limit}}}, graded=scored)
    given = {"child": child, "candidates": scored, "explorations": [exploration(9.0)], "call": call}
    found = score.collect(settings={"candidates": "ensemble", "factor": 2.0}, **given)
    assert found.facts["ensemble"]["threshold"] == 2.0 * limit
    assert found.facts["n_candidates"] == kept
    if kept:
        assert found.candidates.hashes == scored.hashes[2:]
        assert "status" not in found.facts
    else:
        assert found.candidates is None
        assert found.facts["status"] == "converged"  # the runs were complete
    gamma = score.collect(settings={"candidates": "gamma", "factor": 2.0}, **given)
    assert gamma.candidates.hashes == scored.hashes
    assert "n_candidates" not in gamma.facts


def test_selection(cu_configurations):
    chosen = cu_configurations(2).store()
    found = select.collect(
        child=ended(selected=chosen, report={"notes": ["a note"]}), strategy="d_optimal", n_candidates=7
    )
    assert found.selected.hashes == chosen.hashes
    assert found.lines == ["2 of 7 candidates selected by d_optimal", "a note"]
    none = select.collect(child=ended(report={}), strategy="d_optimal", n_candidates=7)
    assert none.facts == {"n_selected": 0, "status": "no_candidates"}
    assert select.collect(child=ended(302), strategy="x", n_candidates=7).failure.name == "ERROR_SELECTION_FAILED"


def test_what_needs_labels(cu_configurations):
    with_labels, without = cu_configurations(2), cu_configurations(2, seed=1, labelled=False)
    wanted = label.to_label(initial=without, selected=None, validation=with_labels)
    assert wanted == {"initial": without}
    again = label.to_label(initial=with_labels, selected=with_labels, validation=without)
    assert again == {"label": with_labels, "validation": without}, "what was selected is always labelled"
    assert label.to_label(initial=None, selected=None, validation=with_labels) == {}


def test_labels_and_their_failures(cu_configurations):
    asked, validation = cu_configurations(4, labelled=False), cu_configurations(2, seed=1, labelled=False)
    got = cu_configurations(3)
    failure = {"hash": asked.hashes[3], "reason": "not converged"}
    cost = {"wall_seconds": 2.0, "core_seconds": 4.0}
    children = {
        "label": ended(labelled=got, report={**cost, "failures": [failure]}),
        "validation": ended(labelled=cu_configurations(2, seed=1), report=cost),
    }
    given = {"wanted": {"label": asked, "validation": validation}, "children": children}
    found = label.collect(tolerated=0.2, **given)
    assert found.failure is None
    assert found.labelled.hashes == got.hashes
    assert len(found.validation) == 2
    assert found.quarantine == [failure]
    numbers = {"n_labelled": 3, "n_validation": 2, "n_failed_labels": 1}
    assert found.facts == {**numbers, "label_wall_seconds": 4.0, "label_core_seconds": 8.0}
    assert found.lines[-1] == "5 of 6 configurations labelled in 8.0 core seconds"
    strict = label.collect(tolerated=0.1, **given).failure
    assert strict.name == "ERROR_TOO_MANY_FAILED_LABELS"
    assert strict.values == {"failed": 1, "total": 6, "tolerated": "10 %"}
    skipped = {"n_not_tried": 1, "not_tried": [{"hash": "x", "reason": "out of time: not started"}]}
    children["label"] = ended(311, "left something out", labelled=got, report={**cost, "failures": [], **skipped})
    found = label.collect(tolerated=0.0, **given)
    assert found.failure is None, "what nobody tried is no failure"
    assert (found.quarantine, found.facts["n_failed_labels"]) == ([], 0)
    assert "1 configuration not tried, not quarantined (out of time: not started)" in found.lines[0]
    assert found.lines[-1] == "5 of 6 configurations labelled in 8.0 core seconds"
    children["label"] = ended(303, "nothing", report={"failures": [failure]})
    lost = label.collect(tolerated=0.9, **given).failure
    assert lost.name == "ERROR_LABELLING_FAILED"
    assert lost.values["reason"].endswith("not converged")


def test_coefficients_that_are_not_finite_are_refused_if_there_is_something_to_keep(cu_potential):
    fitted, basis = cu_potential().store(), cu_potential(scale=0.0).store()
    new = fit.collect(child=ended(potential=cu_potential(seed=1)), standing=basis)
    assert new.potential.is_fitted
    assert new.failure is None
    refused = fit.collect(child=ended(validate.NOT_FINITE, "nan"), standing=fitted)
    assert (refused.potential, refused.failure) == (None, None)
    assert refused.facts["accepted"] is False
    assert refused.lines[0].startswith(f"new potential REFUSED, potential<{fitted.pk}> stays in force: the fit gave")
    assert fit.collect(child=ended(validate.NOT_FINITE, "nan"), standing=basis).failure.name == "ERROR_FIT_FAILED"
    assert fit.collect(child=ended(302), standing=fitted).failure.name == "ERROR_FIT_FAILED"


def test_errors_of_the_new_potential(cu_potential):
    fitted, basis = cu_potential().store(), cu_potential(scale=0.0).store()
    holdout = ended(report=errors(0.1))
    assert validate.collect(children={"holdout": holdout}, standing=fitted).report == errors(0.1)
    children = {"holdout": holdout, "after": ended(validate.NOT_FINITE, "nan")}
    refused = validate.collect(children=children, standing=fitted)
    assert (refused.report, refused.failure, refused.facts["status"]) == (None, None, "refused")
    assert validate.collect(children=children, standing=basis).failure.name == "ERROR_VALIDATION_FAILED"


def test_the_gate(graded, cu_potential):
    potential, made, _ = graded
    standing = cu_potential(seed=1).store()
    given = (potential, made, standing)
    best = judged(*given, errors(0.10), errors(0.11))
    assert (best.accepted, best.is_best, best.facts["status"]) == (True, True, "learned")
    assert best.lines[0].endswith(
        f"validation RMSE 1 meV/atom, 100 meV/A, the best so far; rank of the active set {made.rank}"
    )
    later = judged(*given, errors(0.12), errors(0.11))
    assert (later.accepted, later.is_best) == (True, False)
    worse = judged(*given, errors(0.14), errors(0.11))
    assert not worse.accepted
    assert worse.facts["status"] == "refused"
    assert f"potential<{standing.pk}> stays in force: validation forces RMSE" in worse.lines[0]
    assert judged(*given, errors(0.14), errors(0.11), enabled=False).accepted
    assert judged(*given, errors(0.14), errors(0.11), tolerance=0.3).accepted
    assert judged(*given, errors(0.14), {}).is_best, "nothing is known that it could be worse than"
    assert judged(*given, errors(0.1), {}, status="initial").facts["status"] == "initial"
    nothing = judged(*given, errors(None), errors(0.11), enabled=False)
    assert not nothing.accepted
    assert nothing.facts["refused"] == "its validation errors are not finite"
    basis = cu_potential(scale=0.0).store()
    assert judged(potential, made, basis, errors(float("nan")), {}).failure.name == "ERROR_NO_POTENTIAL"
    assert judged(potential, made, basis, errors(9.0), errors(0.1)).accepted, "a basis is no better"


def worst(percent, **more):
    row = {"quantity": "independent_GPa.C44", "relative_percent": percent}
    return {"worst": None if percent is None else row, **more}


@pytest.mark.parametrize(
    ("entry", "best", "refused"),
    [
        (worst(4.9), {"elastic": 0.01}, None),
        (worst(-6.0), {"elastic": 0.10}, None),
        (worst(-6.0), None, None),
        (worst(-6.0), {}, None),
        (worst(-6.0), {"elastic": 0.055}, "C44 is off by 6 % (bound 5 %), best so far 5.5 %"),
        (
            worst(None, potential_error="no minimum"),
            {"elastic": 0.2},
            "elastic: no minimum (bound 5 %), best so far 20 %",
        ),
        (worst(None, potential_error="no minimum"), {"elastic": None}, None),
        (worst(7.0), {"elastic": None}, None),
        (worst(None, reference_error="no label"), {"elastic": 0.01}, None),
    ],
)
def test_bounds_of_properties_at_the_gate(cu_potential, entry, best, refused):
    standing, basis = cu_potential(seed=1).store(), cu_potential(scale=0.0).store()
    child = ended(summary={"properties": {"elastic": entry}, "n_labelled": 3, "label_core_seconds": 1.5})
    given = {"child": child, "bounds": {"elastic": 0.05}, "best": best}
    verdict = properties.collect(standing=standing, **given)
    if refused is None:
        assert "accepted" not in verdict.facts
    else:
        assert refused in verdict.facts["refused"]
        assert (verdict.facts["accepted"], verdict.facts["is_best"], verdict.facts["status"]) == (
            False,
            False,
            "refused",
        )
        assert f"potential<{standing.pk}> stays in force" in verdict.lines[-1]
    assert verdict.facts["n_property_labels"] == 3
    judged = "reference_error" not in entry
    assert list(verdict.facts["property_errors"]) == (["elastic"] if judged else [])
    assert ("elastic is not judged: no label" in verdict.lines) != judged
    assert "accepted" not in properties.collect(standing=basis, **given).facts, "there is nothing to keep instead"


def test_properties_that_failed_altogether_refuse_nothing(cu_potential):
    given = {"bounds": {"elastic": 0.05}, "best": {"elastic": 0.0}, "standing": cu_potential().store()}
    verdict = properties.collect(child=ended(401, "No structure could be labelled"), **given)
    assert not verdict.facts
    assert verdict.lines[0].startswith("the properties could not be judged: ")


def test_large_active_sets_are_made_by_a_job_that_goes_on_if_it_can(graded, cu_potential, settings, aceal_worker_code):
    potential, previous, sets = graded
    worker = {"code": aceal_worker_code}
    given = {"datasets": sets, "previous": previous, "call": call, "worker": worker, "prefix": "old_"}
    big = {**settings, "calcfunction_below_mb": 0.0}

    def job(potential=potential, **changes):
        made = active_set.start(potential=potential, settings={**big, **changes}, **given)
        assert (made.active_set, made.failure) == (None, None)
        (child,) = made.children
        assert child.label == active_set.label_of("old_") == "old_active_set_job"
        assert "calcfunction_below_mb" not in child.inputs["settings"].get_dict()
        return child.inputs

    assert job()["previous"].uuid == previous.uuid
    assert "previous" not in job(kind="full")
    assert "previous" not in job(clusters={"count": 2})
    assert active_set.collect(job=ended(active_set=previous)).active_set.rank == previous.rank
    assert active_set.collect(job=ended(302, active_set=previous)).failure.name == "ERROR_ACTIVE_SET_FAILED"


def test_an_active_set_that_cannot_be_built_is_a_failure(graded, settings):
    """Local sets by a name that the structures do not have."""
    potential, _, sets = graded
    given = {"potential": potential, "datasets": sets, "previous": None, "worker": {}, "call": call}
    made = active_set.start(settings={**settings, "group_key": "phase"}, **given)
    assert made.failure.name == "ERROR_ACTIVE_SET_FAILED"
    assert "phase" in made.failure.values["reason"]


def test_what_is_in_force_and_what_is_the_best():
    def set_of(name, ensemble=None):
        return {
            **{key: f"{name} {key}" for key in ("potential", "active_set", "validation_report")},
            "ensemble": ensemble,
        }

    made, before, best = set_of("new"), set_of("old", "old ensemble"), set_of("best", "its ensemble")
    refused = conclude.in_force(accepted=False, is_best=False, made=made, before=before, best=best)
    assert refused == (before, best)
    assert conclude.in_force(accepted=None, is_best=False, made=made, before=before, best=None) == (before, before)
    later, still = conclude.in_force(accepted=True, is_best=False, made=made, before=before, best=best)
    assert still == best
    assert later == {**made, "ensemble": "old ensemble"}, "what explores keeps the last ensemble there is"
    _, first = conclude.in_force(accepted=True, is_best=True, made=made, before=before, best=best)
    assert first == made, "an older ensemble belongs to another potential"
