"""The command of a job, made from its declaration: files as arguments, settings as options, errors as one line."""

from __future__ import annotations

import json
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import click

from aiida_aceal.common.errors import AceError, refuse_not_finite
from aiida_aceal.common.settings import Settings, build, describe, nearest
from aiida_aceal.common.yaml import load_mapping
from aiida_aceal.jobs.declaration import Input, Job, Output
from aiida_aceal.jobs.task import Task

LABEL_KEYS = {"energy": "energy", "forces": "force", "stress": "stress"}
_PATH = click.Path(path_type=Path)


class JobCommand(click.Command):
    """Click command ``aceal-worker NAME``.

    Inputs are arguments in their order (or options), settings are options named after their keys, the settings option
    takes them all from YAML or JSON (options count on top of it), and ``--report`` writes the report as JSON. A job of
    style ``file`` has one argument: the YAML file with all its settings.
    """

    def __init__(self, job: Job) -> None:
        def callback(report_file: Path | None, **given: Any) -> None:
            plan = plan_of_file(job, given["settings_file"]) if job.style == "file" else plan_of_words(job, given)
            group = click.get_current_context().parent
            run_job(*plan, report_file, group.params.get("time_limit") if group else None)

        self.job = job
        # said here, since click would end it at the dots of DATA...
        super().__init__(job.name, help=job.help, short_help=job.help.split("\n\n")[0], callback=callback)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Made when they are first needed, since settings may bring heavy imports that a list of commands can spare."""
        if not self.params:
            self.params = file_parameters(self.job) if self.job.style == "file" else parameters(self.job)
        return super().get_params(ctx)


def parameters(job: Job) -> list[click.Parameter]:
    """Arguments and options of a job."""
    params: list[click.Parameter] = [_input_parameter(part) for part in job.inputs]
    params += [_output_parameter(part) for part in job.outputs]
    params += [_setting_option(_option_name(job, name), name, field) for name, field in job.model.model_fields.items()]
    if job.model.model_fields:
        help = "YAML or JSON file with a mapping of settings."
        params.append(click.Option([job.settings_option, "settings_file"], type=_PATH, help=help))
    if job.label_keys:
        for name, word in LABEL_KEYS.items():
            text = f"Name of the {word} labels in the file (default: where ASE puts them)."
            params.append(click.Option([f"--{name}-key"], help=text))
    if job.seeded:
        seed = click.IntRange(min=0)
        help = "Random seed, the only source of randomness."
        params.append(click.Option(["--seed"], type=seed, default=0, show_default=True, help=help))
    params.append(click.Option(["--report", "report_file"], type=_PATH, help="JSON report with the numbers."))
    return params


def file_parameters(job: Job) -> list[click.Parameter]:
    """The argument and the options of a job that takes one file with all settings."""

    def show(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
        if wanted:
            for line in key_lines(job):
                click.echo(line)
            ctx.exit()

    return [
        click.Argument(["settings_file"], type=_PATH, metavar="SETTINGS"),
        click.Option(
            ["--report", "report_file"], type=_PATH, help="JSON report (overrides the one named in SETTINGS)."
        ),
        click.Option(
            ["--keys"], is_flag=True, is_eager=True, expose_value=False, callback=show,
            help="Show all keys of the file with their defaults and exit.",
        ),
    ]  # fmt: skip


def key_lines(job: Job) -> list[str]:
    """All keys of the settings file with default and help, for each mode."""
    lines = []
    for one in job.variants():
        indent = "  " if one.mode else ""
        lines += [f"mode: {one.mode}"] if one.mode else []
        lines += [
            f"{indent}{row.key}: {row.default_text}  # {row.text}" for row in describe(one.model) if row.key != "mode"
        ]
    return lines


#: what is run: job, settings, path (or paths) of each input and output, seed, label keys, and where the report goes
Plan = tuple[Job, Settings, Mapping[str, Any], int, Mapping[str, Any], Path | None]


def plan_of_words(job: Job, given: Mapping[str, Any]) -> Plan:
    """What the words of the command line ask for. Raises `AceError`."""
    files = {part.name: given.get(part.name) for part in (*job.inputs, *job.outputs)}
    label_keys = {f"{name}_key": given.get(f"{name}_key") for name in LABEL_KEYS} if job.label_keys else {}
    return job, _settings(job, given), files, given.get("seed", 0), label_keys, None


def plan_of_file(job: Job, path: Path) -> Plan:
    """What a settings file asks for.

    :raises AceError: missing or malformed file, unknown or missing keys, wrong values
    """
    data = load_mapping(path, f"see aceal-worker {job.name} --help")
    if job.modes:
        mode = data.get("mode")
        if mode not in job.modes:
            allowed = " or ".join(map(repr, job.modes))
            raise AceError(f"{path}: mode: must be {allowed}, found {mode!r}; {nearest(mode, job.modes)}")
        job = job.modes[mode]
    settings = build(job.model, data, path)
    named = {part.name: getattr(settings, part.key) for part in (*job.inputs, *job.outputs)}
    # a mapping in the place of a file is a description, which the job reads from its settings
    files = {name: value for name, value in named.items() if value and not isinstance(value, Mapping)}
    label_keys = {f"{name}_key": getattr(settings, f"{name}_key", None) for name in LABEL_KEYS}
    report = getattr(settings, job.report_key, None)
    seed = settings.seed if job.seeded else 0
    return job, settings, files, seed, label_keys if job.label_keys else {}, report and Path(report)


def run_job(
    job: Job,
    settings: Settings,
    files: Mapping[str, Any],
    seed: int,
    label_keys: Mapping[str, Any],
    planned: Path | None,
    report_file: Path | None,
    time_limit: float | None = None,
) -> dict[str, Any]:
    """Run a job as planned; writes and returns the report. ``time_limit``: seconds after which it will be ended.

    :raises AceError: anything that is wrong with settings or files
    """
    task, cpu = Task(job, settings, files, seed, label_keys, time_limit), sum(os.times()[:4])
    problem = job.check_inputs(
        settings.to_dict(given=True), [part.name for part in job.inputs if task.given(part.name)]
    )
    if problem:
        raise AceError(problem)
    report = job.run(task)
    report["cost"] = {"wall_seconds": task.seconds, "core_seconds": sum(os.times()[:4]) - cpu}
    target = report_file or planned
    if target is not None:
        from aiida_aceal.common.atomic import write_json

        if job.finite:
            refuse_not_finite(report, "report")
        write_json(target, report)
    status = job.exit_status(report)
    if status:
        raise SystemExit(status)
    return report


def _settings(job: Job, given: Mapping[str, Any]) -> Settings:
    values: dict[str, Any] = {}
    path = given.get("settings_file")
    if path is not None:
        values.update(load_mapping(path))
        build(job.model, values, path)  # so that the message names the file
    for name, field in job.model.model_fields.items():
        if given.get(name) is not None:
            try:
                values[name] = option_value(field.annotation, given[name])
            except AceError as error:
                raise AceError(f"{_option_name(job, name)} {error}") from error
    return build(job.model, values, "")


# --- parameters ----------------------------------------------------------------------------------------------------


def _input_parameter(part: Input) -> click.Parameter:
    if part.option:
        return click.Option(
            [part.option, part.name], type=_PATH, multiple=part.many, required=part.required, help=part.help
        )
    return click.Argument(
        [part.name], type=_PATH, nargs=-1 if part.many else 1, required=part.required, metavar=_metavar(part)
    )


def _metavar(part: Input) -> str:
    word = part.argument.upper()
    return f"{word}..." if part.many else word


def _output_parameter(part: Output) -> click.Parameter:
    names = [part.option, part.short, part.name] if part.short else [part.option, part.name]
    return click.Option(names, type=_PATH, required=part.required, help=part.help)


def _option_name(job: Job, name: str) -> str:
    """Spelling of the option of a setting."""
    return job.options.get(name) or f"--{name.replace('_', '-')}"


def _setting_option(option: str, name: str, field: Any) -> click.Option:
    text = field.description or ""
    if not field.is_required():
        default = field.get_default(call_default_factory=True)
        if default is not None and not isinstance(default, Settings):
            words = str(default).lower() if isinstance(default, bool) else _shown(default)
            text = f"{text}  [default: {words}]"
    if field.annotation is bool:
        return click.Option([f"{option}/--no-{name.replace('_', '-')}", name], default=None, help=text)
    size = _fixed_length(field.annotation)
    return click.Option([option, name], nargs=size, help=text, metavar=_type_word(field.annotation))


def _shown(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return " ".join(str(item) for item in value)
    return str(value) if isinstance(value, str) else json.dumps(value, default=str)


def _members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _fixed_length(hint: Any) -> int:
    """Number of words of an option: that of a tuple of fixed length, else one."""
    for member in _members(hint):
        arguments = typing.get_args(member)
        if typing.get_origin(member) is tuple and Ellipsis not in arguments:
            return len(arguments)
    return 1


def _type_word(hint: Any) -> str:
    words = []
    for member in _members(hint):
        if typing.get_origin(member) is Literal:
            words += [str(item) for item in typing.get_args(member)]
        elif member is not type(None):
            words.append({int: "INTEGER", float: "NUMBER", str: "TEXT"}.get(member, "JSON"))
    if _fixed_length(hint) > 1:
        return " ".join(["NUMBER"] * _fixed_length(hint))
    return "|".join(dict.fromkeys(words))


def option_value(hint: Any, text: Any) -> Any:
    """The value that an option's word stands for; what it may be is checked by the model, not here.

    Numbers, lists and mappings are read as JSON; where that fails, and where only text is due, the word is the value. A
    mapping may stand in a file that the word names.
    """
    if isinstance(text, bool):
        return text
    if isinstance(text, tuple):
        return [option_value(float, word) for word in text]
    if all(member in (str, type(None)) for member in _members(hint)):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if not any(member is dict or typing.get_origin(member) is dict for member in _members(hint)):
            return text
        if not text.lstrip().startswith("{") and Path(text).is_file():
            return load_mapping(Path(text))
        raise AceError(
            f"{text}: neither a file nor valid JSON ({error}); give '{{\"key\": value}}' or the name of a file"
        ) from error
