"""Pages about the input of ``aiida-aceal run``, settings classes and protocols."""

from __future__ import annotations

import collections.abc
import dataclasses
import importlib
import inspect
import re
import types
import typing
from typing import Any

import yaml
from aceal_text import block, cell, code, default_text, first_sentence, table
from pydantic import BaseModel

from aiida_aceal.common.settings import Settings, describe

#: classes whose fields are the keys of some `settings`: module, class, heading
SETTINGS = (
    ("aiida_aceal.workflows.explorers.walkers", "WalkerSettings", "Walkers: `settings` of `aceal.explore.md`"),
    ("aiida_aceal.calculations.lammps", "LammpsJobSettings", "One MD run: `settings` of `aceal.lammps`"),
    ("aiida_aceal.fitting.settings", "FitJobSettings", "Fits: `settings` of `aceal.fit`, file of `aceal-worker fit`"),
    ("aiida_aceal.fitting.ensemble_fit", "EnsembleSettings", "Ensembles"),
    ("aiida_aceal.fitting.pacemaker", "PacemakerSettings", "pacemaker: `settings` of `aceal.fit.pacemaker`"),
    ("aiida_aceal.selection.compare", "CurveSettings", "Learning curves of selection strategies"),
    ("aiida_aceal.selection.indicators", "IndicatorSettings", "Comparison of uncertainty indicators"),
    ("aiida_aceal.selection.settings", "SelectSettings", "Selection"),
    ("aiida_aceal.selection.strategies", "ViabilityOptions", "Strategy `viability`: its `options`"),
    ("aiida_aceal.uncertainty.settings", "ActiveSetSettings", "Active sets"),
    ("aiida_aceal.labels.settings", "AseLabelSettings", "Labels: `settings` of `aceal.label.ase`"),
    (
        "aiida_aceal.labels.handout",
        "ManualLabelSettings",
        "Labels: `settings` of `aceal.label.manual`",
    ),
    ("aiida_aceal.workflows.labellers.vasp", "VaspLabelSettings", "Labels: `settings` of `aceal.label.vasp`"),
    (
        "aiida_aceal.workflows.labellers.quantumespresso",
        "QuantumEspressoLabelSettings",
        "Labels: `settings` of `aceal.label.quantumespresso`",
    ),
    ("aiida_aceal.workflows.restart", "RestartSettings", "Restarts of jobs: `restart` of a step"),
    ("aiida_aceal.labels.settings", "SampleSettings", "Hold-out sets by dynamics: `settings` of `aceal.sample`"),
    ("aiida_aceal.jobs.evaluate", "EvaluateNodeSettings", "Evaluation: `settings` of `aceal.evaluate`"),
    ("aiida_aceal.exploration.active", "ActiveSettings", "Active exploration"),
    ("aiida_aceal.exploration.pool", "PoolSettings", "Pool"),
    (
        "aiida_aceal.properties.candidates",
        "PropertyPoolSettings",
        "Structures of properties: `settings` of `aceal.explore.properties`",
    ),
    ("aiida_aceal.exploration.extract", "ExtractSettings", "Local environments"),
    ("aiida_aceal.properties.settings", "PropertiesSettings", "Properties: `settings` of `aceal.properties`"),
    ("aiida_aceal.properties.settings", "ValidateSettings", "Validation: `settings` of `aceal.validate`"),
    (
        "aiida_aceal.properties.settings",
        "NumbersSettings",
        "Numbers of properties: `settings` of `aceal.property_numbers`",
    ),
    (
        "aiida_aceal.properties.settings",
        "ReferenceMdSettings",
        "Dynamics of the reference: `settings` of `aceal.reference_md`",
    ),
)


def type_text(hint: Any) -> str:
    """A type as a user would say it."""
    if hint is None or hint is type(None):
        return "null"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(str(value) for value in arguments)
    if origin is typing.Annotated:
        return type_text(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_text(argument) for argument in arguments if argument is not type(None))
    if origin in (list, tuple):
        return f"list of {type_text(arguments[0])}" if arguments else "list"
    if origin is dict:
        return f"mapping to {type_text(arguments[1])}" if arguments and arguments[1] is not Any else "mapping"
    if origin is not None:
        return type_text(origin)
    names = {
        str: "text", int: "integer", float: "number", bool: "true or false", dict: "mapping", list: "list",
        collections.abc.Mapping: "mapping", collections.abc.Sequence: "list", Any: "any",
    }  # fmt: skip
    if hint in names:
        return names[hint]
    if inspect.isclass(hint) and issubclass(hint, BaseModel):
        return f"[{hint.__name__}](#schema-{hint.__name__.lower()})"
    return getattr(hint, "__name__", str(hint))


