"""What stands in the ``input.yaml`` of ``aiida-aceal run``. Unknown keys are errors that name the nearest known one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from aiida_aceal.ace.errors import AceError
from aiida_aceal.common.settings import Settings, build
from aiida_aceal.common.yaml import load_yaml
from aiida_aceal.inputs.properties import AsksForProperties


class Section(Settings):
    """A mapping whose keys are known."""

    model_config = ConfigDict(frozen=False)


class Codes(Section):
    """AiiDA codes by label, such as `lmp@cluster`; what is not named runs on this machine."""

    worker: str | None = Field(None, description="Code of `aceal-worker` [default: the one of this installation].")
    lammps: str | None = Field(None, description="LAMMPS with ML-PACE, or `aceal-lmp` [default: `aceal-lmp` here].")


class Step(Section):
    """A step that is done by a process chosen by entry point name."""

    entry_point: str
    code: str | None = Field(None, description="Label of the AiiDA code [default: that of `codes`].")
    settings: dict[str, Any] = Field(default_factory=dict, description="Passed on as its input `settings`.")
    inputs: dict[str, Any] = Field(
        default_factory=dict, description="Further inputs of the process: numbers, texts, lists and mappings."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="AiiDA's metadata.options; they override those at the top level."
    )


class Labeller(Step):
    """The process that labels."""

    entry_point: str = "aceal.label.ase"


class Fitter(Step):
    """The process that fits."""

    entry_point: str = "aceal.fit"


class Explorer(Step):
    """A process that explores, and the configurations it starts from."""

    entry_point: str = "aceal.explore.md"
    start: list[dict[str, Any]] | None = Field(
        None, description="Start configurations: a list as in `initial` [default: the first of `initial`]."
    )


class ReferenceMD(Section):
    """Snapshots of dynamics with the labelling calculator."""

    start: list[dict[str, Any]] = Field(description="Start configurations, one run for each: a list as in `initial`.")
    temperature: list[float] = Field(
        description="Temperature in K at the first and at the last step.", min_length=2, max_length=2
    )
    steps: int = Field(500, gt=0)
    interval: int = Field(25, gt=0, description="Steps between snapshots.")
    timestep: float = Field(0.002, gt=0, description="Time step in ps.")
    calculator: str | None = Field(None, description="ASE calculator [default: that of `label.settings`].")
    kwargs: dict[str, Any] | None = Field(
        None, description="Arguments of the calculator [default: those of `label.settings`]."
    )


#: of the labelled structures; 0: none
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Campaign(AsksForProperties, Section):
    """A whole campaign. Sections that come from the protocol may be given in part."""

    title: str = Field("", description="Shown in tables and reports.")
    protocol: str | None = Field(None, description="Where all defaults come from: fast, balanced (default) or precise.")
    seed: int = Field(0, ge=0, description="Random seed: the same seed gives the same campaign.")
    elements: list[str] | None = Field(None, description="Elements of the potential [default: those of `initial`].")
    basis: dict[str, Any] = Field(
        default_factory=dict, description="Overrides the protocol's basis: see Basis description."
    )
    potential: str | None = Field(None, description="File of a potential (.yaml) to improve, instead of `basis`.")
    initial: list[dict[str, Any]] = Field(default_factory=list, description="First configurations to label.")
    dataset: list[str] = Field(default_factory=list, description="Files of configurations that have labels already.")
    validation: list[dict[str, Any]] | ReferenceMD | Fraction | None = Field(
        None,
        description="Never fitted; decides at the gate, says which potential is the best, and calibrates: a list as in "
        "`initial`, snapshots of dynamics with the reference method, or a fraction of `dataset` (without one, of "
        "`initial`) taken by origin [default: the protocol's fraction, if `dataset` has 50 structures].",
    )
    test: list[dict[str, Any]] | ReferenceMD | Fraction | None = Field(
        None,
        description="Decides nothing; the errors of the returned potential on it are reported. As `validation`; 0: "
        "none [default: the protocol's fraction, if `dataset` has 50 structures, else none].",
    )
    label: Labeller = Field(default_factory=Labeller)
    explore: dict[str, Explorer] = Field(
        default_factory=lambda: {"md": Explorer()},
        min_length=1,
        description="Explorers, under names of your choice; for one called active or pool the default "
        "`entry_point` is that explorer.",
    )
    fit: Fitter = Field(default_factory=Fitter)
    selection: dict[str, Any] = Field(default_factory=dict)
    activeset: dict[str, Any] = Field(default_factory=dict)
    window: dict[str, Any] = Field(default_factory=dict)
    gate: dict[str, Any] = Field(default_factory=dict)
    limits: dict[str, Any] = Field(default_factory=dict)
    ensemble: dict[str, Any] = Field(
        default_factory=dict, description="An ensemble beside the potential, such as {members: 8} [default: none]."
    )
    loop: dict[str, Any] = Field(default_factory=dict)
    codes: Codes = Field(default_factory=Codes)
    options: dict[str, Any] = Field(
        default_factory=dict, description="AiiDA's metadata.options for all jobs (resources, queue_name, ...)."
    )
    clean_workdir: bool = Field(True, description="Empty the work folders of finished jobs after each generation.")
    threads: int | None = Field(None, gt=0, description="Number of cores for each job [default: all of this machine].")

    @model_validator(mode="after")
    def _together(self) -> Campaign:
        if not self.initial and not self.dataset:
            raise ValueError("give `initial` (configurations to label) or `dataset` (files with labels)")
        if self.validation == 0:
            raise ValueError("validation: 0 leaves nothing to decide by; give a fraction, a list or dynamics")
        if self.potential is not None and self.basis:
            raise ValueError("give `potential` or `basis`, not both")
        for name in {"active", "pool"} & set(self.explore):
            if "entry_point" not in self.explore[name].model_fields_set:
                self.explore[name].entry_point = f"aceal.explore.{name}"
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
    return build(Campaign, data, Path(source))


def documentation() -> list[tuple[str, str, str]]:
    """(section, key, description) of the whole schema, for the reference pages."""
    found = []
    for model in (Campaign, Codes, Labeller, Explorer, Fitter, ReferenceMD):
        for name, field in model.model_fields.items():
            found.append((model.__name__, name, field.description or (model.__doc__ or "")))
    return found
