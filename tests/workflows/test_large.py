"""Candidates above `max_label_atoms`: the loop labels cuts of their unknown environments instead."""

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from small_campaign import CELL, builder_for, small

from aiida_aceal.report.rows import generations
from aiida_aceal.workflows.base import output
from aiida_aceal.workflows.generation.cut import join_cuts, split_large
from aiida_aceal.workflows.sections import check_section

pytestmark = pytest.mark.long

BIG = [{"kind": "supercells", "structure": CELL, "sizes": [[5, 5, 5]]}]


@pytest.fixture(scope="module")
def run_input():
    data = small(
        explore={"md": {"settings": {"steps": 40, "temperature_K": 500.0}}},
        limits={"max_label_atoms": 150, "max_cut_candidates": 1},
        loop={"max_generations": 1},
        selection={"count": 3},
    )
    data["explore"]["md"]["start"] = BIG
    data["validation"] = [{"kind": "rattled", "structure": CELL, "supercell": 2, "count": 2, "amplitude": 0.08}]
    data["limits"]["extract"] = {"max_cuts": 2, "max_evaluations": 60, "tries": 1, "sizes": 4}
    return data


def test_a_campaign_with_runs_too_large_for_labels(run_input, codes):
    """500 atoms in the dynamics, at most 150 in a label."""
    _, node = run_get_node(builder_for(run_input, codes))
    assert node.exit_status in (0, 410), node.exit_message
    child = generations(node)[1]
    row = child.outputs.generation_report.get_dict()
    assert row["n_large"] >= 1
    assert row["n_cuts"] >= 1
    assert 0 < row["n_candidates"] <= row["n_cuts"], "nothing small came out of this run"
    assert row["n_labelled"] >= 1
    labelled = child.outputs.labelled
    assert labelled.sizes.max() <= 150
    restarted = child.base.links.get_outgoing(link_label_filter="extract", link_type=LinkType.CALL_WORK).one().node
    step = restarted.base.links.get_outgoing(link_type=LinkType.CALL_CALC).one().node
    assert step.inputs.settings["gamma_lo"] == row["gamma_lo"]
    assert step.inputs.settings["max_atoms"] == 150
    large = step.inputs.configurations
    assert set(large.sizes) == {500}
    for atoms in labelled.to_atoms():
        assert atoms.info["parent"] in large.hashes
        assert atoms.info["parent_atoms"] == 500
        assert atoms.info["walker"] == "walker_000"
        assert "/atom" in atoms.info["source"]
        assert atoms.info["gamma_max"] > row["gamma_lo"]
        assert np.isfinite(atoms.get_forces()).all()
    # the whole way in the graph: labels <- selection <- cuts <- frames of the walkers
    frames = output(child.base.links.get_outgoing(link_label_filter="explore_md").one().node, "candidates")
    query = orm.QueryBuilder()
    query.append(orm.Data, filters={"uuid": frames.uuid}, tag="frames")
    query.append(orm.Data, with_ancestors="frames", filters={"uuid": labelled.uuid})
    assert query.count() == 1


def test_small_candidates_stay_and_large_ones_are_thinned(aiida_profile):
    from ase.build import bulk

    from aiida_aceal.data.dataset import ConfigurationsData

    unit = bulk("Cu", cubic=True)
    frames = []
    for number in range(6):
        atoms = unit.repeat(1 if number % 2 else 2)
        atoms.rattle(0.05, seed=number)
        frames.append(atoms)
    node = ConfigurationsData.from_atoms(frames, source="md")
    parts = split_large(node, orm.Dict({"max_label_atoms": 10, "max_cut_candidates": 2}))
    assert parts["report"].get_dict() == {"n_small": 3, "n_large": 3, "n_to_cut": 2}
    assert set(parts["small"].sizes) == {4}
    assert set(parts["large"].sizes) == {32}
    excluded, limit = orm.List([parts["small"].hashes[0]]), orm.Float(10.0)
    joined = join_cuts(excluded, limit, small=parts["small"], cuts=parts["small"])
    assert joined["candidates"].hashes == parts["small"].hashes[1:], "no copies, nothing that is known"
    assert "large" not in split_large(parts["small"], orm.Dict({"max_label_atoms": 10, "max_cut_candidates": 2}))


def test_cuts_with_a_bad_seam_are_dropped_unless_there_are_no_others(aiida_profile):
    from ase.build import bulk

    from aiida_aceal.data.dataset import ConfigurationsData

    cells = []
    for number, gamma in enumerate((50.0, 3.0, 40.0, 30.0, 20.0)):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=number)
        atoms.info["gamma_others"] = gamma
        cells.append(atoms)

    def kept(cells):
        result = join_cuts(orm.List([]), orm.Float(10.0), cuts=ConfigurationsData.from_atoms(cells))
        return [info["gamma_others"] for info in result["candidates"].infos], result["report"]["n_bad_cuts"]

    assert kept(cells) == ([3.0], 4)
    del cells[1]
    assert kept(cells) == ([20.0, 30.0, 40.0], 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_label_atoms": 0}, "max_label_atoms"),
        ({"max_cut_candidates": None}, "max_cut_candidates"),
        ({"extract": 3}, "mapping"),
        ({"extract": {"max_atoms": 3}}, "max_label_atoms"),
        ({"extract": {"max_cut": 3}}, "unknown key 'extract.max_cut'"),
    ],
)
def test_wrong_settings(settings, words):
    assert words in check_section("limits", settings)
    assert check_section("limits", {"max_label_atoms": 100, "extract": {"molecules": True}}) is None


def test_wrong_limits_are_found_before_anything_runs(run_input, codes):
    from aiida_aceal.ace import AceError

    with pytest.raises(AceError, match="max_label_atom'; did you mean 'max_label_atoms'"):
        builder_for({**run_input, "limits": {"max_label_atom": 100}}, codes)
    with pytest.raises(AceError, match=r"limits.max_label_atoms: must be a positive integer"):
        builder_for({**run_input, "limits": {"max_label_atoms": -1}}, codes)