def models(root: type[BaseModel]) -> list[type[BaseModel]]:
    """The root and all models in its fields, each once, in the order they appear."""
    found: list[type[BaseModel]] = []

    def visit(hint: Any) -> None:
        if inspect.isclass(hint) and issubclass(hint, BaseModel):
            if hint not in found:
                found.append(hint)
                for field in hint.model_fields.values():
                    visit(field.annotation)
            return
        for argument in typing.get_args(hint):
            visit(argument)

    visit(root)
    return found


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        value = field.default_factory()
        if isinstance(value, BaseModel) or (value and isinstance(value, dict)):
            return ""
        return code(default_text(value))
    return code(default_text(field.default)) if field.default is not None and field.default != "" else ""


def input_schema_page() -> str:
    """The schema of input files."""
    from aiida_aceal.inputs.schema import Campaign

    parts = [
        "# Input of `aiida-aceal run`\n",
        "Read from the classes that check the file. A file is checked before anything is stored; an unknown key is an "
        "error that names the nearest known one. Relative paths start from the folder of the input file. The sections "
        "[`basis`](#schema-basis), `fit`, `selection`, `activeset`, `window`, `gate`, `limits`, `ensemble` and `loop` "
        "are laid over those of the protocol, key by key: see [Protocols](protocols.md) for their keys and defaults.\n",
    ]
    for model in models(Campaign):
        title = "Top level" if model is Campaign else model.__name__
        parts.append(f"(schema-{model.__name__.lower()})=\n## {title}\n")
        parts.append(first_sentence(model) + "\n")
        parts.append(
            table(
                ("key", "type", "default", "meaning"),
                [
                    (code(name), type_text(field.annotation), _default(field), field.description or "")
                    for name, field in model.model_fields.items()
                ],
            )
        )
    parts.append(generators_section())
    parts += comparison_section()
    return "\n".join(parts)


def comparison_section() -> list[str]:
    """Inputs of ``aiida-aceal compare selection`` and ``compare uncertainty``."""
    from aiida_aceal.inputs.compare_selection import SelectionComparison
    from aiida_aceal.inputs.compare_uncertainty import UncertaintyComparison

    parts = []
    for model, command in ((UncertaintyComparison, "uncertainty"), (SelectionComparison, "selection")):
        parts.append(f"(schema-{model.__name__.lower()})=\n## Input of `aiida-aceal compare {command}`\n")
        rows = [
            (code(name), type_text(field.annotation), _default(field), field.description or "")
            for name, field in model.model_fields.items()
        ]
        parts.append(table(("key", "type", "default", "meaning"), rows))
    named = next(model for model in models(SelectionComparison) if model.__name__ == "NamedStrategy")
    parts.append(f"(schema-namedstrategy)=\n### NamedStrategy\n\n{first_sentence(named)}\n")
    rows = [
        (code(name), type_text(f.annotation), _default(f), f.description or "")
        for name, f in named.model_fields.items()
    ]
    parts.append(table(("key", "type", "default", "meaning"), rows))
    return parts


def generators_section() -> str:
    """Keys of a basis and of lists of structures."""
    from aiida_aceal.inputs.reference import parts

    text = ["(schema-basis)=\n## Basis: `basis`\n"]
    for place, heading, model in parts():
        if place.startswith("basis"):
            text.append(f"### `{place}`: {heading}\n\n{cell(first_sentence(model))}\n\n{settings_table(model)}")
    text.append(
        "(schema-structures)=\n## Lists of structures: `initial`, `validation`, `test`, `start`\n\n"
        "Each entry has a `kind` and the arguments of that kind. Kinds that change a structure take it as `structure`: "
        "a file name, or a mapping of one of the forms below.\n"
    )
    for place, heading, model in parts():
        if place.startswith("initial"):
            text.append(f"### `{place}`: {heading}\n\n{cell(first_sentence(model))}\n\n{settings_table(model)}")
    return "\n".join(text)


