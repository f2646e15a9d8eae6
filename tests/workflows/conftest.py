"""Codes and the one campaign that several tests look at."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

_RESULTS: dict = {}


@pytest.fixture
def codes(aceal_worker_code, aceal_lmp_code):
    """Executable -> code."""
    return {"aceal-worker": aceal_worker_code, "aceal-lmp": aceal_lmp_code}


@pytest.fixture
def finished_campaign(codes):
    """Node of the small campaign, run once in the session."""
    from aiida.engine import run_get_node
    from aiida.orm import WorkChainNode
    from small_campaign import builder_for, small

    if "node" not in _RESULTS:
        sizes: dict[str, int] = {}
        write = WorkChainNode.set_checkpoint

        def record(node, checkpoint):
            sizes[node.uuid] = max(sizes.get(node.uuid, 0), len(checkpoint))
            write(node, checkpoint)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(WorkChainNode, "set_checkpoint", record)
            _RESULTS["node"] = run_get_node(builder_for(small(), codes)).node
        _RESULTS["checkpoints"] = sizes
    return _RESULTS["node"]


@pytest.fixture
def checkpoint_sizes(finished_campaign):
    """Largest checkpoint of each WorkChain of the small campaign, characters by uuid, as they were written."""
    return _RESULTS["checkpoints"]
