"""``aceal.label.quantumespresso``: DFT labels by Quantum ESPRESSO, one ``PwBaseWorkChain`` for each configuration.

aiida-quantumespresso is an optional dependency: it is imported when it is used, and its absence is said at submission.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common.exceptions import EntryPointError, NotExistent

from aiida_aceal.calculations.label_functions import collect_quantumespresso_labels
from aiida_aceal.common.settings import setting
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.base import output
from aiida_aceal.workflows.labellers.base import AceLabelWorkChain, DftLabelSettings, last_job

#: input of a label: one self-consistent point, forces and stress, no symmetry, nothing that depends on the number of
#: atoms or on the elements
PARAMETERS: dict[str, dict[str, Any]] = {
    "CONTROL": {"calculation": "scf", "tprnfor": True, "tstress": True},
    "SYSTEM": {"nosym": True, "occupations": "smearing", "smearing": "gaussian", "degauss": 0.004},
    "ELECTRONS": {"conv_thr": 1e-9, "mixing_beta": 0.4, "electron_maxstep": 100},
}


class QuantumEspressoLabelSettings(DftLabelSettings):
    """Labels by Quantum ESPRESSO."""

    heading = "Labels: `settings` of `aceal.label.quantumespresso`"

    pseudo_family: str = setting(help="Label of an aiida-pseudo family (`aiida-pseudo list`).")
    parameters: dict[str, dict[str, Any]] | None = setting(
        None, "Namelists in capitals, keys in lower case; they are merged into the defaults for labels; "
            "SYSTEM.ecutwfc (Ry) is required, "
        "null removes a key.", allowed="a mapping of namelists, such as {'SYSTEM': {'ecutwfc': 50}}",
    )  # fmt: skip
    kpoints_distance: float = setting(0.25, "2 pi included.", unit="1/A", gt=0)


class AceLabelQuantumEspressoWorkChain(AceLabelWorkChain):
    """Label configurations by Quantum ESPRESSO's pw.x.

    ``settings``: :class:`QuantumEspressoLabelSettings`.
    """

    _WORKFLOW = "quantumespresso.pw.base"
    _CODE_PLUGIN = "quantumespresso.pw"
    _MODEL = QuantumEspressoLabelSettings

    @classmethod
    def check_method(cls, settings: Mapping[str, Any], configurations: ConfigurationsData | None) -> str | None:
        """Parameters, k-points, and that the family of pseudopotentials exists and has all elements."""
        given = settings["parameters"] or {}
        for name, part in given.items():
            if name not in PARAMETERS:
                return f"settings: `parameters` has the namelists {', '.join(PARAMETERS)}, not '{name}'"
            wrong = [key for key in part if key != key.lower()]
            if wrong:
                return f"settings: keys of `parameters` are lower case: write '{wrong[0].lower()}' for '{wrong[0]}'"
        final = parameters_of(settings)
        if final["CONTROL"].get("calculation") != "scf":
            return "settings: a label is a single point: `calculation` must be 'scf'"
        cutoff = final["SYSTEM"].get("ecutwfc")
        if isinstance(cutoff, bool) or not isinstance(cutoff, (int, float)) or cutoff <= 0:
            return (
                "settings: `parameters.SYSTEM.ecutwfc` (Ry) is missing: all labels of a data set need the same "
                "cutoff, whatever elements are in a configuration"
            )
        return check_pseudos(settings, configurations)

    def shared_inputs(self) -> dict[str, Any]:
        """Everything but structure and pseudopotentials."""
        settings = self.settings
        return {
            "kpoints_distance": orm.Float(settings["kpoints_distance"]),
            "max_iterations": orm.Int(settings["max_iterations"]),
            "clean_workdir": orm.Bool(settings["clean_workdir"]),
            "pw": {
                "code": self.inputs.code,
                "parameters": orm.Dict(parameters_of(settings)),
                "metadata": {"options": self.options()},
            },
        }

    def own_inputs(self, atoms: Any, structure: orm.StructureData, shared: Mapping[str, Any]) -> dict[str, Any]:
        """Structure and pseudopotentials."""
        pseudos = orm.load_group(self.settings["pseudo_family"]).get_pseudos(structure=structure)
        return {**shared, "pw": {**shared["pw"], "structure": structure, "pseudos": pseudos}}

    def results_of(self, child: orm.ProcessNode) -> dict[str, orm.Data]:
        """Energies are in one output of the last calculation, forces and stress in another."""
        found = {"parameters": output(child, "output_parameters"), "trajectory": output(child, "output_trajectory")}
        return found if all(node is not None for node in found.values()) else {}

    def collector(self) -> Any:
        """Reader of these two."""
        return collect_quantumespresso_labels

    def job_cost(self, job: orm.CalcJobNode) -> float | None:
        """Wall time that pw.x reports."""
        parameters = output(job, "output_parameters")
        return None if parameters is None else parameters.get_dict().get("wall_time_seconds")

    def changes_of(self, child: orm.ProcessNode) -> dict[str, Any]:
        """Parameters of the final calculation that are not those that were asked for (restart flags do not count)."""
        asked, final = parameters_of(self.settings), last_job(child).inputs.parameters.get_dict()
        skip = {"restart_mode", "max_seconds", "startingwfc", "startingpot", "outdir", "prefix", "pseudo_dir"}
        changes = {}
        for name in PARAMETERS:
            before, after = asked[name], final.get(name, {})
            for key in sorted({*before, *after} - skip):
                if before.get(key) != after.get(key):
                    changes[key] = [before.get(key), after.get(key)]
        return changes

    def describe(self) -> dict[str, Any]:
        """Parameters, k-points, pseudopotentials."""
        settings = self.settings
        return {
            "calculator": {"name": "quantumespresso", "code": self.inputs.code.full_label},
            "parameters": parameters_of(settings),
            "kpoints_distance": settings["kpoints_distance"],
            "pseudo_family": settings["pseudo_family"],
        }


def parameters_of(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Namelists that the settings ask for."""
    given = settings["parameters"] or {}
    merged = {name: {**part, **(given.get(name) or {})} for name, part in PARAMETERS.items()}
    merged["CONTROL"]["tstress"] = bool(settings["stress"])
    return {name: {k: v for k, v in part.items() if v is not None} for name, part in merged.items()}


def check_pseudos(settings: Mapping[str, Any], configurations: ConfigurationsData | None) -> str | None:
    """Whether the plugin is installed and the family has a pseudopotential for each element."""
    from aiida.plugins import WorkflowFactory

    try:
        WorkflowFactory(AceLabelQuantumEspressoWorkChain._WORKFLOW)
    except EntryPointError:
        return "aiida-quantumespresso is not installed: pip install aiida-quantumespresso"
    label = settings["pseudo_family"]
    try:
        family = orm.load_group(label)
    except NotExistent:
        return f"settings: there is no family of pseudopotentials '{label}' (`aiida-pseudo list` shows them)"
    if not hasattr(family, "get_pseudos"):
        return f"settings: the group '{label}' is not a family of pseudopotentials (`aiida-pseudo list` shows them)"
    missing = sorted(set(configurations.elements) - set(family.elements)) if configurations is not None else []
    return f"settings: family '{label}' has no pseudopotential for {', '.join(missing)}" if missing else None
