"""``extract``: small cells about the unknown atoms of structures too large for a label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiida_aceal.common.words import counted

from .declaration import Input, Job, Output
from .parts import ACTIVE_SET, POTENTIAL

if TYPE_CHECKING:
    from ase import Atoms

    from .task import Task

#: info entries of a large structure that are not those of the cells cut from it
_OWN = ("gamma_max", "source", "kind", "reason", "score", "round", "aceal_hash", "energy", "stress")


def run(task: Task) -> dict[str, Any]:
    """Cut the environments of all atoms above gamma_lo; small structures pass as they are."""
    from aiida_aceal.common.errors import AceError
    from aiida_aceal.exploration.extract import extract_environments
    from aiida_aceal.exploration.objective import StructureGrader
    from aiida_aceal.uncertainty.emptiness import mark

    settings, model, active_set = task.settings, task.model, task.active_set
    cuts: list[dict[str, Any]] = []
    counts = {"n_structures": 0, "n_small": 0, "n_candidates": 0}
    largest = 0.0

    def cells() -> Iterator[Atoms]:
        nonlocal largest
        for path, index, atoms in task.located():
            source = atoms.info.setdefault("source", f"{path.name}#{index}")
            gamma, emptiness = StructureGrader(model, active_set).floored(atoms)
            largest = max(largest, float(gamma.max()))
            counts["n_structures"] += 1
            if len(atoms) <= settings.max_atoms:
                if gamma.max() > settings.gamma_lo:
                    counts["n_small"] += 1
                    counts["n_candidates"] += 1
                    atoms.arrays["gamma"] = gamma
                    atoms.info["gamma_max"] = float(gamma.max())
                    mark(atoms.info, emptiness)
                    yield atoms
                continue
            task.say(f"{path}, structure {index}: {len(atoms)} atoms, largest gamma {gamma.max():.2f}")
            try:
                found = extract_environments(model, active_set, atoms, settings, task.say)
            except AceError as error:
                cuts.append({"structure": source, "status": "failed", "reason": str(error)})
                continue
            cuts.extend({"structure": source, **entry} for entry in found.reports)
            counts["n_candidates"] += len(found.cells)
            for cell in found.cells:
                # where the large structure came from (walker, step, ...) stays with its cuts
                cell.info = {**_origin(atoms), **cell.info}
                yield cell

    task.write("candidates", cells())
    failed = sum(entry["status"] == "failed" for entry in cuts)
    task.echo(
        f"{counted(counts['n_candidates'], 'cell')} from {counted(counts['n_structures'], 'structure')}, "
        f"{counted(failed, 'cut')} failed"
    )
    return {"status": "completed", **counts, "n_failed": failed, "max_gamma": largest, "cuts": cuts}


def _origin(atoms: Atoms) -> dict[str, Any]:
    """Plain info of a structure that was cut, its size and content hash (``parent``)."""
    from aiida_aceal.common.configurations import configuration_hash

    kept = {k: v for k, v in atoms.info.items() if k not in _OWN and isinstance(v, (str, int, float, bool))}
    return {**kept, "parent": configuration_hash(atoms), "parent_atoms": len(atoms)}


JOB = Job(
    "extract",
    "Cut the environments of all atoms of DATA... whose grade is above gamma_lo.\n\n"
    "Structures of at most max_atoms atoms are passed on as they are (graded), if any atom is above gamma_lo.",
    run,
    "aiida_aceal.exploration.extract:ExtractSettings",
    inputs=(
        POTENTIAL,
        ACTIVE_SET,
        Input(
            "configurations", "configurations", "Configurations, which may be too large to label.", many=True,
            metavar="data",
        ),
    ),
    outputs=(
        Output(
            "candidates", "configurations", "The cells, with gamma of each atom; none if no atom is above gamma_lo.",
            may_be_empty=True,
        ),
    ),
    source=lambda settings: "aceal.extract",
    settings_option="--settings",
)  # fmt: skip
