"""Steps of a generation are chosen by entry point name; what that needs: loading, inputs, checks, seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.exceptions import EntryPointError
from aiida.engine import CalcJob, Process
from aiida.plugins import CalculationFactory, WorkflowFactory
from aiida.plugins.entry_point import get_entry_point_names

from aiida_aceal.common.settings import nearest
from aiida_aceal.lammps.deck import MAX_SEED

#: ports that the generation fills; a step must not set them itself
FILLED = frozenset({"potential", "active_set", "dataset", "validation", "seed", "tests"})


def step_class(name: str) -> type[Process]:
    """Process class of an entry point of ``aiida.workflows`` or ``aiida.calculations``.

    :raises ValueError: no such entry point (the nearest is named), or it cannot be loaded
    """
    for group, factory in (("aiida.workflows", WorkflowFactory), ("aiida.calculations", CalculationFactory)):
        if name in get_entry_point_names(group):
            try:
                return factory(name)
            except EntryPointError as error:
                raise ValueError(f"entry point '{name}' cannot be loaded: {error}") from error
    known = [*get_entry_point_names("aiida.workflows"), *get_entry_point_names("aiida.calculations")]
    raise ValueError(f"no entry point '{name}'; {nearest(name, known)}")


def step_inputs(cls: type[Process], step: Mapping[str, Any], **filled: Any) -> dict[str, Any]:
    """Inputs of one step: what the user gave, and what the generation fills in.

    ``options`` becomes ``metadata.options`` of a CalcJob, and stays a node for a WorkChain. Of ``filled``, ports that
    the class does not have are left out, so that steps need not take what they do not use.
    """
    ports = cls.spec().inputs
    inputs = {key: value for key, value in step.items() if key not in ("entry_point", "options")}
    inputs.update({key: value for key, value in filled.items() if key in ports and value is not None})
    options = step.get("options")
    if options is not None:
        if issubclass(cls, CalcJob):
            inputs["metadata"] = {"options": options.get_dict()}
        elif "options" in ports:
            inputs["options"] = options
    return inputs


def check_step(step: Mapping[str, Any] | None, where: str) -> str | None:
    """What is wrong with a step namespace, or ``None``; called at submission."""
    if not step or step.get("entry_point") is None:
        return f"{where}: `entry_point` is missing: name the process that does this step"
    if not isinstance(step["entry_point"], orm.Str):
        return f"{where}: `entry_point` must be a Str node"
    try:
        cls = step_class(step["entry_point"].value)
    except ValueError as error:
        return f"{where}: {error}"
    ports = cls.spec().inputs
    for key, value in step.items():
        if key in ("entry_point", "options", "metadata"):
            continue
        if key == "restart" and issubclass(cls, CalcJob):
            from aiida_aceal.workflows.restart import check_restart  # it looks for steps here

            message = check_restart(value.get_dict(), cls)
            if message:
                return f"{where}: {message}"
            continue
        if key in FILLED:
            return f"{where}: `{key}` is filled by the generation; leave it out"
        if key not in ports and not ports.dynamic:
            return f"{where}: {step['entry_point'].value} has no input '{key}'; {nearest(key, ports)}"
        problem = ports[key].validate(value) if key in ports else None
        if problem:
            return f"{where}: {problem.message}"  # without plumpy's own words on the port
    check = getattr(cls, "check_settings", None)
    if check is not None and step.get("settings") is not None:
        given = {key: step[key] for key in ("settings", "configurations", "code", "files") if key in step}
        message = check(given)
        if message:
            return f"{where}: {message}"
    return None


def derived_seed(seed: int, *path: int) -> int:
    """Seed of a step: independent streams for every generation, explorer and walker, of 1 to below :data:`MAX_SEED`."""
    state = np.random.SeedSequence([int(seed), *(int(part) for part in path)]).generate_state(1)[0]
    return 1 + int(state) % (MAX_SEED - 1)
