"""``aceal.label.vasp``: DFT labels by VASP, one ``VaspWorkChain`` of aiida-vasp for each configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from aiida import orm
from aiida.common.exceptions import InputValidationError, NotExistent

from aiida_aceal.calculations.label_functions import VASP_ENERGIES, collect_vasp_labels, element_order
from aiida_aceal.common.settings import setting
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.base import output
from aiida_aceal.workflows.labellers.base import AceLabelWorkChain, DftLabelSettings, last_job

#: INCAR of a label: one self-consistent point, forces and stress, no symmetry, and nothing that depends on the number
#: of atoms or on the elements, so that all labels of a data set belong to one energy surface
INCAR: dict[str, Any] = {
    "prec": "accurate",
    "encut": 520,
    "ediff": 1e-6,
    "algo": "normal",
    "nelm": 120,
    "ismear": 0,
    "sigma": 0.05,
    "lreal": False,
    "lasph": True,
    "isym": 0,
    "nsw": 0,
    "ibrion": -1,
    "isif": 2,
    "lwave": False,
    "lcharg": False,
}


class VaspLabelSettings(DftLabelSettings):
    """Labels by VASP."""

    heading = "Labels: `settings` of `aceal.label.vasp`"

    energy: Literal["extrapolated", "free", "no_entropy"] = setting(  # type: ignore[assignment]
        "extrapolated", "Energy at zero smearing, the free energy whose derivative the forces are, or no_entropy."
    )
    potential_family: str = setting(help="POTCAR family (`aiida-vasp potcar listfamilies`).")
    potential_mapping: dict[str, str] | None = setting(None, "Element: POTCAR name; by default the element.")
    incar: dict[str, Any] | None = setting(
        None, "INCAR tags in lower case, merged into the defaults for labels; null removes a tag."
    )
    kpoints_spacing: float = setting(0.04, "As in aiida-vasp.", unit="2 pi/A", gt=0)
    magmom_mapping: dict[str, Any] | None = setting(None, "As in aiida-vasp.")
    ldau_mapping: dict[str, Any] | None = setting(None, "As in aiida-vasp.")


class AceLabelVaspWorkChain(AceLabelWorkChain):
    """Label configurations by VASP.

    ``settings``: :class:`VaspLabelSettings`.
    """

    _WORKFLOW = "vasp.vasp"
    _CODE_PLUGIN = "vasp.vasp"
    _MODEL = VaspLabelSettings

    @classmethod
    def check_method(cls, settings: Mapping[str, Any], configurations: ConfigurationsData | None) -> str | None:
        """INCAR tags, k-points, and that the POTCAR family exists and has all elements."""
        incar = settings["incar"] or {}
        upper = [key for key in incar if key != key.lower()]
        if upper:
            return f"settings: `incar` keys are lower case in AiiDA: write '{upper[0].lower()}' for '{upper[0]}'"
        final = incar_of(settings)
        if final.get("nsw", 0) > 0 or final.get("ibrion", -1) >= 0:
            return "settings: a label is a single point; take `nsw` and `ibrion` out of `incar`"
        if settings["stress"] and final.get("isif", 2) in (0, 1):
            return "settings: `isif` 0 or 1 does not give the full stress; set `isif` to 2 or `stress` to false"
        from aiida_vasp.common import parameters_validator

        try:
            parameters_validator(orm.Dict({"incar": final}))
        except InputValidationError as error:
            return f"settings: `incar`: {error}"
        return check_potentials(settings, configurations)

    def shared_inputs(self) -> dict[str, Any]:
        """Everything but structure and parameters."""
        settings = self.settings
        parser = {"parser_settings": {"energy_type": list(VASP_ENERGIES.values())}}
        inputs = {
            "code": self.inputs.code,
            "kpoints_spacing": orm.Float(settings["kpoints_spacing"]),
            "potential_family": orm.Str(settings["potential_family"]),
            "settings": orm.Dict(parser),
            "max_iterations": orm.Int(settings["max_iterations"]),
            "clean_workdir": orm.Bool(settings["clean_workdir"]),
            "calc": {"metadata": {"options": self.options()}},
        }
        for key in ("magmom_mapping", "ldau_mapping"):
            if settings[key]:
                inputs[key] = orm.Dict(settings[key])
        return inputs

    def own_inputs(self, atoms: Any, structure: orm.StructureData, shared: Mapping[str, Any]) -> dict[str, Any]:
        """Structure, POTCAR names and INCAR; moments stored with the configuration become MAGMOM."""
        settings = self.settings
        incar = incar_of(settings)
        if incar.get("ispin") == 2 and "magmom" not in incar and atoms.has("initial_magmoms"):
            moments = atoms.get_initial_magnetic_moments()[element_order(atoms.get_chemical_symbols())]
            incar["magmom"] = " ".join(f"{m:g}" for m in moments.ravel())
        names = mapping_of(settings, structure.get_kind_names())
        return {
            **shared,
            "structure": structure,
            "parameters": orm.Dict({"incar": incar}),
            "potential_mapping": orm.Dict(names),
        }

    def results_of(self, child: orm.ProcessNode) -> dict[str, orm.Data]:
        """The ``misc`` of the last calculation."""
        misc = output(child, "misc")
        return {} if misc is None else {"misc": misc}

    def collector(self) -> Any:
        """Reader of ``misc``."""
        return collect_vasp_labels

    def job_cost(self, job: orm.CalcJobNode) -> float | None:
        """Elapsed time at the end of OUTCAR."""
        misc = output(job, "misc")
        return None if misc is None else (misc.get_dict().get("run_stats") or {}).get("elapsed_time")

    def words_of(self, job: orm.CalcJobNode | None) -> list[str]:
        """Errors that VASP printed."""
        misc = output(job, "misc")
        notes = (misc.get_dict().get("notifications") or []) if misc is not None else []
        return sorted({f"VASP: {note.get('message', note.get('name'))}" for note in notes})

    def changes_of(self, child: orm.ProcessNode) -> dict[str, Any]:
        """INCAR tags of the final calculation that are not those that were asked for."""
        job = last_job(child)
        asked, final = child.inputs.parameters.get_dict()["incar"], job.inputs.parameters.get_dict()
        keys = sorted({*asked, *final})
        return {key: [asked.get(key), final.get(key)] for key in keys if asked.get(key) != final.get(key)}

    def describe(self) -> dict[str, Any]:
        """INCAR, k-points, POTCARs."""
        settings = self.settings
        return {
            "calculator": {"name": "vasp", "code": self.inputs.code.full_label},
            "incar": incar_of(settings),
            "kpoints_spacing": settings["kpoints_spacing"],
            "potential_family": settings["potential_family"],
            "potential_mapping": mapping_of(settings, self.inputs.configurations.elements),
        }


def incar_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """INCAR that the settings ask for."""
    return {key: value for key, value in {**INCAR, **(settings["incar"] or {})}.items() if value is not None}


def mapping_of(settings: Mapping[str, Any], elements: list[str]) -> dict[str, str]:
    """POTCAR name of each element."""
    return {element: (settings["potential_mapping"] or {}).get(element, element) for element in elements}


def check_potentials(settings: Mapping[str, Any], configurations: ConfigurationsData | None) -> str | None:
    """Whether the family exists and has a POTCAR for each element."""
    from aiida_vasp.data.potcar import PotcarData

    family = settings["potential_family"]
    if PotcarData.get_potcar_group(family) is None:
        return f"settings: there is no POTCAR family '{family}' (`aiida-vasp potcar listfamilies` shows them)"
    names = dict(settings["potential_mapping"] or {})
    if configurations is not None:
        names = mapping_of(settings, configurations.elements)
    for element, name in names.items():
        try:
            PotcarData.get_potcars_dict([element], family, {element: name})
        except (NotExistent, ValueError):
            return (
                f"settings: family '{family}' has no POTCAR '{name}' for {element}; "
                f"name one in `potential_mapping`, such as {{'{element}': '{element}_pv'}}"
            )
    return None
