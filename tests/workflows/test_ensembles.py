"""An ensemble beside the potential of a campaign."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from small_campaign import builder_for, small

from aiida_aceal.common.errors import AceError
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.report.rows import generations
from aiida_aceal.workflows.base import output
from aiida_aceal.workflows.ensemble_settings import check_ensemble
from aiida_aceal.workflows.generation.score import choose_uncertain

pytestmark = pytest.mark.long


def test_campaign_passes_its_ensemble_on(codes):
    wanted = {"members": 3, "method": "subsample", "candidates": "ensemble", "selection": "ensemble"}
    data = small(ensemble=wanted, selection={"strategy": "uncertainty", "count": 3}, loop={"max_generations": 1})
    node = run_get_node(builder_for(data, codes)).node
    first, second = generations(node)
    made = first.outputs.ensemble
    assert (len(made), made.method) == (3, "subsample")
    assert second.inputs.ensemble_data.uuid == made.uuid
    row = second.outputs.generation_report.get_dict()
    assert row["ensemble"]["threshold"] == pytest.approx(made.thresholds["forces"])
    assert row["n_candidates"] > 0
    candidates = second.outputs.candidates.to_atoms()
    dF = made.get_ensemble().indicators(candidates)[1]
    np.testing.assert_allclose([atoms.info["dF"] for atoms in candidates], dF, rtol=1e-6)
    assert (dF > made.thresholds["forces"]).all()
    # the largest dF comes first
    selected = {atoms.info["aceal_hash"] for atoms in second.outputs.selected.to_atoms()}
    assert candidates[int(np.argmax(dF))].info["aceal_hash"] in selected
    last = output(second, "ensemble")
    assert last.uuid == node.outputs.ensemble.uuid
    assert (last.uuid != made.uuid) == row["accepted"]


def test_no_threshold_to_decide_by(finished_campaign):
    """The ensemble shall choose, but its training set had no forces to tell: refused before anything is explored."""
    from aiida_aceal.data.ensemble import EnsembleData
    from aiida_aceal.fitting import Ensemble

    second = generations(finished_campaign)[1]
    potential = second.inputs.potential.get_potential()
    reason = "no threshold of dF: only 2 structures with labelled forces that do not vanish by symmetry"
    members = Ensemble(
        (potential, potential), "weights", thresholds={"energy": 0.1}, report={"threshold_notes": [reason]}
    )
    builder = second.get_builder_restart()
    builder.ensemble = orm.Dict({"members": 2, "candidates": "ensemble"})
    builder.ensemble_data = EnsembleData(ensemble=members)
    node = run_get_node(builder).node
    assert node.exit_status == 409
    assert reason in node.exit_message
    assert not node.called


def test_only_uncertain_candidates_stay(aiida_profile, cu_atoms):
    frames = cu_atoms(4, labelled=False)
    for atoms, value in zip(frames, (0.1, 0.4, 0.2, 0.5)):
        atoms.info["dF"] = value
    node = ConfigurationsData.from_atoms(frames, source="explore").store()
    chosen = choose_uncertain(node, orm.Dict({"name": "dF", "threshold": 0.3}))
    assert chosen["candidates"].hashes == [node.hashes[1], node.hashes[3]]
    none = choose_uncertain(node, orm.Dict({"name": "dF", "threshold": 0.6}))
    assert "candidates" not in none
    assert none["report"]["n_uncertain"] == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"member": 4}, "did you mean 'members'"),
        ({"members": 1}, "at least 2 members"),
        ({"members": 4, "candidates": "both"}, "must be 'gamma' or 'ensemble', found 'both'"),
        ({"candidates": "ensemble"}, "give the number of members"),
        ({"members": 4, "factor": 0}, "positive number"),
    ],
)
def test_wrong_settings(settings, words):
    assert words in check_ensemble(settings)


def test_off_by_default_and_checked_with_the_fit(codes):
    assert check_ensemble({}) is None
    assert builder_for(small(), codes).ensemble["members"] == 0
    with pytest.raises(AceError, match="strong does not go with method: linear"):
        builder_for(small(ensemble={"members": 3, "method": "strong"}), codes)


def test_an_ensemble_that_cannot_decide_is_refused(aiida_profile, small_potential, cu_potential):
    """At submission: without thresholds, or of other elements."""
    from aiida_aceal.data.ensemble import EnsembleData
    from aiida_aceal.fitting import Ensemble
    from aiida_aceal.workflows.generation.workchain import GenerationWorkChain

    members = Ensemble(tuple(small_potential(seed=k) for k in range(2)), "weights")
    inputs = {"dataset": {"a": 1}, "potential": cu_potential(), "ensemble_data": EnsembleData(ensemble=members)}
    assert "no thresholds" in GenerationWorkChain.validate_inputs(inputs, None)
    inputs["potential"] = cu_potential(elements=("Cu", "Ni"))
    assert "does not know Ni" in GenerationWorkChain.validate_inputs(inputs, None)
