"""From a checked input file to a builder of ``aceal.active_learning``.

Nothing is stored before everything is known to be right: :func:`prepare` makes structures and basis without AiiDA,
:func:`make_builder` validates unstored nodes against the ports of the campaign (``store=False``), and then stores
structures and basis with their provenance (``store=True``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase import Atoms

from aiida_aceal.ace import AcePotential
from aiida_aceal.ace.describe import check_description
from aiida_aceal.common.errors import AceError
from aiida_aceal.exploration.initial import LABEL_KEYS, generate, read_files
from aiida_aceal.fitting.split import split_roles
from aiida_aceal.inputs.apart import by_file, check_apart
from aiida_aceal.inputs.dynamics import Share, runs_here
from aiida_aceal.inputs.prepare import basis_node, basis_of, check_builder, elements_in, refusals_of_ports
from aiida_aceal.inputs.properties import crystals
from aiida_aceal.inputs.schema import Campaign, ReferenceMD, Step
from aiida_aceal.properties.names import DYNAMICS, property_names
from aiida_aceal.workflows.protocol import SECTIONS, merged, protocol_inputs
from aiida_aceal.workflows.sections import check_section
from aiida_aceal.workflows.sets import SAMPLERS, set_fractions, split_configurations
from aiida_aceal.workflows.steps import check_step, derived_seed, step_class

#: which seed each list of structures draws from
_STREAMS = {"initial": 100, "validation": 101, "test": 102}
_SPLIT_STREAM = 105
_START_STREAM = 110
_LAMMPS = ("aceal.explore.md",)
_PROPERTIES = "aceal.explore.properties"


@dataclass
class Prepared:
    """A campaign whose structures and basis exist, with nothing stored yet."""

    campaign: Campaign
    folder: Path
    sections: dict[str, Any]
    potential: AcePotential
    #: basis description, ``None`` if the potential came from a file
    basis: dict[str, Any] | None
    #: name -> (entries, seed, structures); names: initial, validation, test, start_<explorer>; no entries: split off
    structures: dict[str, tuple[list[dict[str, Any]], int, list[Atoms]]] = field(default_factory=dict)
    #: file -> labelled structures
    datasets: dict[str, list[Atoms]] = field(default_factory=dict)
    #: role -> share of the labelled structures (without those: of `initial`) that was split off for it
    fractions: dict[str, float] = field(default_factory=dict)
    #: what was assumed or left out in reading: names of labels, ionic steps that are not converged
    notes: list[str] = field(default_factory=list)
    #: explorer -> what its walkers get of the cores of this machine, of those that run here
    shares: dict[str, Share | None] = field(default_factory=dict)


def sections_of(campaign: Campaign) -> dict[str, Any]:
    """Sections of the protocol with those of the campaign laid over them, checked.

    :raises AceError: unknown protocol, wrong settings
    """
    own = {"basis": campaign.basis, "fit": campaign.fit.settings, **{k: getattr(campaign, k) for k in SECTIONS}}
    try:
        sections = protocol_inputs(campaign.protocol, own)
    except ValueError as error:
        raise AceError(str(error)) from error
    for name in SECTIONS:
        problem = check_section(name, sections[name])
        if problem:
            raise AceError(problem)
    try:
        check_description(sections["basis"])
    except AceError as error:
        raise AceError(f"basis: {error}") from error
    return sections


def prepare(campaign: Campaign, folder: str | Path = ".") -> Prepared:
    """Make structures and basis; relative paths start from ``folder``.

    :raises AceError: anything that is wrong with them, with the section it stands in
    """
    folder = Path(folder)
    sections = sections_of(campaign)
    lists: dict[str, tuple[list[dict[str, Any]], int]] = {}
    if campaign.initial:
        lists["initial"] = (campaign.initial, derived_seed(campaign.seed, _STREAMS["initial"]))
    for role in SAMPLERS:
        given = getattr(campaign, role)
        if isinstance(given, (list, ReferenceMD)):
            entries = given.start if isinstance(given, ReferenceMD) else given
            lists[role] = (entries, derived_seed(campaign.seed, _STREAMS[role]))
    for number, name in enumerate(sorted(campaign.explore)):
        if campaign.explore[name].start is not None:
            lists[f"start_{name}"] = (campaign.explore[name].start, derived_seed(campaign.seed, _START_STREAM + number))
    structures = {}
    notes: list[str] = []
    keys = {key: getattr(campaign, key) for key in LABEL_KEYS}
    for name, (entries, seed) in lists.items():
        try:
            unlabelled = name.startswith("start_") or isinstance(getattr(campaign, name), ReferenceMD)
            keyed = entries if unlabelled else [_with_keys(entry, keys) for entry in entries]
            structures[name] = (entries, seed, generate(keyed, seed=seed, base_directory=folder, say=notes.append))
        except AceError as error:
            raise AceError(f"{_place(name)}: {error}") from error
        if not structures[name][2]:
            raise AceError(f"{_place(name)}: yields no structures")
    datasets = {}
    for number, path in enumerate(campaign.dataset):
        try:
            datasets[f"file_{number:02d}"] = _labelled(
                read_files(path, base_directory=folder, keys=keys, say=notes.append), path
            )
        except AceError as error:
            raise AceError(f"dataset: {error}") from error
    fitted = {f"dataset: {path}": datasets[f"file_{number:02d}"] for number, path in enumerate(campaign.dataset)}
    if "initial" in structures:
        fitted |= by_file("initial", structures["initial"][2])
    # dynamics of the reference method start from a structure, and do not return it
    lists_of = {role: structures[role][2] for role in SAMPLERS if isinstance(getattr(campaign, role), list)}
    check_apart({"training": fitted, **{role: by_file(role, found) for role, found in lists_of.items()}})
    fractions = set_fractions(
        {role: getattr(campaign, role) for role in SAMPLERS}, sections["sets"], sum(map(len, datasets.values()))
    )
    _split_off(fractions, campaign.seed, structures, datasets)
    everything = [atoms for _, _, found in structures.values() for atoms in found]
    everything += [atoms for found in datasets.values() for atoms in found]
    elements = sorted(campaign.elements or elements_in(everything))
    basis, potential = basis_of(campaign.potential, sections["basis"], elements, folder, campaign.seed)
    prepared = Prepared(campaign, folder, sections, potential, basis, structures, datasets, fractions, notes)
    for name, runs in runs_here(campaign, sections, structures).items():
        prepared.notes += runs.notes
        prepared.shares[name] = runs.share
    return prepared


def _with_keys(entry: Any, keys: Mapping[str, str | None]) -> Any:
    """An entry of files with the names of labels of the campaign, where it has none of its own."""
    if not isinstance(entry, Mapping) or entry.get("kind") != "files":
        return entry
    return {**{key: name for key, name in keys.items() if name is not None}, **entry}


def _split_off(
    fractions: Mapping[str, float],
    seed: int,
    structures: dict[str, tuple[list[dict[str, Any]], int, list[Atoms]]],
    datasets: dict[str, list[Atoms]],
) -> None:
    """Take the sets that are fractions out of the labelled data, or out of `initial` if there are none."""
    if not fractions:
        return
    groups = datasets or {"initial": structures["initial"][2]}
    everything = [(name, atoms) for name, found in groups.items() for atoms in found]
    stream = derived_seed(seed, _SPLIT_STREAM)
    try:
        parts = split_roles([atoms for _, atoms in everything], fractions, stream)
    except AceError as error:
        raise AceError(f"{' and '.join(fractions)}: {error}") from error
    left: dict[str, list[Atoms]] = {name: [] for name in groups}
    for k in parts.pop("training"):
        left[everything[k][0]].append(everything[k][1])
    for role, indices in parts.items():
        structures[role] = ([], stream, [everything[k][1] for k in indices])
    if datasets:
        datasets.clear()
        datasets.update({name: found for name, found in left.items() if found})
    else:
        structures["initial"] = (*structures["initial"][:2], left["initial"])


def make_builder(prepared: Prepared, find_code: Callable[[str | None, str | None, str], Any], store: bool) -> Any:
    """Builder of the campaign.

    :param find_code: ``(label, local executable or None, place in the input) -> code``
    :param store: whether structures and basis are stored with their provenance, or unstored nodes are made
    :raises AceError: what the ports of the campaign refuse
    """
    with refusals_of_ports():
        return _builder(prepared, find_code, store)


def _builder(prepared: Prepared, find_code: Callable[[str | None, str | None, str], Any], store: bool) -> Any:
    from aiida import orm

    from aiida_aceal.data.active_set import ActiveSetData
    from aiida_aceal.data.dataset import ConfigurationsData
    from aiida_aceal.workflows import functions
    from aiida_aceal.workflows.active_learning import ActiveLearningWorkChain

    campaign = prepared.campaign
    worker = find_code(campaign.codes.worker, "aceal-worker", "codes.worker")

    active_set = None
    if campaign.active_set is not None:
        path = prepared.folder / campaign.active_set
        if not path.is_file():
            raise AceError(f"active_set: {campaign.active_set}: no such file in {prepared.folder}")
        active_set = ActiveSetData(file=path)
    parts: dict[str, Any] = {}
    if prepared.fractions and not prepared.datasets and store:
        entries, seed, _ = prepared.structures["initial"]
        if not _uses_files(entries):
            whole = functions.generate_configurations(orm.List(entries), orm.Int(seed))
            stream = orm.Int(derived_seed(campaign.seed, _SPLIT_STREAM))
            parts = split_configurations(whole, orm.Dict(prepared.fractions), stream)
            parts["initial"] = parts.pop("training")

    def node(name: str) -> Any:
        entries, seed, atoms = prepared.structures[name]
        if name in parts:
            return parts[name]
        if store and entries and not _uses_files(entries):
            return functions.generate_configurations(orm.List(entries), orm.Int(seed))
        return ConfigurationsData.from_atoms(atoms, source=name)

    builder = ActiveLearningWorkChain.get_builder()
    builder.metadata.label = campaign.title[:255]
    builder.metadata.description = "; ".join(prepared.notes)
    builder.potential = basis_node(prepared.basis, prepared.potential, campaign.seed, store)
    if active_set is not None:
        builder.active_set = active_set
    options = campaign.job_options()
    builder.worker = {"code": worker, "options": orm.Dict(options)}
    if "initial" in prepared.structures:
        builder.initial = node("initial")
    if prepared.datasets:
        builder.dataset = {
            key: ConfigurationsData.from_atoms(atoms, source="file") for key, atoms in prepared.datasets.items()
        }
    builder.labeller = labeller_step(campaign.label, worker, options, find_code)
    builder.fitter = _step(campaign.fit, prepared.sections["fit"], worker, options, find_code, "fit")
    for role, sampler in SAMPLERS.items():
        if isinstance(getattr(campaign, role), ReferenceMD):
            builder[sampler] = {
                "entry_point": orm.Str("aceal.sample"),
                "code": worker,
                "configurations": node(role),
                "settings": orm.Dict(_sampling(campaign, role)),
                "options": orm.Dict(options),
            }
        elif role in prepared.structures:
            builder[role] = node(role)
    if campaign.validate is not None:
        atoms = crystals(campaign.validate.structure, prepared.potential.elements, prepared.folder)
        builder.properties.structure = ConfigurationsData.from_atoms(atoms, source="validate")
        builder.properties.settings = orm.Dict(campaign.validate.settings())
        if campaign.validate.every is not None:
            builder.properties.every = orm.Int(campaign.validate.every)
        if campaign.validate.train_on:
            builder.properties.train_on = orm.Bool(True)
    explorers = {}
    for name in sorted(campaign.explore):
        step = campaign.explore[name]
        lammps = step.entry_point in _LAMMPS
        of_properties = step.entry_point == _PROPERTIES
        settings = merged(_defaults_of(campaign, prepared, step), step.settings)
        code = worker if not lammps else find_code(step.code or campaign.codes.lammps, "aceal-lmp", "codes.lammps")
        own = options
        of_cores = prepared.shares.get(name)
        if of_cores is not None:
            most = settings.get("max_concurrent")
            if most is None or (isinstance(most, int) and most > of_cores.walkers):
                settings = {**settings, "max_concurrent": of_cores.walkers}
            own = merged(options, {"resources": {"num_cores_per_mpiproc": of_cores.threads}})
        explorers[name] = _step(step, settings, code, own, find_code, f"explore.{name}")
        if f"start_{name}" in prepared.structures:
            explorers[name]["configurations"] = node(f"start_{name}")
        elif of_properties:
            given = campaign.validate.structure if campaign.validate is not None else ()
            atoms = crystals(given, prepared.potential.elements, prepared.folder)
            explorers[name]["configurations"] = ConfigurationsData.from_atoms(atoms, source="validate")
        elif "initial" in prepared.structures:
            first = prepared.structures["initial"][2][0]
            explorers[name]["configurations"] = ConfigurationsData.from_atoms([first], source="first of initial")
        else:
            raise AceError(f"explore.{name}: give `start`, the configurations to start from")
    builder.explorers = explorers
    for name in SECTIONS:
        builder[name] = orm.Dict(prepared.sections[name])
    builder.seed = orm.Int(campaign.seed)
    builder.clean_workdir = orm.Bool(campaign.clean_workdir)
    if not store:
        check_builder(builder)
    return builder


def _defaults_of(campaign: Campaign, prepared: Prepared, step: Step) -> Mapping[str, Any]:
    """Settings of an explorer that stand elsewhere: in the protocol, or in section `validate`."""
    if step.entry_point in _LAMMPS:
        return prepared.sections["explore"]
    if step.entry_point != _PROPERTIES or campaign.validate is None:
        return {}
    found = {key: value for key, value in campaign.validate.settings().items() if key not in ("lattice", *DYNAMICS)}
    if "properties" in found:
        found["properties"] = [name for name in property_names(found["properties"]) if name not in DYNAMICS]
    return found


def _step(
    step: Step, settings: Mapping[str, Any], default: Any, options: Mapping[str, Any], find_code: Any, where: str
) -> dict[str, Any]:
    from aiida import orm

    local = step.entry_point in ("aceal.label.ase", "aceal.fit", *_LAMMPS) or step.entry_point.startswith("aceal.expl")
    inputs = {
        "entry_point": orm.Str(step.entry_point),
        "settings": orm.Dict(dict(settings)),
        "options": orm.Dict(merged(options, step.options)),
        **{key: orm.to_aiida_type(value) for key, value in step.inputs.items()},
    }
    problem = check_step(inputs, where)
    if problem:
        raise AceError(problem)
    if "code" not in step_class(step.entry_point).spec().inputs and step.code is None:
        return inputs
    return {**inputs, "code": default if step.code is None and local else find_code(step.code, None, f"{where}.code")}


def labeller_step(step: Step, worker: Any, options: Mapping[str, Any], find_code: Any) -> dict[str, Any]:
    """Inputs of the namespace ``labeller``. Raises `AceError`."""
    return _step(step, step.settings, worker, options, find_code, "label")


def _sampling(campaign: Campaign, role: str) -> dict[str, Any]:
    reference = getattr(campaign, role)
    label = campaign.label.settings
    calculator = reference.calculator or label.get("calculator")
    if calculator is None:
        raise AceError(f"{role}.calculator: name an ASE calculator, since the labeller does not use one")
    kwargs = reference.kwargs if reference.kwargs is not None else label.get("kwargs") or {}
    return {
        "calculator": calculator,
        "kwargs": kwargs,
        "temperature": reference.temperature,
        "steps": reference.steps,
        "interval": reference.interval,
        "timestep": reference.timestep,
    }


def _labelled(configurations: list[Atoms], path: str) -> list[Atoms]:
    for index, atoms in enumerate(configurations):
        results = atoms.calc.results if atoms.calc is not None else {}
        if "energy" not in results or "forces" not in results:
            raise AceError(
                f"{path}, structure {index}: lacks energy or forces (found: {_found(atoms)}); name their entries with "
                "energy_key and forces_key, or put the file under `initial` to have it labelled"
            )
    return configurations


def _found(atoms: Atoms) -> str:
    names = [*atoms.info, *atoms.arrays, *(atoms.calc.results if atoms.calc is not None else {})]
    return ", ".join(sorted(set(names) - {"numbers", "positions", "source"})) or "nothing"


def _uses_files(entries: list[dict[str, Any]]) -> bool:
    """Whether structures come from files, which a calcfunction must not read."""
    for entry in entries:
        structure = entry.get("structure")
        if entry.get("kind") == "files" or isinstance(structure, str):
            return True
        if isinstance(structure, Mapping) and "file" in structure:
            return True
    return False


def _place(name: str) -> str:
    return f"explore.{name.removeprefix('start_')}.start" if name.startswith("start_") else name
