"""The command of a job, made from its declaration: files as arguments, settings as options, errors as one line."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import click

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import Settings, build
from aiida_aceal.common.yaml import load_mapping
from aiida_aceal.jobs.declaration import Input, Job, Output
from aiida_aceal.jobs.task import Task

LABEL_KEYS = {"energy": "energy", "forces": "force", "stress": "stress"}
_PATH = click.Path(path_type=Path)


class JobCommand(click.Command):
    """Click command ``aceal-worker NAME``.

    Inputs are arguments in their order (or options), settings are options named after their keys, the settings option
    takes them all from YAML or JSON (options count on top of it), and ``--report`` writes the report as JSON.
    """

    def __init__(self, job: Job) -> None:
        def callback(report_file: Path | None, **given: Any) -> None:
            run_job(job, given, report_file)

        self.job = job
        super().__init__(job.name, help=job.help, callback=callback)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Made when they are first needed, since settings may bring heavy imports that a list of commands can spare."""
        if not self.params:
            self.params = parameters(self.job)
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


def run_job(job: Job, given: Mapping[str, Any], report_file: Path | None) -> dict[str, Any]:
    """Run a job with what the command line gave; writes and returns the report.

    :raises AceError: anything that is wrong with settings or files
    """
    settings = _settings(job, given)
    files = {part.name: given.get(part.name) for part in (*job.inputs, *job.outputs)}
    label_keys = {f"{name}_key": given.get(f"{name}_key") for name in LABEL_KEYS} if job.label_keys else {}
    task = Task(job, settings, files, given.get("seed", 0), label_keys)
    problem = job.check_inputs(
        settings.to_dict(given=True), [part.name for part in job.inputs if task.given(part.name)]
    )
    if problem:
        raise AceError(problem)
    report = job.run(task)
    if report_file is not None:
        from aiida_aceal.common.atomic import write_json

        write_json(report_file, report)
    status = job.exit_status(report)
    if status:
        raise SystemExit(status)
    return report


def _settings(job: Job, given: Mapping[str, Any]) -> Settings:
    values: dict[str, Any] = {}
    path = given.get("settings_file")
    if path is not None:
        values.update(load_mapping(path))
        build(job.model, values, str(path))  # so that the message names the file
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
