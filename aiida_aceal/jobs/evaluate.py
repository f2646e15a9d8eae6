"""``evaluate``: energies, forces, stress and gamma of many configurations, errors against their labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiida_aceal.common.settings import Settings, setting
from aiida_aceal.common.words import counted

from .declaration import Input, Job, Output
from .parts import ENSEMBLE, POTENTIAL

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

    from .task import Task

UNITS = {"energy": "eV/atom", "forces": "eV/A", "stress": "eV/A^3"}


class EvaluateSettings(Settings):
    """What the report lists."""

    worst: int = setting(10, "Number of worst structures listed in the report.", ge=0)


class EvaluateNodeSettings(EvaluateSettings):
    """What the report lists, and what becomes a node."""

    heading = "Evaluation: `settings` of `aceal.evaluate`"

    store: bool = setting(True, "Whether the evaluated configurations are stored as a node (the report always is).")


class ErrorSums:
    """Running RMSE, MAE and largest absolute value of errors that arrive in pieces."""

    def __init__(self) -> None:
        self.count, self.squares, self.absolutes, self.largest = 0, 0.0, 0.0, 0.0

    def add(self, errors: Any) -> None:
        """Add errors of any shape."""
        import numpy as np

        errors = np.abs(np.asarray(errors, dtype=float)).ravel()
        self.count += errors.size
        self.squares += float(errors @ errors)
        self.absolutes += float(errors.sum())
        self.largest = max(self.largest, float(errors.max(initial=0.0)))

    def summary(self) -> dict[str, float]:
        """``rmse``, ``mae``, ``max`` and the number ``n`` of values; empty if there were none."""
        if not self.count:
            return {}
        return {
            "rmse": math.sqrt(self.squares / self.count),
            "mae": self.absolutes / self.count,
            "max": self.largest,
            "n": self.count,
        }


class GradedErrors:
    """Grades and force errors of atoms that arrive in pieces; the report keeps a thinned list for calibration."""

    KEPT, TOP = 400, 100

    def __init__(self) -> None:
        self.pairs: list[np.ndarray] = []

    def add(self, gamma: np.ndarray, forces: np.ndarray, labels: np.ndarray) -> None:
        """Atoms of one configuration: gamma [n], forces and their labels [n, 3]."""
        import numpy as np

        self.pairs.append(np.stack([gamma, np.linalg.norm(np.asarray(forces) - labels, axis=1)]))

    def summary(self) -> dict[str, Any]:
        """``gamma`` and ``error`` (eV/A), ascending in gamma: evenly spaced in rank, the largest grades always."""
        import numpy as np

        if not self.pairs:
            return {}
        pairs = np.concatenate(self.pairs, axis=1)
        pairs = pairs[:, np.argsort(pairs[0], kind="stable")]
        n = pairs.shape[1]
        top = np.arange(max(0, n - self.TOP), n)
        kept = np.unique(np.concatenate([np.linspace(0, n - 1, min(n, self.KEPT)).astype(int), top]))
        gamma, error = ([float(f"{x:.5g}") for x in row] for row in pairs[:, kept])
        return {"gamma": gamma, "error": error, "n": n}


class Labels:
    """Energies, compositions and sums of forces of labels that arrive in pieces: their spread, and who is far off."""

    def __init__(self, elements: Sequence[str]) -> None:
        self.elements = tuple(elements)
        self.counts: list[list[int]] = []
        self.energies: list[float] = []
        self.names: list[str] = []
        self.errors: list[tuple[float, float]] = []
        self.forces = [0, 0.0, 0.0]

    def add(self, atoms: Atoms, name: str, labels: Mapping[str, Any], computed: Mapping[str, Any]) -> None:
        """One configuration with an energy label; without one it does not count."""
        import numpy as np

        if labels["energy"] is None:
            return
        symbols = atoms.get_chemical_symbols()
        self.counts.append([symbols.count(element) for element in self.elements])
        self.energies.append(labels["energy"])
        self.names.append(name)
        off = 0.0
        if labels["forces"] is not None:
            values = np.asarray(labels["forces"], dtype=float)
            off = float(np.sqrt(np.mean((np.asarray(computed["forces"]) - values) ** 2)))
            sums = (values.size, float(values.sum()), float((values**2).sum()))
            self.forces = [a + b for a, b in zip(self.forces, sums)]
        self.errors.append((abs(computed["energy"] - labels["energy"]) / len(atoms), off))

    def spread(self) -> dict[str, float]:
        """As `aiida_aceal.fitting.metrics.label_spread`."""
        import numpy as np

        from aiida_aceal.fitting.metrics import label_spread

        if not self.energies:
            return {}
        found = label_spread(np.array(self.counts), np.array(self.energies), [])
        n, total, squares = self.forces
        return found | ({"forces": math.sqrt(max(squares / n - (total / n) ** 2, 0.0))} if n else {})

    def far_off(self, count: int) -> list[dict[str, Any]]:
        """As `aiida_aceal.fitting.checks.stand_out`."""
        import numpy as np

        from aiida_aceal.fitting.checks import stand_out

        energy, forces = np.array(self.errors or np.zeros((0, 2))).T
        return stand_out(energy, forces, self.names)[:count]


class Evaluation:
    """Errors, grades and worst structures of the configurations that pass through."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.sums = {name: ErrorSums() for name in UNITS}
        self.graded = GradedErrors()
        self.labels = Labels(task.potential.elements)
        self.gamma_max: list[float] = []
        self.worst: list[dict[str, Any]] = []
        self.n_structures = self.n_atoms = self.n_emptier = 0
        self.scores = None
        if task.given("ensemble"):
            from .ensemble_scores import EnsembleScores

            self.scores = EnsembleScores(task.path("ensemble"))

    def frames(self) -> Iterator[Atoms]:
        """The configurations with the computed labels in the place of the given ones."""
        grade = self.task.active_set is not None
        for chunk in self.task.chunks():
            results = self.task.model.evaluate_batch(chunk, forces=True, stress=True, gamma=grade)
            if self.scores is not None:
                self.scores.add(chunk)
            for atoms, result in zip(chunk, results):
                self.take(atoms, result)
                self.n_structures += 1
                self.n_atoms += len(atoms)
                yield atoms
            self.task.say(f"{counted(self.n_structures, 'structure')}, {counted(self.n_atoms, 'atom')}")

    def take(self, atoms: Atoms, result: Any) -> None:
        """One configuration: note its errors and grades, and give it the computed labels.

        :raises NotFiniteError: energy or forces are not finite
        """
        import numpy as np
        from ase.calculators.singlepoint import SinglePointCalculator

        from aiida_aceal.common.configurations import configuration_hash, get_labels
        from aiida_aceal.common.errors import NotFiniteError

        labels = dict(zip(UNITS, get_labels(atoms)))
        free = self.task.potential.reference_energies
        energy = result.energy + sum(free.get(symbol, 0.0) for symbol in atoms.get_chemical_symbols())
        if not np.isfinite(energy) or not np.all(np.isfinite(result.forces)):
            raise NotFiniteError(
                f"structure {self.n_structures} of the data: energy or forces are not finite; look for atoms on top of "
                "each other or a broken potential"
            )
        computed = {"energy": energy, "forces": result.forces}
        if atoms.cell.rank == 3:
            computed["stress"] = result.stress
        errors = self.compare(computed, labels, len(atoms))
        name = str(atoms.info.get("source") or f"structure {self.n_structures}")
        self.labels.add(atoms, name, labels, computed)
        entry = {"index": self.n_structures, "hash": configuration_hash(atoms), "name": name, "errors": errors}
        if self.task.active_set is not None:
            from aiida_aceal.uncertainty.emptiness import mark

            atoms.arrays["gamma"] = np.asarray(result.gamma, dtype=float)
            atoms.info["gamma_max"] = entry["gamma_max"] = float(np.max(result.gamma))
            self.n_emptier += mark(atoms.info, result.emptiness)
            self.gamma_max.append(entry["gamma_max"])
            if labels["forces"] is not None:
                self.graded.add(atoms.arrays["gamma"], result.forces, labels["forces"])
        if self.scores is not None:
            entry.update({key: atoms.info[key] for key in ("dE", "dF")})
        self.worst.append(entry)
        self.worst.sort(key=lambda e: (-e["errors"].get("forces", e["errors"].get("energy", 0.0)), e["index"]))
        del self.worst[self.task.settings.worst :]
        for name, value in labels.items():
            if value is not None:
                (atoms.arrays if name == "forces" else atoms.info)[f"reference_{name}"] = value
        atoms.calc = SinglePointCalculator(atoms, **computed)

    def compare(self, computed: Mapping[str, Any], labels: Mapping[str, Any], n_atoms: int) -> dict[str, float]:
        """Add the errors of one configuration to the sums; returns its own (eV/atom, eV/A, eV/A^3)."""
        import numpy as np

        errors = {}
        for name, value in computed.items():
            if labels[name] is not None:
                difference = (np.asarray(value) - np.asarray(labels[name])) / (n_atoms if name == "energy" else 1)
                self.sums[name].add(difference)
                errors[name] = float(np.max(np.abs(difference)))
        return errors

    def report(self) -> dict[str, Any]:
        """All numbers."""
        import numpy as np

        facts = {
            "n_structures": self.n_structures,
            "n_atoms": self.n_atoms,
            "units": dict(UNITS),
            **{name: one.summary() for name, one in self.sums.items()},
            "spread": self.labels.spread(),
            "worst": self.worst,
            "far_off": self.labels.far_off(self.task.settings.worst),
            "seconds": self.task.seconds,
        }
        if self.scores is not None:
            facts["ensemble"] = self.scores.report()
        if self.gamma_max:
            median, q90, q99 = (float(q) for q in np.quantile(self.gamma_max, [0.5, 0.9, 0.99]))
            facts["gamma"] = {
                "max": max(self.gamma_max), "median": median, "q90": q90, "q99": q99,
                "emptiness": {"n_structures": self.n_emptier, "note": self.task.active_set.emptiness_note},
                "n_above_1": int(np.sum(np.array(self.gamma_max) > 1.0 + 1e-6)),  # beyond rounding
            }  # fmt: skip
            facts["graded_errors"] = self.graded.summary()
        return facts


