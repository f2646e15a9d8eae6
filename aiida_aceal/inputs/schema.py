"""What stands in the ``input.yaml`` of ``aiida-aceal run``. Unknown keys are errors that name the nearest known one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.plausible import HOTTEST, LONGEST_STEP
from aiida_aceal.common.settings import Settings, build, section, setting
from aiida_aceal.common.yaml import load_yaml
from aiida_aceal.inputs.properties import AsksForProperties
from aiida_aceal.workflows.protocol import merged


class Codes(Settings):
    """AiiDA codes by label, such as `lmp@cluster`; what is not named runs on this machine."""

    worker: str | None = setting(None, "Code of `aceal-worker` [default: the one of this installation].")
    lammps: str | None = setting(None, "LAMMPS with ML-PACE, or `aceal-lmp` [default: `aceal-lmp` here].")


class Jobs(Settings):
    """Codes and options of the jobs of a campaign or comparison."""

    codes: Codes = section(Codes, "AiiDA codes by label.")
    options: dict[str, Any] = setting({}, "AiiDA's metadata.options for all jobs (resources, queue_name, ...).")
    threads: int | None = setting(None, "Number of cores for each job [default: all of this machine].", gt=0)

    def job_options(self) -> dict[str, Any]:
        """``metadata.options`` of all jobs: one process with all cores, unless the input says otherwise."""
        if "parallel_env" in (self.options.get("resources") or {}):  # SGE counts no machines
            return merged({"withmpi": False}, self.options)
        threads = self.threads or len(os.sched_getaffinity(0))
        resources = {"num_machines": 1, "num_mpiprocs_per_machine": 1, "num_cores_per_mpiproc": threads}
        return merged({"resources": resources, "withmpi": False}, self.options)


class Comparison(Jobs):
    """What the inputs of comparisons share."""

    title: str = setting("", "Shown in tables and reports.")
    energy_key: str | None = setting(None, "Info entry with the energies [default: ASE's usual place].")
    forces_key: str | None = setting(None, "Array with the forces [default: ASE's usual place].")
    protocol: str = setting("fast", "Where the defaults of `basis` and `fit` come from.")
    basis: dict[str, Any] = setting({}, "Overrides the protocol's basis: see Basis.")
    potential: str | None = setting(None, "File of a potential (.yaml) whose basis is used instead.")
    fit: dict[str, Any] = setting({}, "Settings of every fit; they override the protocol's.")

    @model_validator(mode="after")
    def _one_basis(self) -> Comparison:
        if self.potential is not None and self.basis:
            raise ValueError("give `potential` or `basis`, not both")
        return self


class Step(Settings):
    """A step that is done by a process chosen by entry point name."""

    entry_point: str = setting(help="Entry point of the process.")
    code: str | None = setting(None, "Label of the AiiDA code [default: that of `codes`].")
    settings: dict[str, Any] = setting({}, "Passed on as its input `settings`.")
    inputs: dict[str, Any] = setting({}, "Further inputs of the process: numbers, texts, lists and mappings.")
    options: dict[str, Any] = setting({}, "AiiDA's metadata.options; they override those at the top level.")


class Labeller(Step):
    """The process that labels."""

    entry_point: str = setting("aceal.label.ase", "Entry point of the process that labels.")


class Fitter(Step):
    """The process that fits."""

    entry_point: str = setting("aceal.fit", "Entry point of the process that fits.")


class Explorer(Step):
    """A process that explores, and the configurations it starts from."""

    entry_point: str = setting("aceal.explore.md", "Entry point of the process that explores.")
    start: list[dict[str, Any]] | None = setting(
        None, "Start configurations: a list as in `initial` [default: the first of `initial`]."
    )


class ReferenceMD(Settings):
    """Snapshots of dynamics with the labelling calculator."""

    start: list[dict[str, Any]] = setting(help="Start configurations, one run for each: a list as in `initial`.")
    temperature: list[float] = setting(
        help="Temperature at the first and at the last step.", unit="K", ge=0, le=HOTTEST, items=2
    )
    steps: int = setting(500, "Number of MD steps.", gt=0)
    interval: int = setting(25, "Steps between snapshots.", gt=0)
    timestep: float = setting(0.002, "Time step; usual: 0.0005 to 0.005.", unit="ps", gt=0, le=LONGEST_STEP)
    calculator: str | None = setting(None, "ASE calculator [default: that of `label.settings`].")
    kwargs: dict[str, Any] | None = setting(None, "Arguments of the calculator [default: those of `label.settings`].")


#: what `label: none` stands for
NO_LABELLER = {"entry_point": "aceal.label.manual", "settings": {"pause": False}}

#: of the labelled structures; 0: none
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Campaign(AsksForProperties, Jobs):
    """A whole campaign. Sections that come from the protocol may be given in part."""

    title: str = setting("", "Shown in tables and reports.")
    protocol: str | None = setting(None, "Where all defaults come from: fast, balanced (default) or precise.")
    seed: int = setting(0, "Random seed: the same seed gives the same campaign.", ge=0)
    elements: list[str] | None = setting(None, "Elements of the potential [default: those of `initial`].")
    basis: dict[str, Any] = setting({}, "Overrides the protocol's basis: see Basis.")
    potential: str | None = setting(None, "File of a potential (.yaml) to improve, instead of `basis`.")
    active_set: str | None = setting(
        None, "File of the active set (.asi) of `potential`; with it, and with the structures it was fitted to as "
            "`dataset`, the campaign begins with exploring [default: a first fit, and an active set of all data].",
    )  # fmt: skip
    initial: list[dict[str, Any]] = setting([], "First configurations to label: see Lists of structures.")
    dataset: list[str] = setting(
        [], "Files of configurations that have labels already: any format that ASE reads, pacemaker's data frames, "
            "folders with outputs of VASP or Quantum ESPRESSO.",
    )  # fmt: skip
    energy_key: str | None = setting(
        None, "Entry with the energies in `dataset`, and in lists with `kind: files` that name none themselves "
            "[default: ASE's usual place, or one of the usual names such as REF_energy].",
    )  # fmt: skip
    forces_key: str | None = setting(None, "Array with the forces, likewise.")
    stress_key: str | None = setting(None, "Entry with the stresses, likewise.")
    validation: list[dict[str, Any]] | ReferenceMD | Fraction | None = setting(
        None,
        "Never fitted; decides at the gate, says which potential is the best, and calibrates: a list as in "
        "`initial`, snapshots of dynamics with the reference method, or a fraction of `dataset` (without one, of "
        "`initial`) taken by origin [default: the protocol's fraction, if `dataset` has 50 structures].",
    )
    test: list[dict[str, Any]] | ReferenceMD | Fraction | None = setting(
        None,
        "Decides nothing; the errors of the returned potential on it are reported. As `validation`; 0: "
        "none [default: the protocol's fraction, if `dataset` has 50 structures, else none].",
    )
    label: Labeller = section(
        Labeller,
        "The process that labels; `none`: the campaign ends when it has chosen structures that need labels "
        "(`aceal.label.manual` without `pause`).",
    )
    explore: dict[str, Explorer] = setting(
        {"md": Explorer()},
        "Explorers, under names of your choice; for one called active, pool or properties the default "
        "`entry_point` is that explorer.",
        items=(1, None),
    )
    fit: Fitter = section(Fitter, "The process that fits.")
    selection: dict[str, Any] = setting({}, "How candidates are chosen; overrides the protocol.")
    activeset: dict[str, Any] = setting({}, "How active sets are built; overrides the protocol.")
    window: dict[str, Any] = setting({}, "Which extrapolation grades make candidates; overrides the protocol.")
    gate: dict[str, Any] = setting({}, "When a new potential is refused; overrides the protocol.")
    limits: dict[str, Any] = setting({}, "What is tolerated, and what is too large; overrides the protocol.")
    ensemble: dict[str, Any] = setting({}, "An ensemble beside the potential, such as {members: 8} [default: none].")
    loop: dict[str, Any] = setting({}, "When to stop at the latest; overrides the protocol.")
    clean_workdir: bool = setting(True, "Whether the work folders of finished jobs are emptied after each generation.")

    @model_validator(mode="after")
    def _together(self) -> Campaign:
        if not self.initial and not self.dataset:
            raise ValueError("give `initial` (configurations to label) or `dataset` (files with labels)")
        if self.validation == 0:
            raise ValueError("validation: 0 leaves nothing to decide by; give a fraction, a list or dynamics")
        if self.potential is not None and self.basis:
            raise ValueError("give `potential` or `basis`, not both")
        if self.active_set is not None and self.potential is None:
            raise ValueError("active_set: give the `potential` it belongs to as well")
        if self.active_set is not None and (self.initial or not self.dataset):
            raise ValueError(
                "active_set: give the labelled structures of `potential` as `dataset`, and no `initial`: the campaign "
                "begins with exploring"
            )
        for name in {"active", "pool", "properties"} & set(self.explore):
            if "entry_point" not in self.explore[name].model_fields_set:
                self.explore[name] = self.explore[name].replace(entry_point=f"aceal.explore.{name}")
        return self


def read_campaign(path: str | Path) -> tuple[Campaign, Path]:
    """Read and check an input file; returns the campaign and the folder that relative paths start from.

    :raises AceError: no such file, no YAML, unknown keys (the nearest known one is named), wrong types; with the place
    """
    path = Path(path)
    data = load_yaml(path)
    return check_campaign(data, str(path)), path.resolve().parent


def check_campaign(data: Any, source: str = "input") -> Campaign:
    """Check a mapping; ``source`` starts the message of the error.

    :raises AceError: see :func:`read_campaign`
    """
    if not isinstance(data, Mapping):
        raise AceError(f"{source}: a mapping is expected (`initial: ...`, `label: ...`), found {type(data).__name__}")
    if data.get("label") == "none":
        data = {**data, "label": NO_LABELLER}
    return build(Campaign, data, Path(source))
