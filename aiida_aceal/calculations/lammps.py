"""``aceal.lammps``: one MD run with extrapolation grades, by native LAMMPS with ML-PACE or by ``aceal-lmp``."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from aiida.engine.processes.calcjobs.calcjob import validate_calc_job
from aiida_lammps.calculations.raw import LammpsRawCalculation
from ase import Atoms

from aiida_aceal.calculations.worker_base import (
    ERROR_FILE,
    TIME_FRACTION,
    active_set_port,
    check_active_set,
    common_exit_codes,
    potential_port,
    seed_port,
    settings_port,
    thread_lines,
)
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import check, setting
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.lammps.deck import (
    ACTIVE_SET_FILE,
    DATA_FILE,
    EXTRAPOLATIVE_DUMP,
    LAST_DUMP,
    MAX_SEED,
    POTENTIAL_FILE,
    MDSettings,
    write_data,
    write_md_deck,
)
from aiida_aceal.uncertainty.equal_densities import differ, with_equal_densities
from aiida_aceal.uncertainty.local import local_file_of

LOG_FILE = "log.lammps"


class LammpsJobSettings(MDSettings):
    """One MD run, where it starts, and how many frames are kept."""

    heading = "One MD run: `settings` of `aceal.lammps`"

    index: int | None = setting(
        None, "Index of the configuration that the run starts from, if there are several.", ge=0
    )
    max_candidates: int = setting(
        1000, "Largest number of frames kept; more are thinned out evenly, as neighbouring frames are alike.", ge=1
    )


class AceLammpsCalculation(LammpsRawCalculation):
    """MD in which configurations with ``gamma_lo <= gamma`` are kept and which ends above ``gamma_hi``.

    From aiida-lammps' ``lammps.raw`` come the ports ``script``, ``files`` and ``filenames`` and their checks. Here the
    script is written from ``settings`` unless one is given, and the parser is our own: that of aiida-lammps drops the
    thermo table and reads no dumps, and its ``lammps.base`` knows no ``pace/extrapolation``.
    """

    RESTART = "aceal.restart.md"
    FILENAME_INPUT = "input.lammps"
    FILENAME_OUTPUT = "lammps.out"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports and exit codes."""
        super().define(spec)
        options = spec.inputs["metadata"]["options"]
        options["parser_name"].default = "aceal.lammps"
        options["withmpi"].default = False
        options["resources"].default = lambda: {"num_machines": 1, "num_mpiprocs_per_machine": 1}
        spec.inputs["script"].required = False
        spec.inputs["script"].help = (
            f"A deck of your own, in place of the one made from `settings`. It can read {DATA_FILE}, "
            f"{POTENTIAL_FILE} and "
            f"{ACTIVE_SET_FILE}, and should write {EXTRAPOLATIVE_DUMP} and {LAST_DUMP} with a column f_pace_gamma."
        )
        spec.input(
            "structure",
            valid_type=(ConfigurationsData, orm.StructureData),
            help="Configuration that the run starts from; if there are several, `settings.index` selects one.",
        )
        potential_port(spec)
        active_set_port(spec)
        settings_port(
            spec,
            "Keys of `aiida_aceal.lammps.deck.MDSettings` (steps, ensemble, temperature_K, pressure_bar, timestep_ps, "
            "gamma_lo, gamma_hi, gamma_interval, ...), `index`, and `max_candidates` (1000).",
            required=True,
        )
        seed_port(spec)
        spec.inputs.validator = cls.validate_inputs
        del spec.outputs["results"]
        spec.output(
            "candidates",
            valid_type=ConfigurationsData,
            required=False,
            help="Frames with the largest gamma from gamma_lo on, with gamma of each atom; absent if there are none.",
        )
        spec.output(
            "time_series",
            valid_type=orm.ArrayData,
            required=False,
            help="Arrays step, time_ps, temperature_K, pressure_bar, potential_energy_eV, total_energy_eV, volume_A3, "
            "max_gamma.",
        )
        spec.output(
            "final_structure",
            valid_type=ConfigurationsData,
            required=False,
            help="Last frame with velocities (as momenta) and gamma; the run can go on from it.",
        )
        spec.output(
            "report",
            valid_type=orm.Dict,
            required=False,
            help="status (completed, halted, failed), steps_reached, steps_total, max_gamma, n_candidates, ...",
        )
        common_exit_codes(spec, "LAMMPS run")
        spec.exit_code(320, "ERROR_LOST_ATOMS", message="Atoms were lost: {message}", invalidates_cache=True)
        spec.exit_code(
            321,
            "ERROR_MISSING_PAIR_STYLE",
            message="This LAMMPS has no pair style pace/extrapolation: {message}. Use aceal-lmp or a LAMMPS built with "
            "ML-PACE.",
            invalidates_cache=True,
        )
        spec.exit_code(
            322,
            "ERROR_NO_GAMMA",
            message="gamma was zero throughout: {message}. The active set cannot grade this structure.",
            invalidates_cache=True,
        )

    # --- checks at submission ----------------------------------------------------------------------------------

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """What the deck writer would refuse, found before anything runs."""
        if inputs.get("settings") is None:
            return None
        settings = inputs["settings"].get_dict()
        if "seed" in settings:
            return "settings: leave 'seed' out; it is an input of its own"
        return check(LammpsJobSettings, settings, "settings")

    @classmethod
    def check_densities(cls, inputs: Mapping[str, Any]) -> str | None:
        """A full local active set whose potential is written with other numbers of densities."""
        potential, active_set = inputs.get("potential"), inputs.get("active_set")
        if potential is None or active_set is None or not differ(potential.n_densities):
            return None
        if active_set.local_filename is None or active_set.kind != "full":
            return None
        counts = ", ".join(f"{el} {count}" for el, count in potential.n_densities.items())
        return (
            f"the elements have different numbers of densities ({counts}): in LAMMPS this works with global or with "
            "linear active sets, not with full local ones; build a linear one (kind: linear)"
        )

    @classmethod
    def validate_inputs(cls, value: Mapping[str, Any], ctx: Any) -> str | None:
        """First thing that is wrong with the inputs together, or ``None``."""
        message = validate_calc_job(value, ctx) or super().validate_inputs(value, ctx)
        message = message or cls.check_settings(value) or check_active_set(value)
        message = message or cls.check_densities(value)
        if message or value.get("structure") is None or value.get("settings") is None:
            return message
        seed = value.get("seed")
        if seed is not None and not 1 <= seed.value <= MAX_SEED:
            return f"seed: must lie between 1 and {MAX_SEED} for LAMMPS, found {seed.value}"
        try:
            atoms = start_atoms(value["structure"], value["settings"].get_dict())
            settings = LammpsJobSettings.read(value["settings"].get_dict())
            if value.get("potential") is not None:
                write_data(atoms, value["potential"].elements, io.StringIO(), velocities=False)
                write_md_deck(settings, value["potential"].elements, pbc=atoms.pbc)
        except AceError as error:
            return f"structure: {error}"
        if settings.velocities == "keep" and "momenta" not in atoms.arrays:
            return "settings: `velocities: keep` needs a structure with momenta, such as `final_structure` of a run"
        return None

    # --- submission --------------------------------------------------------------------------------------------

    def md_settings(self) -> MDSettings:
        """Settings of the run, with the seed, and the time limit of the job unless another is given."""
        values = self.inputs.settings.get_dict()
        seconds = self.inputs.metadata.options.get("max_wallclock_seconds")
        if values.get("max_wall_seconds") is None and seconds:
            # the rest is for starting, the last frame and closing
            values["max_wall_seconds"] = max(1, int(TIME_FRACTION * seconds) - 5)
        return LammpsJobSettings.read({**values, "seed": self.inputs.seed.value})

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write deck and data file; what is large stays out of the repository."""
        settings = self.md_settings()
        elements = self.inputs.potential.elements
        atoms = start_atoms(self.inputs.structure, self.inputs.settings.get_dict())
        options = self.inputs.metadata.options
        if "script" in self.inputs:
            script = self.inputs.script.get_content()
        else:
            script = write_md_deck(settings, elements, pbc=atoms.pbc)
        with folder.open(options.input_filename, "w", encoding="utf-8") as handle:
            handle.write(script)
        with folder.open(DATA_FILE, "w", encoding="utf-8") as handle:
            write_data(atoms, elements, handle, velocities=settings.velocities == "keep")

        codeinfo = CodeInfo()
        codeinfo.code_uuid = self.inputs.code.uuid
        codeinfo.cmdline_params = ["-in", options.input_filename, "-log", LOG_FILE, "-screen", "none"]
        codeinfo.stdout_name = options.output_filename
        codeinfo.stderr_name = ERROR_FILE
        calcinfo = CalcInfo()
        calcinfo.uuid = str(self.uuid)
        calcinfo.codes_info = [codeinfo]
        calcinfo.prepend_text = thread_lines(options)
        names = self.inputs["filenames"].get_dict() if "filenames" in self.inputs else {}
        calcinfo.local_copy_list = [
            *self.copy_or_write_potential(folder),
            *(
                (node.uuid, node.filename, names.get(key, node.filename))
                for key, node in self.inputs.get("files", {}).items()
            ),
        ]
        local = self.inputs.active_set.local_filename
        if local is not None:  # aceal-lmp grades by it; a native LAMMPS does not look at it and uses the .asi
            name = str(local_file_of(ACTIVE_SET_FILE))
            calcinfo.local_copy_list.append((self.inputs.active_set.uuid, local, name))
        calcinfo.provenance_exclude_list = [DATA_FILE, POTENTIAL_FILE, ACTIVE_SET_FILE]
        calcinfo.retrieve_list = [LOG_FILE, options.output_filename, ERROR_FILE]
        calcinfo.retrieve_temporary_list = [EXTRAPOLATIVE_DUMP, LAST_DUMP]
        return calcinfo

    def copy_or_write_potential(self, folder: Folder) -> list[tuple[str, str, str]]:
        """What to copy of potential and active set; they are written where the elements' numbers of densities differ.

        A native LAMMPS takes wrong coefficients then between the steps that compute gamma, and refuses a full set.
        Which executable is behind the code is not known, and with all densities equal every engine agrees.
        """
        node, active_set = self.inputs.potential, self.inputs.active_set
        copies = [
            (node.uuid, node.filename, POTENTIAL_FILE), (active_set.uuid, active_set.filename, ACTIVE_SET_FILE),
        ]  # fmt: skip
        if not differ(node.n_densities):
            return copies
        with folder.open(POTENTIAL_FILE, "w", encoding="utf-8") as handle:
            handle.write(node.get_lammps())
        if active_set.kind != "full":
            return copies[1:]
        equal = with_equal_densities(active_set.get_active_set(node), node.n_functions, node.n_densities)
        equal.save(folder.get_abs_path(ACTIVE_SET_FILE))
        return []


def start_atoms(structure: ConfigurationsData | orm.StructureData, settings: Mapping[str, Any]) -> Atoms:
    """The one configuration where the run starts.

    :raises AceError: several configurations and no index, or an index that is out of range.
    """
    index = settings.get("index")
    if isinstance(structure, orm.StructureData):
        if index not in (None, 0):
            raise AceError(f"settings.index is {index}, but there is only one structure")
        return structure.get_ase()
    if index is None and len(structure) > 1:
        raise AceError(f"{len(structure)} configurations: select one with settings.index")
    index = 0 if index is None else index
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(structure):
        raise AceError(f"settings.index must be an integer from 0 to {len(structure) - 1}, it is {index!r}")
    return structure.to_atoms([index])[0]
