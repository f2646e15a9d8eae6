"""``fit``: a potential from a basis and labelled configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .declaration import Input, Job, Output
from .parts import POTENTIAL

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_aceal.fitting import Ensemble, FitResult

    from .task import Task


#: share of the time limit after which a nonlinear fit ends with what it has: errors and report take time as well
OPTIMISING = 0.8
#: exit code of a fit that ended for the time limit: with its result as `potential`, the next goes on from there
UNFINISHED = 5


def run(task: Task) -> dict[str, Any]:
    """Fit the potential, and the ensemble if one is wanted."""
    from aiida_aceal.ace import AcePotential
    from aiida_aceal.common.atomic import write_text
    from aiida_aceal.fitting import FitSettings, fit, format_report

    chosen = task.settings
    # what the report calls the settings of the fit: without the files
    own = FitSettings.model_fields.keys() & chosen.model_fields_set
    settings = FitSettings(**{key: getattr(chosen, key) for key in own})
    start: AcePotential = task.basis(seed=settings.seed)
    train, names = _labelled(task, "dataset")
    held, held_names = _labelled(task, "validation") if task.given("validation") else (None, None)
    if chosen.validation_fraction is not None:
        from aiida_aceal.fitting.split import split_by_origin

        rest, out = split_by_origin(train, chosen.validation_fraction, settings.seed)
        held, held_names = [train[k] for k in out], [names[k] for k in out]
        train, names = [train[k] for k in rest], [names[k] for k in rest]
    deadline = task.deadline(OPTIMISING)
    result = fit(start, train, settings, held, names, held_names, progress=task.say, deadline=deadline)
    unfinished = result.report.get("stopped") == "deadline"
    if unfinished:
        result.report["unfinished"] = True
        task.say("the time is nearly over: the fit ends with what it has, and can be gone on from")
    if chosen.ensemble is not None and not unfinished:
        from aiida_aceal.fitting import fit_ensemble

        # nonlinear members keep the radial functions that the fit has optimised
        basis = result.potential if settings.method == "nonlinear" else start
        ensemble: Ensemble = fit_ensemble(basis, train, settings, chosen.ensemble, names, task.say)
        ensemble.save(task.path("ensemble"))
        result.report["ensemble"] = {
            "members": len(ensemble), "method": ensemble.method, "thresholds": ensemble.thresholds, **ensemble.report,
        }  # fmt: skip
    write_text(task.path("fitted"), result.potential.to_yaml())
    text = format_report(result.report)
    if task.given("text_report"):
        write_text(task.path("text_report"), text)
    _write_parity(task, result)
    task.echo(text.rstrip("\n"))
    return result.report


def exit_status(report: Mapping[str, Any]) -> int:
    """Whether it was cut short by the time limit."""
    return UNFINISHED if report.get("unfinished") else 0


def _write_parity(task: Task, result: FitResult) -> None:
    if task.given("parity_data"):
        import numpy as np

        from aiida_aceal.common.atomic import open_whole

        parts = {"train": result.train, "validation": result.validation}
        arrays = {f"{k}_{kind}": v for k, p in parts.items() if p for kind, v in p.parity().items()}
        with open_whole(task.path("parity_data"), "wb") as handle:
            np.savez_compressed(handle, **arrays)
    if task.settings.parity_plot:
        from aiida_aceal.fitting.plots import parity_plot

        parity_plot(result, task.settings.parity_plot)


def _labelled(task: Task, name: str) -> tuple[list[Atoms], list[str]]:
    """Configurations of an input, and what messages call each; the fit checks elements and labels."""
    frames, names = [], []
    for path, index, atoms in task.located(name):
        frames.append(atoms)
        source = atoms.info.get("source")
        names.append(f"{path}, structure {index}" + (f" ({source})" if isinstance(source, str) and source else ""))
    return frames, names


JOB = Job(
    "fit",
    "Fit a potential as described in the YAML file SETTINGS; its paths are relative to the working directory.\n\n"
    "\b\n"
    "potential: basis.yaml         basis, its description (elements, cutoff, ...), or a fitted potential to continue "
    "from\n"
    "data: [train.extxyz]          labelled configurations; also a single name\n"
    "validation: [held.extxyz]     optional, never fitted; or validation_fraction: 0.1, by origin\n"
    "output: potential.yaml\n"
    "report: report.json           optional; text_report: report.txt, parity_plot: parity.png,\n"
    "parity_data: parity.npz       labels and predictions, [N, 2] arrays\n"
    "method: linear                or nonlinear\n"
    "ensemble: {members: 8}        optional: also fit an ensemble; ensemble_output: ensemble.zip\n"
    "weights: {...}  regularization: {...}  reference_energies: fit | joint | isolated | none | {Cu: -3}  seed: 0\n\n"
    "A nonlinear fit under `aceal-worker --time-limit` that runs out of time writes what it has and ends with exit "
    "code 5; with that as `potential` the next one goes on.",
    run,
    "aiida_aceal.fitting.settings:FitFile",
    style="file",
    node_settings="aiida_aceal.fitting.settings:FitJobSettings",
    inputs=(
        POTENTIAL,
        Input(
            "dataset", "configurations", "Sets of configurations; their union is the training set.", many=True,
            namespace=True, key="data",
        ),
        Input(
            "validation", "configurations", "Configurations for validation only; never fitted.", required=False,
            many=True,
            key="validation",
        ),
    ),
    outputs=(
        Output("fitted", "potential", "The fitted potential.", key="output", port="potential"),
        Output(
            "ensemble", "ensemble", "The ensemble that `ensemble` of `settings` asks for.", key="ensemble_output",
            wanted=lambda settings: settings.get("ensemble") is not None,
        ),
        Output("text_report", "text", "The report, readable.", key="text_report", file="report.txt", node=False),
        Output("parity_data", "arrays", "Labels and predictions.", key="parity_data", file="parity.npz", node=False),
    ),
    seeded=True,
    seed_required=False,
    label_keys=True,
    finite=True,
    exit_status=exit_status,
)  # fmt: skip
