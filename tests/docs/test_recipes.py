"""The recipes of the page on queries, and Python of other pages, give answers on a real, small campaign."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "queries.md"
BLOCK = re.compile(r"^% run\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not PAGE.is_file(), reason="docs/ is not part of this installation"),
]


@pytest.fixture(scope="module")
def finished():
    """What the first test has run, for the others."""
    return {}


@pytest.fixture
def campaign(finished, aiida_profile, aceal_worker_code, aceal_lmp_code, cu_atoms):
    """A campaign of two generations on 32 copper atoms: first fit, one exploration."""
    if finished:
        return finished["node"]
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
    finished["node"] = node
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


def python_of(page: str) -> str:
    """The first block of Python of a page that is not marked."""
    text = (PAGE.parents[2] / page).read_text(encoding="utf-8")
    return re.search(r"(?<!% run\n)^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL).group(1)


def test_python_of_other_pages(campaign, aiida_profile, tmp_path, monkeypatch):
    """Blocks of README, tutorial, fits, queries and properties, with the campaign in place of PK."""
    import numpy as np
    from ase.build import bulk

    from aiida_aceal.report.campaign import write_files

    monkeypatch.chdir(tmp_path)
    write_files(campaign, tmp_path / "demo")
    names: dict = {}
    exec(python_of("README.md"), names)
    assert np.isfinite(names["atoms"].get_potential_energy())
    names = {"atoms": bulk("Cu", cubic=True)}
    exec(python_of("docs/tutorial/index.md"), names)
    assert np.isfinite(names["atoms"].get_forces()).all()
    assert names["atoms"].calc.results["gamma"].max() > 0
    jobs = [node for node in campaign.called_descendants if node.process_label == "AceFitCalculation"]
    names = {"fit_node": jobs[-1], "np": np}
    exec(python_of("docs/howto/fit.md"), names)
    assert names["labels"].shape == names["predictions"].shape
    names = {"PK": campaign.pk}
    exec(python_of("docs/howto/queries.md").replace('"aceal-demo"', repr(aiida_profile.name)), names)
    assert names["campaign"].pk == campaign.pk
    exec(python_of("docs/howto/properties.md"), names)
    assert names["node"].is_finished_ok, names["node"].exit_message
