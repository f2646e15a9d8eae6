"""From the input of ``aiida-aceal validate`` to a builder of ``aceal.validate``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiida_aceal.common.configurations import read_configurations
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import build, setting
from aiida_aceal.common.yaml import load_yaml
from aiida_aceal.inputs.prepare import check_builder, refusals_of_ports
from aiida_aceal.inputs.properties import AsksForProperties, crystals
from aiida_aceal.inputs.schema import Jobs, Labeller
from aiida_aceal.workflows.protocol import merged


class Validation(AsksForProperties, Jobs):
    """A validation; what is not given comes from the campaign, if it is one's potential that is validated."""

    title: str = setting("", "Shown in tables and reports.")
    label: Labeller | None = setting(None, "Who labels, as in a campaign [default: the campaign's].")
    active_set: str | None = setting(None, "File of the active set (.asi) [default: the campaign's].")
    ensemble: str | None = setting(None, "File of an ensemble (.zip) [default: the campaign's].")
    labelled: list[str] = setting([], "Files with labels of the same method, which are not made again.")


@dataclass
class Subject:
    """What is validated: nodes, and the labeller of the campaign they come from."""

    potential: Any
    active_set: Any = None
    ensemble: Any = None
    labeller: Mapping[str, Any] | None = None
    whose: str = ""
    labelled: dict[str, Any] = field(default_factory=dict)


def read_validation(path: str | Path | None, overrides: Mapping[str, Any] | None = None) -> tuple[Validation, Path]:
    """Read and check an input file; ``overrides`` (from the command line) are laid over it.

    :raises AceError: no such file, no YAML, unknown keys (the nearest known one is named), wrong types
    """
    data = load_yaml(Path(path)) if path is not None else {}
    if not isinstance(data, Mapping):
        raise AceError(f"{path}: a mapping is expected (`validate: ...`, `label: ...`), found {type(data).__name__}")
    folder = Path(path).resolve().parent if path is not None else Path()
    checked = build(Validation, merged({"validate": {}}, merged(dict(data), dict(overrides or {}))), path or "options")
    if checked.validate is None:
        raise AceError(f"{path or 'options'}: validate: a mapping is expected, found null")
    for key in {"every", "train_on"} & checked.validate.model_fields_set:
        raise AceError(f"{path or 'options'}: validate.{key} is for campaigns")
    return checked, folder


def make_validation_builder(
    validation: Validation,
    folder: Path,
    subject: Subject,
    find_code: Callable[[str | None, str | None, str], Any],
    store: bool,
) -> Any:
    """Builder of the validation; with ``store`` false it is checked against all ports of the WorkChain.

    :raises AceError: what the ports refuse
    """
    from aiida import orm

    from aiida_aceal.data.active_set import ActiveSetData
    from aiida_aceal.data.dataset import ConfigurationsData
    from aiida_aceal.data.ensemble import EnsembleData
    from aiida_aceal.inputs.campaign import labeller_step
    from aiida_aceal.workflows.validate.workchain import ValidateWorkChain

    options = validation.job_options()
    builder = ValidateWorkChain.get_builder()
    builder.metadata.label = (validation.title or f"Properties of {subject.whose}")[:255]
    with refusals_of_ports():
        worker = find_code(validation.codes.worker, "aceal-worker", "codes.worker")
        builder.potential = subject.potential
        active_set, ensemble = subject.active_set, subject.ensemble
        if validation.active_set is not None:
            active_set = ActiveSetData(file=folder / validation.active_set)
        if validation.ensemble is not None:
            ensemble = EnsembleData(file=folder / validation.ensemble)
        if active_set is not None:
            builder.active_set = active_set
        if ensemble is not None:
            builder.ensemble = ensemble
        atoms = crystals(validation.validate.structure, subject.potential.elements, folder)
        builder.structure = ConfigurationsData.from_atoms(atoms, source="validate")
        builder.settings = orm.Dict(validation.validate.settings())
        builder.worker = {"code": worker, "options": orm.Dict(options)}
        if validation.label is not None:
            builder.labeller = labeller_step(validation.label, worker, options, find_code)
        elif subject.labeller is not None:
            builder.labeller = dict(subject.labeller)
        else:
            raise AceError("label: say who labels, such as {settings: {calculator: emt}}; there is no campaign to ask")
        sets = {
            f"file_{k:02d}": ConfigurationsData.from_atoms(
                read_configurations(folder / name, require=("energy", "forces")), source="file"
            )
            for k, name in enumerate(validation.labelled)
        }
        if sets or subject.labelled:
            builder.labelled = {**subject.labelled, **sets}
    if not store:
        check_builder(builder)
    return builder
