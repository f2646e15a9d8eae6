"""What the report of a campaign shows beyond its table: runs, parity, structures, nodes; from the provenance graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiida_aceal.report.rows import generations
from aiida_aceal.workflows.base import descendants, output

if TYPE_CHECKING:
    from aiida.orm import CalcJobNode, ProcessNode
    from ase import Atoms

#: points of one walker, pairs of one set in the parity plot, structures of each kind, atoms of a structure shown
MOST_STEPS, MOST_PAIRS, MOST_STRUCTURES, MOST_ATOMS = 400, 1500, 24, 1000


def thinned(values: Sequence[Any], most: int) -> list[Any]:
    """At most ``most`` values, evenly spaced, the last one always among them."""
    if len(values) <= most:
        return list(values)
    step = (len(values) - 1) / (most - 1)
    return [values[round(k * step)] for k in range(most)]


def runs_of(campaign: ProcessNode) -> list[dict[str, Any]]:
    """Gamma along every MD run, with halts and selected structures: see `aiida_aceal.report.charts.walkers_chart`."""
    found = []
    for number, child in enumerate_generations(campaign):
        chosen = _selected(child)
        for job in _jobs(child, "AceLammpsCalculation"):
            series = output(job, "time_series")
            names = series.get_arraynames() if series is not None else []
            if "max_gamma" not in names:
                continue
            steps, gamma = series.get_array("step"), series.get_array("max_gamma")
            points = thinned([(int(s), float(g)) for s, g in zip(steps, gamma) if g == g], MOST_STEPS)
            report = output(job, "report").get_dict()
            halt = report.get("halt_step")
            name = _walker_of(job)
            found.append(
                {
                    "generation": number, "name": name, "pk": job.pk, "steps": [p[0] for p in points],
                    "gamma": [float(f"{p[1]:.5g}") for p in points],
                    "halt": [halt, report["halt_gamma"]] if halt is not None else None,
                    "selected": [
                        [step, gamma, words] for walker, step, gamma, words in chosen if walker in (name, None)
                    ],
                }
            )  # fmt: skip
    return found


def enumerate_generations(campaign: ProcessNode) -> list[tuple[int, ProcessNode]]:
    """Number and node of each generation."""
    return [(child.inputs.generation.value, child) for child in generations(campaign)]


def _jobs(process: ProcessNode, label: str) -> list[CalcJobNode]:
    found = [node for node in descendants(process) if node.process_label == label]
    return sorted(found, key=lambda node: node.pk)


def _walker_of(job: CalcJobNode) -> str:
    """Label of the walker: that of the link to the restart WorkChain above the job."""
    above = job.caller
    label = above.base.attributes.get("metadata_inputs", {}).get("metadata", {}).get("call_link_label") if above else ""
    return label or job.description or f"run {job.pk}"


def _selected(generation: ProcessNode) -> list[tuple[str | None, int, float, str]]:
    node = output(generation, "selected")
    found = []
    for atoms in node.iter_atoms() if node is not None else ():
        info = atoms.info
        if info.get("step") is not None and info.get("gamma_max") is not None:
            found.append((info.get("walker"), int(info["step"]), float(info["gamma_max"]), str(info.get("reason", ""))))
    return found


def parity_of(campaign: ProcessNode) -> dict[str, list[tuple[float, float]]]:
    """Pairs of label and prediction of the potential that is returned, thinned; empty if its fit kept none."""
    from aiida_aceal.common.archives import read_arrays
    from aiida_aceal.jobs.fit import JOB

    potential = best_of(campaign, "potential")
    fit = potential.creator if potential is not None else None
    if fit is None or "retrieved" not in fit.outputs:
        return {}
    name = JOB.output("parity_data").filename
    repository = fit.outputs.retrieved.base.repository
    if name not in repository.list_object_names():
        return {}
    with repository.open(name, "rb") as handle:
        arrays = read_arrays(handle.read(), name).arrays
    return {key: thinned([tuple(pair) for pair in values], MOST_PAIRS) for key, values in arrays.items()}


def best_of(campaign: ProcessNode, name: str) -> Any:
    """``potential``, ``active_set``, ... that the campaign returns, or would return now."""
    found = output(campaign, name)
    for child in reversed(generations(campaign)):
        found = found or output(child, f"best__{name}")
    return found


# --- structures ----------------------------------------------------------------------------------------------------


def shown(atoms: Atoms, kind: str, name: str, text: str, scale: float) -> dict[str, Any]:
    """A structure as the page draws it: positions (A) inside the cell, radii, gamma of each atom if it is known.

    :param scale: gamma of the last colour
    """
    from ase.data import covalent_radii

    wrapped = atoms.copy()
    has_cell = wrapped.cell.rank == 3
    if has_cell and wrapped.pbc.any():
        wrapped.wrap()
    gamma = atoms.arrays.get("gamma")
    return {
        "kind": kind, "name": name, "text": text, "scale": scale, "symbols": wrapped.get_chemical_symbols(),
        "positions": [[round(float(x), 3) for x in position] for position in wrapped.positions],
        "cell": [[round(float(x), 3) for x in vector] for vector in wrapped.cell] if has_cell else None,
        "radii": [round(float(covalent_radii[number]), 2) for number in wrapped.numbers],
        "gamma": None if gamma is None else [float(f"{value:.4g}") for value in gamma],
    }  # fmt: skip


def structures_of(campaign: ProcessNode, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Selected structures, candidates, and those that the returned potential predicts worst, coloured by gamma."""
    scale = max([float(row["gamma_hi"]) for row in rows if row.get("gamma_hi") is not None], default=10.0)
    found: dict[str, list[dict[str, Any]]] = {"selected": [], "candidates": [], "worst predicted": []}
    for number, child in reversed(enumerate_generations(campaign)):
        for kind in ("selected", "candidates"):
            node = output(child, kind)
            if node is None or len(found[kind]) >= MOST_STRUCTURES:
                continue
            places = thinned(range(len(node)), MOST_STRUCTURES - len(found[kind]))
            for place in places:
                atoms = node.to_atoms([place])[0]
                if len(atoms) <= MOST_ATOMS:
                    name = f"generation {number}, structure {place} of <{node.pk}>"
                    found[kind].append(shown(atoms, kind, name, _words(atoms, node.pk, place), scale))
    found["worst predicted"] = _worst(campaign, scale)
    return [one for kind in found.values() for one in kind]


