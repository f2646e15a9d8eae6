"""What CalcJobs share: common exit codes, ports, checks of inputs, files of configurations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, combinations
from typing import Any

from aiida import orm
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.common.configurations import unknown_elements
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData

REPORT_FILE = "report.json"
POTENTIAL_FILE = "potential.yaml"
ACTIVE_SET_FILE = "active_set.asi"
OUTPUT_FILE = "aceal.out"
ERROR_FILE = "aceal.err"

#: part of the wall time after which the worker ends by itself, so that what went wrong is known
TIME_FRACTION = 0.95


def common_exit_codes(spec: CalcJobProcessSpec, who: str = "worker") -> None:
    """Exit codes that all our CalcJobs share; none of them makes a result worth caching."""
    for status, label, message in (
        (301, "ERROR_BAD_INPUT", f"The {who} refused its input: {{message}}"),
        (302, "ERROR_RUN_FAILED", f"The {who} failed: {{message}}"),
        (303, "ERROR_OUTPUT_MISSING", "The output {message} is missing."),
        (304, "ERROR_OUTPUT_TRUNCATED", "The output cannot be read: {message}"),
        (305, "ERROR_NOT_FINITE", "The result holds numbers that are not finite: {message}"),
        (306, "ERROR_OUT_OF_WALLTIME", "Wall time exceeded: {message}"),
        (307, "ERROR_OUT_OF_MEMORY", "Out of memory: {message}"),
        (309, "ERROR_JOB_ENDED", "The job was ended from outside: {message}"),
    ):
        spec.exit_code(status, label, message=message, invalidates_cache=True)


# --- ports that several classes have, spelled once ---------------------------------------------------------------


def potential_port(spec: CalcJobProcessSpec, required: bool = True) -> None:
    """Port ``potential``."""
    spec.input(
        "potential", valid_type=AcePotentialData, required=required, help="ACE potential, which need not be fitted."
    )


def active_set_port(
    spec: CalcJobProcessSpec, required: bool = True, text: str = "Active set of the potential."
) -> None:
    """Port ``active_set``."""
    spec.input("active_set", valid_type=ActiveSetData, required=required, help=text)


def dataset_port(spec: CalcJobProcessSpec, name: str = "dataset", required: bool = True, text: str = "") -> None:
    """Namespace of ``ConfigurationsData``; the union without duplicates is used."""
    spec.input_namespace(
        name,
        valid_type=ConfigurationsData,
        dynamic=True,
        required=required,
        help=text or "Sets of configurations; their union is the training set.",
    )


def settings_port(spec: CalcJobProcessSpec, text: str, required: bool = False) -> None:
    """Port ``settings``."""
    spec.input("settings", valid_type=orm.Dict, serializer=orm.to_aiida_type, required=required, help=text)


def seed_port(spec: CalcJobProcessSpec, required: bool = True) -> None:
    """Port ``seed``: all randomness of the job comes from it."""
    spec.input(
        "seed",
        valid_type=orm.Int,
        serializer=orm.to_aiida_type,
        required=required,
        validator=check_seed,
        help="Random seed, the only source of randomness in the job.",
    )


# --- checks ------------------------------------------------------------------------------------------------------


def check_seed(value: orm.Int | None, _: Any) -> str | None:
    """Validator of the port ``seed``."""
    return "the seed must not be negative" if value is not None and value.value < 0 else None


def configuration_nodes(inputs: Mapping[str, Any], names: Iterable[str]) -> list[tuple[str, ConfigurationsData]]:
    """The ``ConfigurationsData`` under these names with their port names, namespaces in the order of their keys."""
    found = []
    for name in names:
        value = inputs.get(name)
        if isinstance(value, Mapping):
            found += [(f"{name}.{key}", value[key]) for key in sorted(value)]
        else:
            found.append((name, value))
    return [(name, node) for name, node in found if isinstance(node, ConfigurationsData)]


def foreign_elements(potential: Any, configurations: Any, where: str) -> str | None:
    """What is wrong if configurations hold an element that a potential does not know; ``None`` without either node."""
    if not isinstance(potential, AcePotentialData) or not isinstance(configurations, ConfigurationsData):
        return None
    message = unknown_elements(configurations.elements, potential.elements)
    return f"{where}: {message}" if message else None


def check_elements(
    inputs: Mapping[str, Any], names: Iterable[str] = ("configurations", "dataset", "validation", "start")
) -> str | None:
    """Configurations under these names with an element that the potential does not know."""
    for name, node in configuration_nodes(inputs, names):
        message = foreign_elements(inputs.get("potential"), node, name)
        if message:
            return message
    return None


def check_active_set(inputs: Mapping[str, Any]) -> str | None:
    """An active set that belongs to another potential."""
    potential, active_set = inputs.get("potential"), inputs.get("active_set")
    if isinstance(potential, AcePotentialData) and isinstance(active_set, ActiveSetData):
        return active_set.check_potential(potential)
    return None


def check_labels(
    inputs: Mapping[str, Any], *labels: str, names: Iterable[str] = ("dataset", "validation")
) -> str | None:
    """Configurations under these names without the labels that are needed."""
    for name, node in configuration_nodes(inputs, names):
        for label in labels:
            count = node.base.attributes.get(f"n_{label}")
            if count < len(node):
                return f"{name}: {len(node) - count} of {len(node)} configurations have no {label}; label them first"
    return None


def check_distinct(inputs: Mapping[str, Any], *names: str) -> str | None:
    """Configurations that stand in two of these sets."""
    for first, second in combinations(names, 2):
        sets = [set(chain(*(node.hashes for _, node in configuration_nodes(inputs, (k,))))) for k in (first, second)]
        both = set.intersection(*sets)
        if both:
            return f"{len(both)} configurations are in both {first} and {second}; remove them from one"
    return None


# --- files -------------------------------------------------------------------------------------------------------


def union(nodes: Mapping[str, ConfigurationsData]) -> list[tuple[ConfigurationsData, list[int]]]:
    """Which configurations of which node make up the union: the first of equal content hash counts.

    Nodes come in the order of their keys; this order numbers the structures in what the worker reports.
    """
    seen: set[str] = set()
    chosen = []
    for key in sorted(nodes):
        indices = []
        for index, digest in enumerate(nodes[key].hashes):
            if digest not in seen:
                seen.add(digest)
                indices.append(index)
        if indices:
            chosen.append((nodes[key], indices))
    return chosen


def union_hashes(nodes: Mapping[str, ConfigurationsData]) -> list[str]:
    """Content hashes of the union, in its order."""
    result = []
    for node, indices in union(nodes):
        hashes = node.hashes
        result += [hashes[i] for i in indices]
    return result


def write_union(folder: Folder, filename: str, nodes: Mapping[str, ConfigurationsData]) -> None:
    """Write the union of the nodes as one extended XYZ."""
    with folder.open(filename, "w", encoding="utf-8") as handle:
        for node, indices in union(nodes):
            node.write_extxyz(handle, indices)


def write_set(folder: Folder, filename: str, node: ConfigurationsData) -> None:
    """Write all configurations of one node."""
    with folder.open(filename, "w", encoding="utf-8") as handle:
        node.write_extxyz(handle)


def n_threads(options: Mapping[str, Any]) -> int:
    """Cores of one machine for one process: all that the job was given, unless it uses MPI (native LAMMPS)."""
    resources = dict(options.get("resources") or {})
    if options.get("withmpi"):
        return int(resources.get("num_cores_per_mpiproc") or 1)
    if resources.get("num_cores_per_machine"):
        return int(resources["num_cores_per_machine"])
    processes = resources.get("num_mpiprocs_per_machine") or resources.get("tot_num_mpiprocs") or 1
    return max(1, int(processes) * int(resources.get("num_cores_per_mpiproc") or 1))


def thread_lines(options: Mapping[str, Any]) -> str:
    """Shell lines that hand the cores to OpenMP and numba, unless the user did it himself."""
    if "OMP_NUM_THREADS" in (options.get("environment_variables") or {}):
        return ""
    return f"export OMP_NUM_THREADS={n_threads(options)}"