def split_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The prose of a docstring, and what its ``:ivar name: ...`` or ``:param name: ...`` lines say."""
    lead, *rest = re.split(r"^:(?:ivar|param) ", text, flags=re.MULTILINE)
    fields = {}
    for part in rest:
        name, _, meaning = part.partition(":")
        fields[name.strip()] = " ".join(meaning.split("\n\n")[0].split())
    return " ".join(lead.split()), fields


def settings_table(model: type[Settings]) -> str:
    """All keys of a model, those of its sections dotted."""
    rows = [
        (code(row.key), row.type, row.unit, code(row.default_text), code(row.bounds) if row.bounds else "", row.help)
        for row in describe(model)
    ]
    return table(("key", "type", "unit", "default", "bounds", "meaning"), rows)


def further_settings() -> list[tuple[str, str, str]]:
    """Settings of our jobs and of inputs of campaigns that are not in `SETTINGS`: module, class, heading."""
    from aiida_aceal.inputs.reference import parts
    from aiida_aceal.jobs import find_job, own_names

    listed = {name for _, name, _ in SETTINGS}
    models = {}
    for job in (one for name in own_names() for one in find_job(name).variants()):
        model = job.node_model
        if model.model_fields and model.__name__ not in listed:
            models[model.__name__] = (model.__module__, model.__name__, model.heading or f"Job `{job.name}`")
    for place, heading, model in parts():
        if place and not place.startswith(("basis", "initial")) and model.__name__ not in listed:
            title = model.heading or f"`{place}`: {heading}"
            models[model.__name__] = (model.__module__, model.__name__, title)
    return list(models.values())


def settings_page() -> str:
    """Keys of settings, from the classes that read them."""
    parts = ["# Settings\n", "Read from the classes that check them. Unknown keys are errors everywhere.\n"]
    for module, name, heading in (*SETTINGS, *further_settings()):
        try:
            kind = getattr(importlib.import_module(module), name)
        except (ModuleNotFoundError, AttributeError):
            continue
        if issubclass(kind, Settings):
            parts.append(f"(settings-{name.lower()})=\n## {heading}\n")
            parts.append(cell((inspect.getdoc(kind) or "").split("\n\n")[0]) + "\n")
            parts.append(settings_table(kind))
            continue
        hints = typing.get_type_hints(kind)
        prose, fields = split_docstring(inspect.getdoc(kind) or "")
        rows = []
        for field in dataclasses.fields(kind):
            if not field.init or dataclasses.is_dataclass(hints[field.name]):
                continue
            default = "required"
            if field.default is not dataclasses.MISSING:
                default = code(default_text(field.default))
            elif field.default_factory is not dataclasses.MISSING:
                default = code(default_text(field.default_factory()))
            rows.append((code(field.name), type_text(hints[field.name]), default, fields.get(field.name, "")))
        parts.append(f"(settings-{name.lower()})=\n## {heading}\n")
        parts.append(cell(prose) + "\n")
        parts.append(table(("key", "type", "default", "meaning"), rows))
    return "\n".join(parts)


def protocols_page() -> str:
    """Every protocol, complete."""
    from aiida_aceal.workflows.protocol import default_protocol, protocol_inputs, protocol_names

    parts = [
        "# Protocols\n",
        "Read from the protocol file. A protocol gives every number that you do not give yourself; `overrides` "
        f"(Python) and the sections of the input file are laid over it. The default is `{default_protocol()}`.\n",
    ]
    for name, description in protocol_names().items():
        parts.append(f"## `{name}`\n\n{description}\n")
        parts.append(block(yaml.safe_dump(protocol_inputs(name), sort_keys=False, default_flow_style=None), "yaml"))
    return "\n".join(parts)


def deck_page() -> str:
    """The LAMMPS input of a heating run."""
    from aiida_aceal.lammps.deck import MDSettings, write_md_deck

    settings = MDSettings(steps=10000, temperature_K=300.0, temperature_end_K=1800.0, timestep_ps=0.002)
    return block(write_md_deck(settings, ["Cu"]), "text")
