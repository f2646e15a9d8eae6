"""Settings declared once: a typed model gives check, defaults, tables of the docs, ``--keys`` and validators.

A group of settings is a subclass of :class:`Settings`; a setting is one line of it::

    class MDSettings(Settings):
        \"\"\"One MD run.\"\"\"

        steps: int = setting(help="Number of MD steps.", ge=1)
        temperature_K: float = setting(300.0, "Temperature at the start.", unit="K", gt=0)
        ensemble: Literal["nvt", "npt"] = setting("nvt", "Ensemble.")
        kappa: float | Literal["auto"] = setting(0.3, "Share of forces.", ge=0, le=1)
        weights: WeightSettings = section(WeightSettings, "How errors enter the loss.")

        @model_validator(mode="after")              # from pydantic: cross-checks, after all fields are good
        def _together(self) -> MDSettings:
            if self.steps % 10:
                raise ValueError(f"steps ({self.steps}) must be a multiple of 10")
            return self

What comes from it:

- :func:`build` ``(MDSettings, {"steps": 10}, "settings")`` -> a frozen instance, or one :class:`AceError` that names
  the key path, the value found, what is allowed, and for misspelt keys and choices the nearest known one. The
  constructor ``MDSettings(steps=10)`` checks in the same words.
- :func:`check` ``(MDSettings, data, "settings")`` -> the same message or None: for validators at submission.
- :func:`describe` ``(MDSettings)`` -> a :class:`Row` for each key with type, unit, default, bounds and help.
- :func:`from_function` ``(strategy)`` -> a model made from the signature of a function, where that is the declaration.
- :func:`models` -> all models declared so far, for tests and reference pages.
- :meth:`Settings.to_dict` -> plain values for YAML, JSON and nodes; :meth:`Settings.replace` -> a checked copy with
  other values.

Types are strict (text is no number, a number no text, a bool never a number), except that integers and text such as
``1e-8`` (which YAML reads as text) are numbers where one is due, that lists fill tuples, that NumPy scalars count as
Python's, and that null fills a section by its defaults. nan and inf are refused everywhere. Bounds hold for each number
of a list or mapping. Models may inherit from each other: their keys then stand side by side in one flat mapping.
"""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator
from pydantic_core import PydanticCustomError

from .errors import AceError
from .memory import parse_memory
from .setting_values import coerced, extra_of, sections_in, within_bounds
from .setting_words import bounds_text, error_message, nearest, shown, type_text, unknown_key

__all__ = (
    "Row", "Settings", "build", "check", "describe", "from_function", "is_integer", "is_number", "memory_size",
    "models", "nearest", "section", "setting",
)  # fmt: skip

S = TypeVar("S", bound="Settings")
Self = TypeVar("Self", bound="Settings")
_REQUIRED: Any = ...


def setting(
    default: Any = _REQUIRED,
    help: str = "",
    *,
    unit: str = "",
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    items: int | tuple[int | None, int | None] | None = None,
    choices: Callable[[], Iterable[str]] | None = None,
    allowed: str = "",
    parse: Callable[[Any], Any] | None = None,
) -> Any:
    """A field of a :class:`Settings` model.

    :param default: its value if it is not given; without one the key is required
    :param help: one line for the docs and ``--keys``
    :param unit: of the number(s), as text
    :param gt, ge, lt, le: bounds of every number in the value
    :param items: number of items of a list, or (smallest, largest) number of them
    :param choices: returns the names that are allowed, where they are known at run time only (entry points)
    :param parse: called with the value; a ``ValueError`` refuses it (the value stays as it is)
    :param allowed: what is allowed, in words that take the place of those made from type and bounds
    """
    extra: dict[str, Any] = {
        "unit": unit, "gt": gt, "ge": ge, "lt": lt, "le": le, "items": items, "choices": choices, "allowed": allowed,
        "parse": parse,
    }  # fmt: skip
    given = {key: value for key, value in extra.items() if value not in (None, "")}
    if isinstance(default, (list, dict)):
        kind, content = type(default), default
        return Field(default_factory=lambda: kind(content), description=help, json_schema_extra=given)
    return Field(default, description=help, json_schema_extra=given)


