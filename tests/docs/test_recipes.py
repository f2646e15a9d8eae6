"""The recipes of the page on queries give answers on a real, small campaign."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "queries.md"
BLOCK = re.compile(r"^% run\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = [pytest.mark.long, pytest.mark.skipif(not PAGE.is_file(), reason="docs/ is not part of this installation")]


@pytest.fixture
def campaign(aiida_profile, aceal_worker_code, aceal_lmp_code, cu_atoms):
    """A campaign of two generations on 32 copper atoms: first fit, one exploration."""
    from aiida import orm
    from aiida.engine import run_get_node
    from aiida.plugins import WorkflowFactory
    from ase.build import bulk

    start = bulk("Cu", cubic=True) * (2, 2, 2)
    overrides = {
        "basis": {"cutoff": 4.5, "nradmax_by_orders": [5, 3, 1], "lmax_by_orders": [0, 2, 1]},
        "explore": {"steps": 200, "temperature_K": 1200.0, "gamma_interval": 5, "timestep_ps": 0.002},
        "window": {"gamma_lo": 1.2, "gamma_hi": 30.0},
        "selection": {"count": 3},
        "loop": {"max_generations": 1},
    }
    builder = WorkflowFactory("aceal.active_learning").get_builder_from_protocol(
        aceal_worker_code,
        aceal_lmp_code,
        initial=cu_atoms(6, seed=1, repeat=(2, 2, 2), rattle=0.03, labelled=False),
        validation=cu_atoms(3, seed=2, repeat=(2, 2, 2), rattle=0.1),
        start=[start],
        calculator="emt",
        protocol="fast",
        overrides=overrides,
        options={"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}},
        seed=3,
    )
    builder.metadata.label = "small"
    _, node = run_get_node(builder)
    # too few generations to converge, by intention
    assert node.exit_status in (0, 410), node.exit_message
    assert isinstance(node.outputs.summary, orm.Dict)
    return node


def test_recipes_run(campaign):
    """The recipes give answers on a real campaign."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        namespace = {"campaign": campaign}
        for text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
            before = printed.tell()
            exec(compile(text, str(PAGE), "exec"), namespace)
            assert printed.tell() > before or "refused_potential" in text, f"no answer:\n{text}"
    assert "chosen because" in printed.getvalue()
