"""What all CalcJobs of ``aceal-worker`` share: files in, one command, files out, common exit codes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec

from aiida_aceal.common.configurations import unknown_elements
from aiida_aceal.common.settings import Settings, check
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


class AceWorkerCalculation(CalcJob):
    """Base of the CalcJobs that run one subcommand of ``aceal-worker``.

    A subclass names its ``_SUBCOMMAND``, its ports, the ``settings`` it understands and writes its files in
    :meth:`write_inputs`. Bulky files are neither kept in the node's repository (inputs are nodes already) nor in
    ``retrieved`` (outputs become nodes).
    """

    _SUBCOMMAND = ""
    _PARSER = "aceal.worker"
    #: bulky output files, retrieved for the parser only
    _OUTPUTS: tuple[str, ...] = ()
    #: key of ``settings`` -> command line option; subclasses that write a settings file leave it empty
    _SETTINGS: Mapping[str, str] = {}
    #: declaration of ``settings``, checked at submission
    _MODEL: type[Settings] | None = None

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports and exit codes of all worker CalcJobs."""
        super().define(spec)
        options = spec.inputs["metadata"]["options"]
        options["parser_name"].default = cls._PARSER
        options["output_filename"].default = OUTPUT_FILE
        options["withmpi"].default = False
        options["resources"].default = lambda: {"num_machines": 1, "num_mpiprocs_per_machine": 1}
        options["environment_variables"].help += " Unless OMP_NUM_THREADS is set, all cores of `resources` are used."
        spec.output("report", valid_type=orm.Dict, required=False, help="Report of the worker.")
        common = spec.inputs.validator  # computer and resources

        def validate(inputs: Mapping[str, Any], ctx: Any) -> str | None:
            return (common(inputs, ctx) if common else None) or cls.validate_inputs(inputs)

        spec.inputs.validator = validate
        common_exit_codes(spec)

    # --- checks at submission ----------------------------------------------------------------------------------

    @classmethod
    def validate_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        """First thing that is wrong with the inputs together, or ``None``."""
        for find_fault in (cls.check_settings, cls.check_elements, check_active_set):
            message = find_fault(inputs)
            if message:
                return message
        return None

    @classmethod
    def check_elements(cls, inputs: Mapping[str, Any]) -> str | None:
        """Configurations with an element that the potential does not know."""
        return check_elements(inputs)

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """What ``settings`` may not be: the worker refuses the same things with the same words."""
        settings = inputs.get("settings")
        if cls._MODEL is not None:
            return check(cls._MODEL, settings.get_dict() if settings is not None else {}, "settings")
        if settings is None or not cls._SETTINGS:
            return None
        return unknown_keys(settings.get_dict(), cls._SETTINGS)

    # --- submission --------------------------------------------------------------------------------------------

    def write_inputs(self, folder: Folder) -> list[str]:
        """Write the bulky input files; returns the command line after the subcommand."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Content of the ``settings`` input, empty if it was not given."""
        return self.inputs.settings.get_dict() if "settings" in self.inputs else {}

    def option_words(self) -> list[str]:
        """The settings as words of the command line."""
        words: list[str] = []
        for key, value in self.settings().items():
            option = self._SETTINGS[key]
            if not option or value is None or value is False:
                continue
            words += [option] if value is True else [option, str(value)]
        return words

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Files, command line and lists of what is copied and retrieved."""
        words = self.write_inputs(folder)
        codeinfo = CodeInfo()
        codeinfo.code_uuid = self.inputs.code.uuid
        codeinfo.cmdline_params = [*self._limit_words(), self._SUBCOMMAND, *words]
        codeinfo.stdout_name = self.inputs.metadata.options.output_filename
        codeinfo.stderr_name = ERROR_FILE
        calcinfo = CalcInfo()
        calcinfo.uuid = str(self.uuid)
        calcinfo.codes_info = [codeinfo]
        calcinfo.local_copy_list = []
        for port, target in (("potential", POTENTIAL_FILE), ("active_set", ACTIVE_SET_FILE)):
            node = self.inputs.get(port)
            if node is not None:
                # our programs read local active sets in place of the .asi
                name = node.grading_filename if port == "active_set" else node.filename
                calcinfo.local_copy_list.append((node.uuid, name, target))
        written = [str(Path(path).relative_to(folder.abspath)) for path in Path(folder.abspath).rglob("*.extxyz")]
        calcinfo.provenance_exclude_list = written
        calcinfo.retrieve_list = [codeinfo.stdout_name, ERROR_FILE, REPORT_FILE]
        calcinfo.retrieve_temporary_list = list(self._OUTPUTS)
        calcinfo.prepend_text = thread_lines(self.inputs.metadata.options)
        return calcinfo

    def _limit_words(self) -> list[str]:
        seconds = self.inputs.metadata.options.get("max_wallclock_seconds")
        return ["--time-limit", f"{max(1.0, TIME_FRACTION * seconds):g}"] if seconds else []


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


def configurations_port(spec: CalcJobProcessSpec, text: str) -> None:
    """Port ``configurations``."""
    spec.input("configurations", valid_type=ConfigurationsData, help=text)


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


def unknown_keys(settings: Mapping[str, Any], known: Any) -> str | None:
    """Message that names the first unknown key and the nearest known one."""
    for key in settings:
        if key not in known:
            near = difflib.get_close_matches(key, list(known), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
            return f"settings: unknown key '{key}'; {hint}"
    return None


def configuration_nodes(inputs: Mapping[str, Any]) -> list[tuple[str, ConfigurationsData]]:
    """All ``ConfigurationsData`` among the inputs with their port names, namespaces in the order of their keys."""
    found = []
    for name in ("configurations", "dataset", "validation", "reference", "start"):
        value = inputs.get(name)
        if isinstance(value, ConfigurationsData):
            found.append((name, value))
        elif isinstance(value, Mapping):
            found += [(f"{name}.{key}", value[key]) for key in sorted(value)]
    return [(name, node) for name, node in found if isinstance(node, ConfigurationsData)]


def check_elements(inputs: Mapping[str, Any]) -> str | None:
    """Configurations with an element that the potential does not know."""
    potential = inputs.get("potential")
    if not isinstance(potential, AcePotentialData):
        return None
    for name, node in configuration_nodes(inputs):
        message = unknown_elements(node.elements, potential.elements)
        if message:
            return f"{name}: {message}"
    return None


def check_active_set(inputs: Mapping[str, Any]) -> str | None:
    """An active set that belongs to another potential."""
    potential, active_set = inputs.get("potential"), inputs.get("active_set")
    if isinstance(potential, AcePotentialData) and isinstance(active_set, ActiveSetData):
        return active_set.check_potential(potential)
    return None


def check_labels(inputs: Mapping[str, Any], *labels: str) -> str | None:
    """Configurations in ``dataset`` or ``validation`` without the labels that are needed."""
    for name, node in configuration_nodes(inputs):
        if name.split(".")[0] not in ("dataset", "validation"):
            continue
        for label in labels:
            count = node.base.attributes.get(f"n_{label}")
            if count < len(node):
                return f"{name}: {len(node) - count} of {len(node)} configurations have no {label}; label them first"
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