def memory_size(default: Any, help: str) -> Any:
    """A field for a size of memory, declared as ``memory: str | int | float``."""
    return setting(default, help, parse=parse_memory, allowed="a size of at least 1 MiB, such as 2GiB or 500MB")


def section(model: type[Settings], help: str = "") -> Any:
    """A field that holds settings of another model, all defaults if it is not given."""
    return Field(default_factory=model, description=help)


class Settings(BaseModel):
    """Base of all groups of settings: frozen, strict, without unknown keys. See the module's text."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=(), ser_json_inf_nan="null"
    )
    #: title of the table in the docs; default: the class name
    heading: ClassVar[str] = ""

    def __init__(self, **values: Any) -> None:
        """:raises AceError: anything that is wrong with the values"""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise AceError(error_message(type(self), error, values, "")) from None

    # pydantic would otherwise build nested models through __init__, which hides the place of an error
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: Any) -> Any:
        return coerced(cls.model_fields[info.field_name].annotation, value)

    @field_validator("*", mode="after")
    @classmethod
    def _bounded(cls, value: Any, info: Any) -> Any:
        extra = extra_of(cls.model_fields[info.field_name])
        if not within_bounds(value, extra):
            raise PydanticCustomError("bounds", "out of bounds")
        if "parse" in extra and value is not None:
            extra["parse"](value)
        return value

    @classmethod
    def read(cls: type[Self], data: Any, where: str | Path = "settings") -> Self:
        """:func:`build` of this model."""
        return build(cls, data, where)

    def to_dict(self, given: bool = False) -> dict[str, Any]:
        """Plain values (lists, no tuples), for YAML, JSON and nodes; ``given``: only those that were stated."""
        return self.model_dump(mode="json", exclude_unset=given)

    def replace(self: Self, **changes: Any) -> Self:
        """A copy with other values, checked. Raises :class:`AceError`."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return build(type(self), {**values, **changes}, "")


def build(model: type[S], data: Any, where: str | Path = "settings") -> S:
    """Instance of ``model`` from a mapping (or an instance, or None for all defaults).

    :param where: start of the message: the name of a port or key, or the path of the file that holds the settings
    :raises AceError: unknown keys, wrong types, values out of bounds, failed cross-checks; one message for all
    """
    if isinstance(data, model):
        return data
    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        place = f"{where}: " if str(where) else ""
        raise AceError(f"{place}must be a mapping of keys, found {shown(data)}")
    odd = [key for key in data if not isinstance(key, str)]
    if odd:
        raise AceError(unknown_key(where, shown(odd[0]), str(odd[0]), model.model_fields))
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        raise AceError(error_message(model, error, data, where)) from None


def from_function(function: Callable[..., Any], skip: Iterable[str] = ()) -> type[Settings]:
    """The model of a function's arguments, made from its signature: types, defaults, and what :func:`setting` adds.

    An argument is written ``weight: Annotated[float, setting(help="...", ge=0, le=1)] = 0.5``, or plainly ``weight:
    float = 0.5``, with the help of ``:param weight:`` in the docstring. The default stands in the signature only. With
    ``**kwargs`` in the signature further keys are let pass.

    :param skip: arguments that are no settings
    """
    return _model_of(function, tuple(skip))


class _AnyArguments(Settings):
    """Arguments of a function with ``**kwargs``."""

    model_config = ConfigDict(extra="allow")