def run(task: Task) -> dict[str, Any]:
    """Evaluate all configurations and compare with their labels."""
    evaluation = Evaluation(task)
    task.write("evaluated", evaluation.frames())
    report = evaluation.report()
    for name, unit in UNITS.items():
        if report[name]:
            numbers = ", ".join(f"{key} {report[name][key]:.6g}" for key in ("rmse", "mae", "max"))
            task.echo(f"{name:8s} {numbers} {unit}")
    return report


JOB = Job(
    "evaluate",
    "Evaluate POTENTIAL on DATA... and compare with the labels, if there are any.\n\n"
    "In OUTPUT the computed energy, forces and stress are the labels; the labels of DATA stand beside them as "
    "`reference_energy`, `reference_forces` and `reference_stress`.",
    run,
    EvaluateSettings,
    inputs=(
        POTENTIAL,
        Input(
            "configurations", "configurations", "Configurations to evaluate; their labels are compared with the "
                "result.", many=True,
            metavar="data",
        ),
        Input("active_set", "active_set", "If given, gamma of each atom is computed.", required=False, option="--asi"),
        ENSEMBLE,
    ),
    outputs=(
        Output(
            "evaluated", "configurations",
            "The configurations with the computed labels; given labels as reference_energy, reference_forces, "
            "reference_stress.",
            required=False, wanted=lambda settings: settings.get("store", True),
        ),
    ),
    node_settings=EvaluateNodeSettings,
    label_keys=True,
)  # fmt: skip
