"""Calcfunctions of the labelling WorkChains: structures out of a set, labels of their calculations back into one.

All of them may run twice (a worker was killed in between) and then give the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import calcfunction
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.common.configurations import get_labels
from aiida_aceal.data.dataset import ConfigurationsData

#: names of calcfunction inputs and outputs end with the index of the configuration
_INDEX = re.compile(r"_(\d+)$")
#: position in a 3x3 matrix of ASE's Voigt order xx, yy, zz, yz, xz, xy
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))

#: setting ``energy`` -> key of aiida-vasp, see the documentation of ``aceal.label.vasp``
VASP_ENERGIES = {"extrapolated": "energy_extrapolated", "free": "energy_free", "no_entropy": "energy_no_entropy"}

#: smearings of pw.x for which the energy at zero smearing lies half way between F and F + TS
_SYMMETRIC_SMEARING = ("gaussian", "gauss", "gaussian smearing", "fermi-dirac", "f-d", "fd")


def element_order(symbols: list[str]) -> np.ndarray:
    """Indices that put atoms of one element together, the order among them kept (int64 [n])."""
    return np.argsort(np.array(symbols), kind="stable")


@calcfunction
def structures_of(configurations: ConfigurationsData, indices: orm.List) -> dict[str, orm.StructureData]:
    """``structure_<index>`` for each index: atoms sorted by element, as DFT codes write one block for each element."""
    structures = {}
    for index in indices.get_list():
        atoms = configurations[index]
        order = element_order(atoms.get_chemical_symbols())
        structure = orm.StructureData(cell=np.asarray(atoms.cell).tolist(), pbc=atoms.pbc.tolist())
        for i in order:
            structure.append_atom(position=atoms.positions[i].tolist(), symbols=atoms.symbols[i])
        structure.label = atoms.info["aceal_hash"]
        structures[f"structure_{index:05d}"] = structure
    return structures


@calcfunction
def collect_vasp_labels(
    configurations: ConfigurationsData, settings: orm.Dict, outcomes: orm.Dict, **misc: orm.Dict
) -> dict[str, orm.Data]:
    """``labelled`` and ``report`` from the ``misc`` output (input ``misc_<index>``) of each VASP calculation."""
    results = {int(_INDEX.search(name).group(1)): node.get_dict() for name, node in misc.items()}
    return _collect(configurations, settings.get_dict(), outcomes.get_dict(), results, vasp_labels)


def vasp_labels(misc: Mapping[str, Any], n_atoms: int, energy: str = "extrapolated") -> dict[str, Any]:
    """Labels of one VASP calculation in the order of its atoms.

    :param misc: output ``misc`` of aiida-vasp: energies in eV, forces in eV/A, stress in kB with vasprun's sign
        (positive under compression).
    :returns: ``energy``, ``forces`` [n, 3], perhaps ``stress`` [6] (eV/A^3, positive under tension).
    :raises ValueError: something is missing, or the self-consistency did not converge; exit code 0 of a VASP
        calculation promises neither.
    """
    key = VASP_ENERGIES[energy]
    value = (misc.get("total_energies") or {}).get(key)
    if value is None:
        raise ValueError(f"no {key} in the output")
    if misc.get("forces") is None:
        raise ValueError("no forces in the output")
    forces = np.array(misc["forces"], dtype=float)
    if forces.shape != (n_atoms, 3):
        raise ValueError(f"{len(forces)} forces for {n_atoms} atoms")
    if not (misc.get("run_status") or {}).get("electronic_converged"):
        raise ValueError("the electronic structure is not converged")
    labels = {"energy": float(value), "forces": forces}
    if misc.get("stress") is not None:
        stress = -0.1 * units.GPa * np.array(misc["stress"], dtype=float)
        labels["stress"] = voigt(stress)
    return labels


@calcfunction
def collect_quantumespresso_labels(
    configurations: ConfigurationsData, settings: orm.Dict, outcomes: orm.Dict, **outputs: orm.Data
) -> dict[str, orm.Data]:
    """``labelled`` and ``report`` from the outputs ``parameters_<index>`` and ``trajectory_<index>`` of pw.x."""
    results: dict[int, dict[str, Any]] = {}
    for name, node in outputs.items():
        index = int(_INDEX.search(name).group(1))
        if name.startswith("parameters_"):
            results.setdefault(index, {}).update(node.get_dict())
        else:
            arrays = {key: node.get_array(key)[-1] for key in ("forces", "stress") if key in node.get_arraynames()}
            results.setdefault(index, {}).update(arrays)
    smearing = outcomes.get_dict()["report"]["parameters"]["SYSTEM"].get("smearing")

    def read(result: Mapping[str, Any], n_atoms: int, energy: str) -> dict[str, Any]:
        return quantumespresso_labels(result, n_atoms, energy, smearing)

    return _collect(configurations, settings.get_dict(), outcomes.get_dict(), results, read)


def quantumespresso_labels(
    result: Mapping[str, Any], n_atoms: int, energy: str = "extrapolated", smearing: str | None = None
) -> dict[str, Any]:
    """Labels of one calculation by pw.x in the order of its atoms.

    pw.x prints the free energy F (its "total energy") and the smearing contribution -TS. The energy at zero smearing
    is F + TS/2 for Gaussian and Fermi-Dirac smearing; Methfessel-Paxton's and Marzari-Vanderbilt's F is already close.

    :param result: ``energy``, ``energy_smearing`` (eV), ``forces`` [n, 3] (eV/A), ``stress`` [3, 3] (GPa, positive
        under compression).
    :returns: ``energy``, ``forces`` [n, 3], perhaps ``stress`` [6] (eV/A^3, positive under tension).
    :raises ValueError: something is missing or of the wrong shape.
    """
    if result.get("energy") is None:
        raise ValueError("no energy in the output")
    if result.get("forces") is None:
        raise ValueError("no forces in the output")
    forces = np.array(result["forces"], dtype=float)
    if forces.shape != (n_atoms, 3):
        raise ValueError(f"forces of shape {forces.shape} for {n_atoms} atoms")
    value = float(result["energy"])
    if energy == "extrapolated" and str(smearing).lower() in _SYMMETRIC_SMEARING:
        value -= 0.5 * float(result.get("energy_smearing") or 0.0)
    labels = {"energy": value, "forces": forces}
    if result.get("stress") is not None:
        labels["stress"] = voigt(-units.GPa * np.array(result["stress"], dtype=float))
    return labels


@calcfunction
def collect_given_labels(
    configurations: ConfigurationsData, settings: orm.Dict, **labels: ConfigurationsData
) -> dict[str, orm.Data]:
    """``labelled`` and ``report`` of labels from elsewhere; of two for one structure that of the later name counts.

    Configurations without a label were not tried, which is no failure.
    """
    brought = {atoms.info["aceal_hash"]: atoms for name in sorted(labels) for atoms in labels[name].iter_atoms()}
    results, processes = {}, {}
    for index, digest in enumerate(configurations.hashes):
        if digest in brought:
            results[index], processes[str(index)] = brought[digest], brought[digest].info.get("label_source", "given")
    absent = [index for index in range(len(configurations)) if index not in results]
    outcomes = {
        "reasons": {str(index): "no label was brought" for index in absent},
        "processes": processes,
        "not_tried": absent,
        "report": {"wall_seconds": 0.0, "core_seconds": 0.0},
    }

    def read(atoms: Any, n_atoms: int, energy: str) -> dict[str, Any]:
        order = element_order(atoms.get_chemical_symbols())
        found = zip(("energy", "forces", "stress"), get_labels(atoms))
        values = {name: value for name, value in found if value is not None}
        return {**values, "forces": values["forces"][order]}

    used = {"energy": "as given", "stress": True, **settings.get_dict(), "source": "aceal.label.manual"}
    return _collect(configurations, used, outcomes, results, read)


@calcfunction
def merge_labels(**labels: ConfigurationsData) -> ConfigurationsData:
    """All labels in one set; of two of one structure that of the later name counts."""
    return ConfigurationsData.merge([labels[name] for name in sorted(labels, reverse=True)], source="labels")


def voigt(matrix: np.ndarray) -> np.ndarray:
    """Symmetric part of a [3, 3] stress in ASE's order xx, yy, zz, yz, xz, xy."""
    return np.array([(matrix[i, j] + matrix[j, i]) / 2 for i, j in _VOIGT])


