"""Two elements, NPT, four walkers of which one explodes, and other explorers in the same generation."""

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from small_campaign import builder_for, small

from aiida_aceal.report.rows import generations
from aiida_aceal.workflows.base import output

pytestmark = pytest.mark.long

CELL = {"bulk": "CuAu", "crystal": "cesiumchloride", "a": 3.05}
FAST = {"supercell": [2, 2, 2], "count": 6}


@pytest.fixture(scope="module")
def alloy_input():
    data = small(loop={"max_generations": 1}, selection={"count": 4})
    data["initial"] = [
        {"kind": "rattled", "structure": CELL, "amplitude": 0.08, **FAST},
        {"kind": "strained", "structure": CELL, "strain": 0.04, "rattle": 0.05, **FAST},
    ]
    data["validation"] = [{"kind": "rattled", "structure": CELL, "amplitude": 0.06, "supercell": [2, 2, 2], "count": 3}]
    good = {"timestep_ps": 0.002, "temperature_end_K": None}
    data["explore"] = {
        "md": {
            "start": [{"kind": "supercells", "structure": CELL, "sizes": [[2, 2, 2]]}],
            "settings": {
                "steps": 60,
                "gamma_interval": 5,
                "ensemble": "npt",
                "max_concurrent": 4,
                "schedule": [
                    {**good, "temperature_K": 300.0, "barostat": "iso"},
                    {**good, "temperature_K": 600.0, "barostat": "aniso", "pressure_bar": 5e3},
                    {**good, "temperature_K": 300.0, "temperature_end_K": 900.0, "barostat": "tri"},
                    # far too long a time step, and nothing that halts it
                    {"timestep_ps": 0.02, "temperature_K": 9000.0, "ensemble": "nvt", "gamma_hi": 1e300},
                ],
            },
        },
        "vacancy": {
            "entry_point": "aceal.explore.active",
            "start": [{"kind": "vacancy", "structure": CELL, "supercell": [2, 2, 2], "count": 2}],
            "settings": {
                "count": 2,
                "attempts": 4,
                "batch": 2,
                "method": "gradient",
                "target_tolerance": None,
                "starts": 2,
                "max_evaluations": 60,
                "gamma_hi": 1e9,
                "target_gamma": 5.0,
                "minimum_distance": 1.9,
            },
        },
        "base": {
            "entry_point": "aceal.explore.pool",
            "start": [{"kind": "rattled", "structure": CELL, "amplitude": 0.12, **FAST}],
            "settings": {"gamma_hi": 1e6},
        },
    }
    return data


def test_alloy_campaign_with_four_walkers_and_three_explorers(alloy_input, codes):
    _, node = run_get_node(builder_for(alloy_input, codes))
    assert node.exit_status in (0, 410), node.exit_message
    first = generations(node)[1]
    row = first.outputs.generation_report.get_dict()
    walkers = first.base.links.get_outgoing(link_label_filter="explore_md").one().node
    report = walkers.outputs.report.get_dict()
    assert report["n_walkers"] == 4
    # the explosion is noted, and costs nothing but itself: every other walker ran or halted by gamma
    states = [entry["status"] for entry in report["walkers"]]
    assert states[3] == "failed", report["walkers"][3]
    assert "lost" in report["walkers"][3]["reason"].lower() or "finite" in report["walkers"][3]["reason"].lower()
    assert "failed" not in states[:3]
    assert walkers.is_finished_ok, walkers.exit_message
    jobs = [n for n in walkers.called_descendants if n.process_label == "AceLammpsCalculation"]
    assert len(jobs) == 4
    assert len({job.inputs.seed.value for job in jobs}) == 4
    assert [job.inputs.settings["barostat"] for job in sorted(jobs, key=lambda j: j.pk)[:3]] == ["iso", "aniso", "tri"]
    # candidates of all explorers, with gamma of each atom and where they came from
    candidates = first.outputs.candidates
    assert set(candidates.elements) == {"Cu", "Au"}
    infos = candidates.infos
    assert {info["explorer"] for info in infos} == {"md", "vacancy", "base"}
    for atoms in candidates.to_atoms():
        assert atoms.arrays["gamma"].shape == (len(atoms),)
        assert atoms.info["gamma_max"] == pytest.approx(atoms.arrays["gamma"].max())
        assert np.isfinite(atoms.positions).all()
        assert atoms.info["explorer"] != "md" or atoms.info["walker"].startswith("walker_")
    # it went on: selected, labelled, learnt, graded by an active set of both elements
    assert 0 < row["n_labelled"] <= 4
    assert row["status"] in ("learned", "refused")
    assert row["n_failed_walkers"] == 1
    assert set(node.outputs.active_set.rank) == {"Cu", "Au"}
    # cells do move with the barostat
    final = [output(job, "final_structure") for job in sorted(jobs, key=lambda j: j.pk)[:3]]
    start = first.inputs.explorers.md.configurations.to_atoms()[0].cell.lengths()
    for structure in final:
        assert np.abs(structure.to_atoms()[0].cell.lengths() - start).max() > 1e-4
    assert np.ptp(final[1].to_atoms()[0].cell.lengths()) > 1e-5, "aniso: each edge on its own"


def test_what_was_found_by_whom_is_in_the_graph(alloy_input):
    """Found by the query of the documentation: which explorer gave which labelled structures."""
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={"attributes.process_label": "GenerationWorkChain"}, tag="generation")
    query.append(orm.ProcessNode, with_incoming="generation", edge_filters={"label": "explore_vacancy"}, tag="found")
    query.append(orm.Dict, with_incoming="found", edge_filters={"label": "report"}, project="attributes.n_candidates")
    assert [2] in query.all()
