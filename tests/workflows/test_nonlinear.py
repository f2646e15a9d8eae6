"""A campaign with nonlinear fits: two densities, each fit goes on from the last potential, full active sets."""

import numpy as np
import pytest
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from small_campaign import builder_for, small

from aiida_aceal.report.rows import generations
from aiida_aceal.workflows.base import output

pytestmark = pytest.mark.long

TWO_DENSITIES = {"npot": "FinnisSinclairShiftedScaled", "ndensity": 2, "fs_parameters": [1, 1, 1, 0.5]}


def fit_of(generation):
    """CalcJob of the fit, below its restart WorkChain."""
    restarted = generation.base.links.get_outgoing(link_label_filter="fit").one().node
    return restarted.base.links.get_outgoing(link_type=LinkType.CALL_CALC).one().node


def radial(potential):
    """Radial coefficients of copper."""
    return potential.get_potential().bonds["Cu", "Cu"].radcoefficients


def test_nonlinear_campaign(codes):
    data = small(
        basis={"embeddings": {"ALL": TWO_DENSITIES}},
        fit={"settings": {"method": "nonlinear", "nonlinear": {"evaluations": 60}}},
        activeset={"kind": "full"},
        loop={"max_generations": 2},
    )
    node = run_get_node(builder_for(data, codes)).node
    assert node.exit_status == 410, node.exit_message
    found = generations(node)
    reports = [output(generation, "generation_report").get_dict() for generation in found]
    assert [report["status"] for report in reports] == ["initial", "learned", "learned"]
    assert reports[-1]["holdout_forces_rmse"] < 0.8 * reports[0]["holdout_forces_rmse"]
    previous = None
    for generation, report in zip(found, reports):
        assert report["accepted"]
        fit, potential = fit_of(generation), output(generation, "potential")
        fitted = potential.get_potential()
        assert fitted.species["Cu"].n_density == 2
        facts = fit.outputs.report.get_dict()
        assert facts["start"] == ("linear" if previous is None else "potential")
        assert 0 < facts["rounds"][-1]["evaluations"] < 80  # a line search may go on
        if previous is not None:
            assert fit.inputs.potential.uuid == previous.uuid
            assert not np.allclose(radial(potential), radial(previous))
        active_set = output(generation, "active_set")
        assert active_set.kind == "full"
        assert active_set.rank["Cu"] <= 2 * potential.n_functions["Cu"]
        assert active_set.check_potential(potential) is None
        if previous is not None:
            assert active_set.check_potential(previous)  # grades belong to the coefficients they were made with
        previous = potential
