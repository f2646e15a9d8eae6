"""Words about settings: what is allowed, what was found, which key was meant."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from .setting_values import LISTS, extra_of, is_mapping, number_of_items, sections_in
from .words import counted

#: longest text of a value in a message
_LONGEST = 80


def nearest(name: Any, known: Iterable[Any]) -> str:
    """ "did you mean 'x'?" for the nearest known name, else the list of them."""
    names = sorted(str(item) for item in known)
    near = get_close_matches(str(name), names, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"


def shown(value: Any) -> str:
    """A value as it stands in a message, cut if it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integers of more than some thousand digits
        text = f"an integer of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def bounds_text(extra: Mapping[str, Any]) -> str:
    parts = [f"{sign} {extra[key]}" for key, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
             if key in extra]  # fmt: skip
    if "items" in extra:
        low, high = number_of_items(extra["items"])
        parts.append(counted(low, "item") if low == high else f"at least {counted(low, 'item')}" if high is None
                     else f"{low} to {high} items")  # fmt: skip
    return ", ".join(parts)


def _number_text(noun: str, extra: Mapping[str, Any], plural: bool) -> str:
    """ "a positive number (K)", "numbers from 0 to 1", ..."""
    low, high = extra.get("gt", extra.get("ge")), extra.get("lt", extra.get("le"))
    unit = f" ({extra['unit']})" if extra.get("unit") else ""
    before, after = "", ""
    if high is None and low is not None:
        if extra.get("gt") == 0 or (noun == "integer" and extra.get("ge") == 1):
            before = "positive "
        elif extra.get("ge") == 0:
            before = "non-negative "
        else:
            after = f" above {low}" if "gt" in extra else f" of at least {low}"
    elif low is None and high is not None:
        after = f" below {high}" if "lt" in extra else f" of at most {high}"
    elif low is not None and "ge" in extra and "le" in extra:
        after = f" from {low} to {high}"
    elif low is not None:
        after = (f" above {low}" if "gt" in extra else f" of at least {low}") + (
            f" and below {high}" if "lt" in extra else f" and at most {high}"
        )
    text = f"{before}{noun}{'s' if plural else ''}{unit}{after}"
    return text if plural else f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _any_of(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def allowed_text(hint: Any, extra: Mapping[str, Any], plural: bool = False) -> str:
    """What a setting of this type and these bounds takes, in words."""
    if extra.get("allowed"):
        return extra["allowed"]
    if "choices" in extra and hint is str:
        return _any_of([repr(name) for name in sorted(extra["choices"]())])
    return _any_of(list(dict.fromkeys(_words(hint, extra, plural))))


def _words(hint: Any, extra: Mapping[str, Any], plural: bool) -> list[str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:  # bounds of one branch of a union
        limits = [limit for item in arguments[1:] for limit in getattr(item, "metadata", ())]
        own = {key: getattr(x, key) for x in limits for key in ("gt", "ge", "lt", "le") if hasattr(x, key)}
        return _words(arguments[0], {**extra, **own}, plural)
    if origin in (typing.Union, types.UnionType):
        return [word for argument in arguments for word in _words(argument, extra, plural)]
    if origin is Literal:
        return [str(item).lower() if isinstance(item, bool) else repr(item) for item in arguments]
    if hint is float or hint is int:
        return [_number_text("number" if hint is float else "integer", extra, plural)]
    simple = {bool: "true or false", str: "texts" if plural else "text", None: "null", type(None): "null"}
    if hint in simple:
        return [simple[hint]]
    if origin in LISTS:
        inner = allowed_text(arguments[0], {k: v for k, v in extra.items() if k != "items"}, True) if arguments else ""
        fixed = len(arguments) if origin is tuple and Ellipsis not in arguments else (0, None)
        low, high = number_of_items(extra.get("items", fixed))
        size = f"{low} " if low == high else ""
        kind = "lists of " if plural else "a non-empty list of " if low == 1 and high is None else "a list of "
        return [f"{kind}{size}{inner or 'values'}"]
    if is_mapping(origin) or hint is dict:
        inner = allowed_text(arguments[1], extra, True) if len(arguments) == 2 and arguments[1] is not Any else ""
        kind = "mappings" if plural else "a mapping"
        return [f"{kind} from names to {inner}" if inner else kind]
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return ["mappings of keys" if plural else "a mapping of keys"]
    return ["values" if plural else "a value"]


def type_text(hint: Any, extra: Mapping[str, Any]) -> str:
    """The type for tables, without bounds and unit."""
    if "choices" in extra and hint is str:
        return ", ".join(sorted(extra["choices"]()))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return type_text(arguments[0], extra)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_text(a, extra) for a in arguments if a is not type(None)))
    if origin is Literal:
        return ", ".join(str(item) for item in arguments)
    if origin in LISTS:
        return f"list of {_many(type_text(arguments[0], extra))}" if arguments else "list"
    if is_mapping(origin):
        inner = "" if len(arguments) < 2 or arguments[1] is Any else _many(type_text(arguments[1], extra))
        return f"mapping to {inner}" if inner else "mapping"
    names = {float: "number", int: "integer", bool: "true or false", str: "text", dict: "mapping", list: "list",
             Any: "any"}  # fmt: skip
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return "mapping"
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _many(text: str) -> str:
    return f"{text}s" if text in ("number", "integer", "text", "mapping") else text