def _collect(
    configurations: ConfigurationsData,
    settings: Mapping[str, Any],
    outcomes: Mapping[str, Any],
    results: Mapping[int, Any],
    read: Callable[..., dict[str, Any]],
) -> dict[str, orm.Data]:
    """One set of labelled configurations, atoms in their own order again, and the report that all labellers give."""
    labelled, failures, not_tried = [], [], []
    lost = set(outcomes.get("not_tried", ()))
    reasons, processes = outcomes["reasons"], outcomes["processes"]
    for index, atoms in enumerate(configurations.iter_atoms()):
        reason = reasons.get(str(index))
        if index in results:
            try:
                labels = read(results[index], len(atoms), settings["energy"])
                reason = _refuse(labels, settings)
            except ValueError as error:
                reason = str(error)
        if reason is not None:
            failure = {"index": index, "hash": atoms.info["aceal_hash"], "reason": reason}
            rows = not_tried if index in lost else failures
            rows.append({**failure, "process": processes.get(str(index))})
            continue
        order = element_order(atoms.get_chemical_symbols())
        forces = np.empty((len(atoms), 3))
        forces[order] = labels["forces"]
        labels["forces"] = forces
        if not settings["stress"] or not atoms.pbc.all():
            labels.pop("stress", None)
        atoms.calc = SinglePointCalculator(atoms, **labels)
        atoms.info["label_process"] = processes[str(index)]
        labelled.append(atoms)
    report = {
        "n_configurations": len(configurations),
        "n_labelled": len(labelled),
        "n_failed": len(failures),
        "n_not_tried": len(not_tried),
        "n_stress": sum("stress" in atoms.calc.results for atoms in labelled),
        "failures": failures,
        "not_tried": not_tried,
        "energy": settings["energy"],
        "units": {"energy": "eV", "forces": "eV/A", "stress": "eV/A^3"},
        **outcomes["report"],
    }
    outputs: dict[str, orm.Data] = {"report": orm.Dict(report)}
    if labelled:
        outputs["labelled"] = ConfigurationsData.from_atoms(labelled, source=settings["source"])
    return outputs


def _refuse(labels: Mapping[str, Any], settings: Mapping[str, Any]) -> str | None:
    """Reason why labels that are there are not used."""
    for name, values in labels.items():
        if not np.all(np.isfinite(values)):
            return f"{name} not finite"
    largest = float(np.max(np.linalg.norm(labels["forces"], axis=1)))
    limit = settings.get("max_force")
    return f"force of {largest:.4g} eV/A is above max_force = {limit:g}" if limit and largest > limit else None
