"""All jobs: declarations do not contradict themselves; command and CalcJob refuse the same in the same words."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "common"))
from test_every_setting import numbers, out_of_bounds, placed, wrapped, wrong_value

from aiida_aceal.common.settings import check, describe
from aiida_aceal.jobs import find_job, job_names
from aiida_aceal.jobs.declaration import Job
from aiida_aceal.worker.main import main

#: settings without which a job cannot start
NEEDED = {
    "label": {"calculator": "emt"},
    "reference-md": {"calculator": "emt"},
    "sample": {"calculator": "emt"},
    "select": {"count": 3},
}
#: CalcJobs that are classes of their own
SPECIAL = {
    "active-set": "active_set:AceActiveSetCalculation",
    "explore-pool": "explore_pool:AceExplorePoolCalculation",
    "fit": "fit:AceFitCalculation",
    "label": "label_ase:AceLabelAseCalculation",
}


def title(job: Job) -> str:
    return f"{job.name}-{job.mode}" if job.mode else job.name


def process_of(job: Job) -> Any:
    """The CalcJob of a job."""
    from aiida_aceal.calculations import job as plain

    if title(job) not in SPECIAL:
        return getattr(plain, plain.class_name(job))
    module, _, name = SPECIAL[title(job)].partition(":")
    return getattr(importlib.import_module(f"aiida_aceal.calculations.{module}"), name)


#: as the CalcJobs have them: some take other settings than the command
JOBS = [pytest.param(process_of(job).JOB, id=title(job)) for name in job_names() for job in find_job(name).variants()]


def base_of(job: Job) -> dict[str, Any]:
    """Values of the keys that must be there, in the words of the worker."""
    if job.style == "options":
        return dict(NEEDED.get(job.name, {}))
    names = {part.key: "x" for part in (*job.inputs, *job.outputs) if part.key and not part.key.startswith("ensemble")}
    required = {row.key for row in describe(job.model, nested=False) if row.required}
    values = {key: value for key, value in names.items() if key in required}
    values |= {"output": "x"} if "output" in required else {}
    return {**values, **({"mode": job.mode} if job.mode else {})}


def worker_says(job: Job, values: dict[str, Any], folder: Path) -> str:
    """What the command says of settings that it refuses, without the name of the file they stand in."""
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump(values))
    if job.style == "file":
        words = [str(path)]
    else:
        words = [f"{part.name}.in" for part in job.inputs if not part.option]
        words += [word for part in job.outputs if part.required for word in (part.option, "out")]
        words += [job.settings_option, str(path)]
    result = CliRunner().invoke(main, [job.name, *words])
    assert result.exit_code == 2, f"{values} was taken: {result.output}"
    assert "Traceback" not in result.output
    return result.output.strip().removeprefix(f"Error: {path}: ")


def calcjob_says(job: Job, values: dict[str, Any]) -> str:
    """What the CalcJob's validator says of the same settings, without the name of the port."""
    from aiida.orm import Dict

    message = process_of(job).validate_inputs({"settings": Dict(values)})
    assert message is not None, f"{values} was taken"
    return message.removeprefix("settings: ").removeprefix("settings.")


def bad_values(row: Any) -> list[Any]:
    """Values that a setting must refuse: wrong type, out of bounds, not finite."""
    wrong = wrong_value(row)
    bad = [] if wrong is None else [wrong]
    bad += [wrapped(row.hint, number) for number in out_of_bounds(row)]
    bad += [wrapped(row.hint, math.nan), wrapped(row.hint, math.inf)] if float in numbers(row.hint) else []
    return [value for value in bad if value is not None]


def settings_rows(job: Job) -> list[Any]:
    """Settings that command and CalcJob both take."""
    filled = {part.key for part in (*job.inputs, *job.outputs)} | {job.cores, "mode", "threads"}
    filled |= {"seed"} if job.seeded else set()
    known = job.model.model_fields
    return [
        row for row in describe(job.node_model)
        if "[]" not in row.key and "<name>" not in row.key and row.key.split(".")[0] in known
        and row.key.split(".")[0] not in filled
    ]  # fmt: skip


SETTINGS = [
    pytest.param(job.values[0], row, id=f"{job.id}-{row.key}") for job in JOBS for row in settings_rows(job.values[0])
]


def test_there_are_many():
    assert {"active-set", "fit", "grade", "learning-curve", "explore"} <= set(job_names())
    assert len(SETTINGS) > 120


@pytest.mark.parametrize("job", JOBS)
def test_names_do_not_collide(job):
    parts = [*job.inputs, *job.outputs]
    names = [part.name for part in parts]
    assert len(set(names)) == len(names)
    files = [part.filename for part in parts] + ["settings.yaml", "report.json", "aceal.out", "aceal.err"]
    assert len(set(files)) == len(files), "every file of the working directory has a name of its own"
    links = [part.link for part in job.outputs if part.node]
    assert not {"report", *links} & {"retrieved", "remote_folder", "remote_stash"}
    assert len({"report", *links}) == len(links) + 1
    assert not set(names) & {"settings", "seed", "code", "metadata", "report", "settings_file", "report_file"}
    if job.style == "file":
        keys = [part.key for part in parts]
        assert all(keys)
        assert len({*keys, job.report_key}) == len(keys) + 1
        assert {*keys, job.report_key} <= set(job.model.model_fields), "every file is a key of the settings file"
        assert "seed" in job.model.model_fields or not job.seeded
        assert not job.cores or job.cores in job.model.model_fields
    else:
        assert not set(names) & set(job.model.model_fields), "a setting and a file of one name"