def error_message(model: type[BaseModel], error: ValidationError, data: Any, where: str | Path) -> str:
    """One text for all that pydantic found."""
    items = sorted(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
    found = [(*_place(model, item, data), item) for item in items]
    paths = [path for path, *_ in found]
    lines = []
    for path, hint, extra, parent, value, item in found:
        # of a union, the branch that got farthest into the value says what is wrong
        if any(len(other) > len(path) and other[: len(path)] == path for other in paths) and item["loc"]:
            continue
        lines.append(_line(where, path, hint, extra, parent, value, item))
    first, *more = dict.fromkeys(lines)
    return "; ".join([first, *(line.removeprefix(f"{where}: ") for line in more)])


def _place(model: type[BaseModel], item: Any, data: Any) -> tuple[tuple, Any, Mapping[str, Any], Any, Any]:
    """Key path of an error without the branches of unions; type and extras there; model of the key; value."""
    path: list[Any] = []
    hint: Any = model
    extra: Mapping[str, Any] = {}
    parent: type[BaseModel] | None = model
    value = data
    for k, part in enumerate(item["loc"]):
        last = k == len(item["loc"]) - 1
        inside = (isinstance(value, Mapping) and part in value) or (
            isinstance(value, (list, tuple)) and isinstance(part, int) and part < len(value)
        )
        if not inside and not (last and item["type"] in ("missing", "extra_forbidden")):
            continue  # the name of a branch
        kinds = [kind for suffix, kind in sections_in(hint) if suffix == ""]
        owner = next((kind for kind in kinds if part in kind.model_fields), kinds[0] if kinds else None)
        if owner is not None and isinstance(part, str):
            parent = owner
            field = owner.model_fields.get(part)
            hint, extra = (field.annotation, extra_of(field)) if field is not None else (None, {})
        else:
            if not inside:
                break  # a list that is too short
            hint, extra = _inner(hint, part), {k: v for k, v in extra.items() if k != "items"}
        path.append(part)
        value = value[part] if inside else None
    return tuple(path), hint, extra, parent, value


def _inner(hint: Any, part: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _inner(arguments[0], part)
    if origin in (typing.Union, types.UnionType):
        return next((found for argument in arguments if (found := _inner(argument, part)) is not None), None)
    if origin in LISTS and isinstance(part, int):
        many = len(arguments) > 1 and arguments[1] is not Ellipsis
        return arguments[part] if many and part < len(arguments) else arguments[0]
    if is_mapping(origin) and len(arguments) == 2:
        return arguments[1]
    return None


def _line(
    where: str | Path, path: tuple, hint: Any, extra: Mapping[str, Any], parent: Any, value: Any, item: Any
) -> str:
    key = _key(path)
    if item["type"] == "extra_forbidden":
        return unknown_key(where, f"'{key}'", str(path[-1]), parent.model_fields if parent else ())
    if item["type"] == "missing" and path and isinstance(path[-1], str) and value is None and hint is not None:
        text = f"'{key}' is missing; it must be {allowed_text(hint, extra)}"
        return f"{where}: {text}" if str(where) else text
    place = _joined(where, key)
    if item["type"] in ("value_error", "assertion_error") and not extra.get("allowed"):
        text = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        seen = isinstance(value, Mapping) or shown(value) in text or not path
        return f"{place}{text}" if seen else f"{place}{text}, found {shown(value)}"
    hint_text = ""
    known = list(extra["choices"]()) if "choices" in extra else _texts(hint)
    words = [one for one in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(one, str)]
    wrong = next((one for one in words if one not in known), None)
    if wrong is not None:
        near = get_close_matches(wrong, known, n=1, cutoff=0.5)
        hint_text = f"; did you mean {near[0]!r}?" if near else ""
    return f"{place}must be {allowed_text(hint, extra)}, found {shown(value)}{hint_text}"


def _texts(hint: Any) -> list[str]:
    """Texts among the literals of a type."""
    if typing.get_origin(hint) is Literal:
        return [item for item in typing.get_args(hint) if isinstance(item, str)]
    return [text for argument in typing.get_args(hint) if argument is not hint for text in _texts(argument)]


def _key(path: Sequence[Any]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _joined(where: str | Path, key: str) -> str:
    """Start of a message: the key path after a port's name, or after the name of a file."""
    if not str(where):
        return f"{key}: " if key else ""
    if not key:
        return f"{where}: "
    return f"{where}: {key}: " if isinstance(where, Path) else f"{where}.{key}: "


def unknown_key(where: str | Path, key: str, name: str, known: Iterable[str]) -> str:
    """Message for a key that is not known; ``key`` as it is shown, ``name`` as it is compared with ``known``."""
    place = f"{where}: " if str(where) else ""
    return f"{place}unknown key {key}; {nearest(name, known)}"