def _words(atoms: Atoms, pk: int, place: int) -> str:
    info = atoms.info
    parts = [f"{len(atoms)} atoms, {atoms.get_chemical_formula()}"]
    if info.get("gamma_max") is not None:
        parts.append(f"max γ {float(info['gamma_max']):.3g}")
    for key in ("explorer", "walker", "step", "reason"):
        if info.get(key) is not None:
            parts.append(f"{key} {info[key]}" if key != "reason" else f"chosen by {info[key]}")
    return f"{'; '.join(parts)}; load_node({pk}).to_atoms([{place}])[0]"


def _worst(campaign: ProcessNode, scale: float) -> list[dict[str, Any]]:
    """The worst of the validation set, by the evaluation of the returned potential."""
    report = best_of(campaign, "validation_report")
    job = report.creator if report is not None else None
    evaluated = output(job, "evaluated")
    if evaluated is None:
        return []
    found = []
    for entry in report.get_dict().get("worst") or []:
        atoms = evaluated.to_atoms([entry["index"]])[0]
        if len(atoms) > MOST_ATOMS:
            continue
        errors = entry["errors"]
        words = [f"energy {1000 * errors['energy']:.3g} meV/atom"] if "energy" in errors else []
        words += [f"largest force error {1000 * errors['forces']:.3g} meV/Å"] if "forces" in errors else []
        text = f"{', '.join(words)}; {_words(atoms, evaluated.pk, entry['index'])}"
        name = f"validation, structure {entry['index']} of <{evaluated.pk}>"
        found.append(shown(atoms, "worst predicted", name, text, scale))
    return found


# --- nodes ---------------------------------------------------------------------------------------------------------


def nodes_of(campaign: ProcessNode) -> list[tuple[str, int, str]]:
    """What the numbers come from: words, PK, and the command that shows the node."""
    from aiida.manage import get_manager

    profile = get_manager().get_profile().name
    found: list[tuple[str, int, str]] = []

    def add(words: str, node: Any) -> None:
        if node is None:
            return
        kind = type(node).__name__
        if hasattr(node, "process_state"):
            command = f"process report {node.pk}" if kind == "WorkChainNode" else f"process show {node.pk}"
        elif kind == "Dict":
            command = f"data core.dict show {node.pk}"
        else:
            command = f"node show {node.pk}"
        found.append((words, node.pk, f"verdi -p {profile} {command}"))

    add("campaign", campaign)
    for name in ("potential", "active_set", "ensemble", "validation_report"):
        add(f"returned {name.replace('_', ' ')}", best_of(campaign, name))
    for name in ("validation", "test", "test_report", "summary"):
        add(name.replace("_", " "), output(campaign, name))
    for number, child in enumerate_generations(campaign):
        add(f"generation {number}", child)
        for name in ("generation_report", "potential", "labelled", "selected", "candidates", "validation_report"):
            add(f"generation {number}: {name.replace('_', ' ')}", output(child, name))
        for label, words in (("fit", "fit"), ("label_label", "labels"), ("label_initial", "labels")):
            links = child.base.links.get_outgoing(link_label_filter=label).all_nodes()
            for node in links[:1]:
                add(f"generation {number}: {words}", node)
    return found


def versions_of(campaign: ProcessNode) -> dict[str, str]:
    """What the campaign ran with, as far as it is recorded, and what wrote the report."""
    from importlib.metadata import PackageNotFoundError, version

    recorded = campaign.base.attributes.get("version", {})
    found = {"aiida-core": str(recorded.get("core", "?")), "aiida-aceal": str(recorded.get("plugin", "?"))}
    for _, child in enumerate_generations(campaign):
        for job in _jobs(child, "AceLammpsCalculation"):
            report = output(job, "report")
            if report is not None and report.get_dict().get("lammps_version"):
                found["LAMMPS"] = report.get_dict()["lammps_version"]
    written = []
    for package in ("aiida-aceal", "aiida-core", "numpy", "ase"):
        try:
            written.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return {**found, "report written with": ", ".join(written)}
