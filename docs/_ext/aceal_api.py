"""Page of the Python API: public names of the packages with signature and docstring."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from aceal_text import anchor, block, code, first_sentence, table

PACKAGES = {
    "aiida_aceal.ace": "The ACE engine",
    "aiida_aceal.uncertainty": "Active sets and extrapolation grades",
    "aiida_aceal.selection": "Selection of candidates",
    "aiida_aceal.exploration": "Exploration",
    "aiida_aceal.fitting": "Fits",
    "aiida_aceal.properties": "Properties",
    "aiida_aceal.common.settings": "Declared settings",
    "aiida_aceal.jobs": "Jobs of the worker",
}


class _Dots:
    """Stands for a default that Python cannot spell, such as a function."""

    def __repr__(self) -> str:
        return "..."


def _signature(name: str, thing: Any) -> str:
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return name
    parameters = [
        one.replace(default=_Dots()) if repr(one.default).startswith("<") and one.default is not one.empty else one
        for one in signature.parameters.values()
    ]
    return f"{name}{signature.replace(parameters=parameters)}"


def _members(kind: type) -> list[tuple[str, str]]:
    rows = []
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(value, (classmethod, staticmethod)):
            value = value.__func__
        if inspect.isfunction(value):
            parameters = [p for p in inspect.signature(value).parameters if p not in ("self", "cls")]
            text = first_sentence(value)
            if text:
                rows.append((code(f"{name}({', '.join(parameters)})"), text))
        elif isinstance(value, property) and value.__doc__:
            rows.append((code(name), first_sentence(value)))
    return rows


def python_api_page() -> str:
    """Public names of the numerics packages, which can be used without AiiDA."""
    parts = [
        "# Python API\n",
        "Public names of the packages that work without AiiDA, read from the code. "
        "Units: eV, Angstrom, eV/Angstrom, eV/Angstrom^3, K, ps.\n",
    ]
    for package, title in PACKAGES.items():
        module = importlib.import_module(package)
        names = sorted(getattr(module, "__all__", []))
        if not names:
            continue
        parts.append(f"## {title}: `{package}`\n")
        rows = []
        for name in names:
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                rows.append((f"[`{name}`](#{anchor(package + ' ' + name)})", first_sentence(thing)))
        parts.append(table(("name", "what it is"), rows))
        for name in names:
            thing = getattr(module, name)
            if not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            parts.append(f"({anchor(package + ' ' + name)})=\n### `{name}`\n")
            parts.append(block(_signature(name, thing), "python"))
            parts.append(block(inspect.getdoc(thing) or ""))
            members = _members(thing) if inspect.isclass(thing) else []
            if members:
                parts.append(table(("member", "what it does"), members))
    return "\n".join(parts)
