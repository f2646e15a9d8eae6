"""A small job with each code that an input names, on the computer and with the options of the campaign."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_aceal.common.errors import AceError

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

#: steps of the MD run that is tried
MD_STEPS = 20
#: what every job prints first, with the time
STARTED = "aceal-job-began"


def remote_checks(path: Path, profile: str | None) -> Iterator[tuple[str, Callable[[], str]]]:
    """(name, check) for worker, LAMMPS and labeller of an input; a check gives a line, or raises.

    :raises AceError: what `run` would refuse
    """
    from aiida_aceal.cli import profile as own
    from aiida_aceal.inputs.campaign import make_builder, prepare
    from aiida_aceal.inputs.schema import read_campaign

    campaign, folder = read_campaign(path)
    prepared = prepare(campaign, folder)
    own.load(profile, create=True)
    builder = make_builder(prepared, own.find_code, store=False)
    seen = set()
    yield _where("worker", builder.worker.code), lambda: try_worker(builder.worker)
    for name in sorted(builder.explorers):
        step = builder.explorers[name]
        if (
            step["entry_point"].value != "aceal.explore.md"
            or (step["code"].uuid, str(step["options"].get_dict())) in seen
        ):
            continue
        seen.add((step["code"].uuid, str(step["options"].get_dict())))
        yield _where("LAMMPS", step["code"]), lambda step=step: try_lammps(step)
    first = next(iter(prepared.structures.values()))[2] if prepared.structures else []
    first = first or next(iter(prepared.datasets.values()))
    yield _where("labeller", builder.labeller.get("code")), lambda: try_labeller(builder.labeller, first[0])


def _where(what: str, code: Any) -> str:
    return what if code is None else f"{what} {code.full_label}"


def try_worker(worker: Mapping[str, Any]) -> str:
    """Energies of one structure by `aceal-worker`."""
    from aiida_aceal.data.dataset import ConfigurationsData

    potential, _, atoms = tiny()
    node = _run("aceal.evaluate", worker, potential=potential, configurations=ConfigurationsData.from_atoms([atoms]))
    return f"answers; {timing(node)}"


def try_lammps(step: Mapping[str, Any]) -> str:
    """A short run with extrapolation grades, which LAMMPS does only with ML-PACE."""
    from aiida_aceal.data.dataset import ConfigurationsData

    potential, active_set, atoms = tiny()
    settings = {"steps": MD_STEPS, "gamma_interval": 10, "gamma_hi": 1e6, "timestep_ps": 0.001}
    given = {key: step[key] for key in ("code", "options") if key in step}
    node = _run(
        "aceal.lammps", given, potential=potential, active_set=active_set, settings=settings, seed=1,
        structure=ConfigurationsData.from_atoms([atoms]),
    )  # fmt: skip
    report = node.outputs.report.get_dict()
    return (
        f"ML-PACE is there: {report['steps_reached']} steps with gamma up to {report['max_gamma']:.3g}; {timing(node)}"
    )


def try_labeller(labeller: Mapping[str, Any], atoms: Any) -> str:
    """One label by the labeller of the campaign."""
    from aiida_aceal.common.configurations import get_labels
    from aiida_aceal.data.dataset import ConfigurationsData

    entry_point = labeller["entry_point"].value
    if entry_point == "aceal.label.manual":
        return "a person labels: nothing to try"
    bare = atoms.copy()
    node = _run(entry_point, labeller, configurations=ConfigurationsData.from_atoms([bare]))
    if "labelled" not in node.outputs:
        failures = node.outputs.report.get_dict()["failures"] if "report" in node.outputs else []
        raise click.ClickException(failures[0]["reason"] if failures else "no label, and no reason given")
    energy, forces, _ = get_labels(node.outputs.labelled[0])
    largest = max(float((force @ force) ** 0.5) for force in forces)
    words = f"{bare.get_chemical_formula()}: {energy / len(bare):.6g} eV/atom, largest force {largest:.3g} eV/A"
    return f"{words}; {timing(node)}"


def tiny() -> tuple[Any, Any, Any]:
    """A potential of a few functions that repels, its active set, and 32 atoms of copper."""
    import numpy as np
    from ase.build import bulk

    from aiida_aceal.ace import AceModel, build_potential
    from aiida_aceal.data.active_set import ActiveSetData
    from aiida_aceal.data.potential import AcePotentialData
    from aiida_aceal.uncertainty import build_active_set

    description = {
        "elements": ["Cu"], "cutoff": 4.5, "nradmax_by_orders": [4, 2], "lmax_by_orders": [0, 1], "embedding": "linear",
    }  # fmt: skip
    potential = build_potential(description)
    potential = potential.with_coefficients({"Cu": 1e-3 * np.ones_like(potential.coefficients("Cu"))})
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    rng = np.random.default_rng(0)
    training = [atoms.copy() for _ in range(4)]
    for one in training:
        one.positions += rng.normal(scale=0.1, size=one.positions.shape)
    data = AcePotentialData(potential=potential)
    return data, ActiveSetData.from_active_set(build_active_set(AceModel(potential), training), data), atoms


def _run(entry_point: str, step: Mapping[str, Any], **filled: Any) -> ProcessNode:
    """Run a step here, never from the cache.

    :raises click.ClickException: it did not end well, with its exit message
    """
    from aiida.engine import run_get_node
    from aiida.manage.caching import disable_caching
    from aiida.orm import Dict

    from aiida_aceal.workflows.base import why
    from aiida_aceal.workflows.steps import step_class, step_inputs

    cls = step_class(entry_point)
    options = step["options"].get_dict() if step.get("options") is not None else {}
    before = options.get("prepend_text", "")
    options["prepend_text"] = f"{before}\ndate +'{STARTED} %s'".lstrip()
    inputs = step_inputs(cls, {**step, "options": Dict(options)}, **filled)
    inputs.setdefault("metadata", {})["description"] = "aiida-aceal check --remote"
    with disable_caching():
        _, node = run_get_node(cls, **inputs)
    if not node.is_finished_ok:
        raise AceError(f"{why(node)} (verdi process report {node.pk})")
    return node


def timing(node: ProcessNode) -> str:
    """How long the jobs took in all, and how long until the first line of their scripts, which is the queue mostly."""
    from aiida.orm import CalcJobNode

    waited, total = [], 0.0
    for job in [node, *node.called_descendants]:
        if not isinstance(job, CalcJobNode):
            continue
        total += (job.mtime - job.ctime).total_seconds()
        found = re.search(rf"{STARTED} (\d+)", job.get_scheduler_stdout() or "")
        if found:
            waited.append(max(0.0, int(found.group(1)) - job.ctime.timestamp()))
    began = f"it began after {max(waited):.0f} s" if waited else "when it began is not known"
    return f"{total:.0f} s from submission to result, {began}"