@pytest.mark.parametrize("name", job_names())
def test_options_of_the_command_do_not_collide(name):
    from aiida_aceal.worker.command import JobCommand

    command = JobCommand(find_job(name))
    params = command.get_params(click.Context(command))
    spelled = [word for param in params for word in (*param.opts, *param.secondary_opts) if word.startswith("-")]
    assert len(set(spelled)) == len(spelled)
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


@pytest.mark.parametrize("job", JOBS)
def test_ports_of_the_calcjob(job):
    spec = process_of(job).spec()
    assert {part.name for part in job.inputs} <= set(spec.inputs)
    assert {part.link for part in job.outputs if part.node} | {"report"} <= set(spec.outputs)
    assert ("seed" in spec.inputs) == job.seeded
    assert all(spec.inputs[part.name].help for part in job.inputs)


@pytest.mark.parametrize("job", JOBS)
def test_the_values_that_the_others_start_from_are_good(job):
    assert check(job.model, base_of(job)) is None
    assert check(job.node_model, NEEDED.get(job.name, {})) is None


@pytest.mark.parametrize(("job", "row"), SETTINGS)
def test_command_and_calcjob_refuse_the_same_in_the_same_words(job, row, tmp_path):
    refused = bad_values(row)
    assert refused or "Any" in str(row.hint)
    for value in refused:
        bad = placed(row.key, value)
        theirs = calcjob_says(job, {**NEEDED.get(job.name, {}), **bad})
        ours = worker_says(job, {**base_of(job), **bad}, tmp_path)
        if (isinstance(value, float) and not math.isfinite(value)) or "nan" in str(value) or "inf" in str(value):
            # the file is refused as a whole before its keys are looked at
            assert "finite" in ours or ours == theirs
        else:
            assert ours == theirs
            assert ours.startswith((f"{row.key}", f"'{row.key}", f"unknown key '{row.key}")), ours


@pytest.mark.parametrize(("job", "row"), SETTINGS)
def test_misspelt_keys_get_the_nearest_in_both(job, row, tmp_path):
    bad = placed(f"{row.key}x", 1)
    theirs = calcjob_says(job, {**NEEDED.get(job.name, {}), **bad})
    ours = worker_says(job, {**base_of(job), **bad}, tmp_path)
    assert f"unknown key '{row.key}x'; did you mean" in ours
    assert ours.split(";")[0] == theirs.split(";")[0]


@pytest.mark.parametrize("job", [p for p in JOBS if p.values[0].style == "options"])
def test_options_refuse_what_the_file_refuses(job, tmp_path):
    """The same words for a value that stands in an option."""
    files = [f"{part.name}.in" for part in job.inputs if not part.option]
    files += [word for part in job.outputs if part.required for word in (part.option, "out")]
    base = [word for key, value in NEEDED.get(job.name, {}).items() for word in (f"--{key}", str(value))]
    tried = 0
    for row in settings_rows(job):
        if "." in row.key or not numbers(row.hint) or dict in (row.hint, getattr(row.hint, "__origin__", None)):
            continue
        for number in out_of_bounds(row):
            if wrapped(row.hint, number) != number:
                continue
            option = job.options.get(row.key, f"--{row.key.replace('_', '-')}")
            result = CliRunner().invoke(main, [job.name, *files, *base, option, str(number)])
            assert result.exit_code == 2
            assert result.output.strip() == f"Error: {calcjob_says(job, {**NEEDED.get(job.name, {}), row.key: number})}"
            tried += 1
    assert tried or not any(row.bounds for row in settings_rows(job))


@pytest.mark.parametrize("job", [p for p in JOBS if p.values[0].style == "file"])
def test_the_calcjob_fills_files_seed_and_cores_itself(job):
    for key in {*base_of(job), job.report_key, job.cores, "seed" if job.seeded else ""} - {""}:
        message = calcjob_says(job, {key: "x"})
        assert f"'{key}'" in message
        assert "use its input `" in message or "leave it out" in message or "number of cores" in message


@pytest.mark.parametrize("job", [p for p in JOBS if p.values[0].style == "file"])
def test_settings_files_that_are_none(job, tmp_path):
    for text, message in (("a: [", "is not valid YAML"), ("- 1", "a mapping (key: value) is expected")):
        (tmp_path / "s.yaml").write_text(text)
        result = CliRunner().invoke(main, [job.name, str(tmp_path / "s.yaml")])
        assert (result.exit_code, message in result.output) == (2, True), result.output
    result = CliRunner().invoke(main, [job.name, str(tmp_path / "none.yaml")])
    assert (result.exit_code, "cannot be read" in result.output) == (2, True)


def test_start_imports_nothing_heavy():
    """``aceal-worker --help`` and the list of commands: no AiiDA, no numerics."""
    import subprocess

    code = (
        "import sys; from click.testing import CliRunner; from aiida_aceal.worker.main import main; "
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0; "
        "print([m for m in ('aiida', 'numpy', 'ase', 'scipy', 'numba', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
