"""Pages about entry points, ports and exit codes, from the installed distribution and the classes' own specs."""

from __future__ import annotations

import inspect
from importlib import metadata
from typing import Any

from aceal_text import anchor, cell, code, first_sentence, table

#: what the groups are for, in the order of the page
GROUPS = {
    "aiida.data": "Node types",
    "aiida.calculations": "CalcJobs and calcfunctions",
    "aiida.parsers": "Parsers",
    "aiida.workflows": "WorkChains",
    "aiida_aceal.strategies": "Selection strategies",
    "aiida_aceal.window_policies": "Window policies",
    "aiida.cmdline.data": "Subcommands of `verdi data`",
    "console_scripts": "Executables",
}


def own_entry_points() -> dict[str, list[metadata.EntryPoint]]:
    """All entry points of the package, by group, in the order of `GROUPS`; groups it does not name come last."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for point in metadata.distribution("aiida-aceal").entry_points:
        found.setdefault(point.group, []).append(point)
    order = [*(group for group in GROUPS if group in found), *sorted(set(found) - set(GROUPS))]
    return {group: sorted(found[group], key=lambda point: point.name) for group in order}


def processes() -> list[tuple[str, str, Any]]:
    """(group, entry point name, process class or process function)."""
    return [
        (group, point.name, point.load())
        for group in ("aiida.workflows", "aiida.calculations")
        for point in own_entry_points().get(group, [])
    ]


def spec_of(process: Any) -> Any:
    """Spec of a class or of a process function."""
    return process.spec()


def entry_points_page() -> str:
    """One table for each group."""
    parts = ["# Entry points\n", "Read from the installed package.\n"]
    linked = {name for _, name, _ in processes()}
    for group, points in own_entry_points().items():
        parts.append(f"## {GROUPS.get(group, group)}: `{group}`\n")
        rows = []
        for point in points:
            thing = point.load()
            name = code(point.name)
            if group in ("aiida.workflows", "aiida.calculations") and point.name in linked:
                name = f"[{name}](processes.md#{anchor('process ' + point.name)})"
            text = thing.__doc__ if group != "aiida.cmdline.data" else getattr(thing, "help", None) or thing.__doc__
            summary = " ".join((text or "").strip().split("\n\n")[0].split())
            rows.append((name, code(point.value), summary))
        parts.append(table(("name", "object", "what it is"), rows))
    return "\n".join(parts)


def _types(port: Any) -> str:
    valid = getattr(port, "valid_type", None)
    kinds = valid if isinstance(valid, tuple) else (valid,)
    return ", ".join(code(kind.__name__) for kind in kinds if inspect.isclass(kind) and kind is not type(None))


def _rows(namespace: Any, prefix: str = "") -> list[tuple[str, str, str, str]]:
    rows = []
    for name in sorted(namespace):
        port = namespace[name]
        path = prefix + name
        if path in ("metadata", "monitors"):
            continue
        # a port of several node types carries the help of each of its parts in many lines
        if hasattr(port, "keys"):
            kind = _types(port) or "any"
            kind = f"namespace of {kind}" if port.dynamic else "namespace"
            rows.append((code(path), kind, "" if port.required else "no", port.help or ""))
            rows += _rows(port, f"{path}.")
        else:
            required = port.required and not getattr(port, "has_default", lambda: False)()
            rows.append((code(path), _types(port), "" if required else "no", port.help or ""))
    return rows


def processes_page() -> str:
    """Ports of every process."""
    parts = [
        "# Processes: inputs and outputs\n",
        "Read from the specs of the classes. `metadata` and `monitors`, which every process of AiiDA has, are left "
        "out. Their exit codes are on the page [Exit codes](exit_codes.md).\n",
    ]
    for _, name, process in processes():
        spec = spec_of(process)
        parts.append(f"({anchor('process ' + name)})=\n## `{name}`\n")
        parts.append(cell(first_sentence(process)) + "\n")
        parts.append("Inputs:\n")
        parts.append(table(("input", "type", "required", "help"), _rows(spec.inputs)))
        outputs = [
            row for row in _rows(spec.outputs) if row[0] not in ("`remote_folder`", "`retrieved`", "`remote_stash`")
        ]
        if outputs:
            parts.append("Outputs:\n")
            parts.append(table(("output", "type", "required", "help"), outputs))
    return "\n".join(parts)


def exit_codes_page() -> str:
    """Exit codes of every process that adds some of its own to those of AiiDA."""
    from aiida.engine import CalcJob, WorkChain

    inherited = {
        (status.status, status.message) for base in (CalcJob, WorkChain) for status in base.spec().exit_codes.values()
    }
    parts = [
        "# Exit codes\n",
        "Read from the specs of the classes. Codes that every process of AiiDA has are left out; 0 is success. "
        "A code that *invalidates the cache* marks a result that caching never takes up again.\n",
    ]
    for _, name, process in processes():
        rows = [
            (status.status, code(label), status.message, "yes" if status.invalidates_cache else "")
            for label, status in sorted(spec_of(process).exit_codes.items(), key=lambda item: item[1].status)
            if (status.status, status.message) not in inherited
        ]
        if rows:
            parts.append(f"({anchor('exit codes ' + name)})=\n## `{name}`\n")
            parts.append(table(("status", "label", "message", "invalidates cache"), rows))
    return "\n".join(parts)