@lru_cache
def _model_of(function: Callable[..., Any], skip: tuple[str, ...]) -> type[Settings]:
    hints = typing.get_type_hints(function, include_extras=True)
    text = inspect.getdoc(function) or ""
    fields: dict[str, Any] = {}
    further = False
    for name, parameter in inspect.signature(function).parameters.items():
        if name in skip or parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            further = True
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        hint = hints.get(name, Any)
        if typing.get_origin(hint) is not typing.Annotated:
            found = re.search(rf"^:param {name}: (.*(?:\n[ ]+.*)*)", text, flags=re.MULTILINE)
            hint = typing.Annotated[hint, setting(help=" ".join(found[1].split()) if found else "")]
        fields[name] = (hint, default)
    name = f"{function.__name__.title().replace('_', '')}Arguments"
    base: type[Settings] = _AnyArguments if further else Settings
    model = create_model(name, __base__=base, __module__=function.__module__, **fields)
    model.__doc__ = text.split("\n\n")[0]
    return model


def check(model: type[Settings], data: Any, where: str | Path = "settings") -> str | None:
    """What :func:`build` refuses, as text; None if nothing is wrong."""
    try:
        build(model, data, where)
    except AceError as error:
        return str(error)
    return None


def is_number(value: Any) -> bool:
    """Whether a raw value is a finite number (and no bool)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_integer(value: Any) -> bool:
    """Whether a raw value is an integer (and no bool)."""
    return isinstance(value, int) and not isinstance(value, bool)


# --- description -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One key as tables show it; ``hint`` is its Python type, ``default`` None and ``required`` if there is none.

    ``default_text`` and ``bounds`` are text; nested keys are dotted, ``[]`` stands for each item of a list and
    ``<name>`` for each name of a mapping.
    """

    key: str
    type: str
    unit: str
    default: Any
    required: bool
    bounds: str
    help: str
    hint: Any

    @property
    def text(self) -> str:
        """Meaning, unit and bounds in one line."""
        more = [part for part in (self.type, self.unit, self.bounds) if part]
        return f"{self.help} [{'; '.join(more)}]"

    @property
    def default_text(self) -> str:
        """The default as YAML would show it, "required" without one."""
        if self.required:
            return "required"
        value = self.default
        if isinstance(value, Settings) or value is None:
            return "" if isinstance(value, Settings) else "null"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, Mapping):
            return "" if any(isinstance(item, Settings) for item in value.values()) else str(dict(value))
        if isinstance(value, str):
            return value or "''"
        return str(list(value)) if isinstance(value, tuple) else str(value)


def describe(model: type[Settings], nested: bool = True, prefix: str = "") -> list[Row]:
    """Rows of all keys of a model, in order; with ``nested`` those of its sections too, under dotted keys."""
    rows = []
    for name, field in model.model_fields.items():
        inner = [(suffix, kind) for suffix, kind in sections_in(field.annotation) if nested]
        plain = any(suffix == "" and kind is field.annotation for suffix, kind in inner)
        if not plain:
            rows.append(_row(prefix + name, field))
        for suffix, kind in inner:
            rows += describe(kind, nested, f"{prefix}{name}{suffix}.")
    return rows


def models(root: type[Settings] | None = None) -> list[type[Settings]]:
    """All models declared so far (in modules that have been imported), or those a model is made of, itself included."""
    found: list[type[Settings]] = []
    todo: list[type[Settings]] = list(Settings.__subclasses__()) if root is None else [root]
    while todo:
        model = todo.pop(0)
        if model in found:
            continue
        found.append(model)
        if root is None:
            todo += model.__subclasses__()
        else:
            todo += [kind for field in model.model_fields.values() for _, kind in sections_in(field.annotation)]
    return found


def _row(key: str, field: Any) -> Row:
    extra = extra_of(field)
    required = field.is_required()
    default = None if required else field.get_default(call_default_factory=True)
    bounds = extra.get("allowed") or bounds_text(extra)
    kind = type_text(field.annotation, extra)
    return Row(key, kind, extra.get("unit", ""), default, required, bounds, field.description or "", field.annotation)
