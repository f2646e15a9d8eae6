"""pacemaker as another fitter: its ``input.yaml``, its log and its tables of metrics.

Written after pacemaker's documentation (https://pacemaker.readthedocs.io) and Bochkarev et al., Phys. Rev. Materials 6,
013804 (2022). Units of pacemaker's tables: eV per atom, eV/Angstrom.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aiida_aceal.ace.errors import AceError
from aiida_aceal.fitting.schema import build

INPUT_FILE = "input.yaml"
OUTPUT_FILE = "output_potential.yaml"
LOG_FILE = "log.txt"
METRICS_FILE = "metrics.txt"
TEST_METRICS_FILE = "test_metrics.txt"

#: pacemaker ignores the given reference energies when a cohesive energy is outside of this window (eV/atom)
COHESIVE_WINDOW = (-20.0, 250.0)
#: columns of the metric tables that enter the report -> name there
COLUMNS = {
    "loss": "loss",
    "rmse_epa": "energy_rmse",
    "rmse_f_comp": "forces_rmse",
    "mae_f_comp": "forces_mae",
    "ncoefs": "n_parameters",
}


@dataclass
class Loss:
    """Loss function: ``kappa`` is the weight of the forces (0 to 1, or ``auto``), the others regularise."""

    kappa: float | Literal["auto"] = "auto"
    L1_coeffs: float = 1e-8
    L2_coeffs: float = 1e-8
    w0_rad: float = 1e-8
    w1_rad: float = 1e-8
    w2_rad: float = 1e-8
    w_orth: float | None = None

    def __post_init__(self) -> None:
        if self.kappa != "auto" and not 0.0 <= self.kappa <= 1.0:
            raise AceError(f"settings.fit.loss.kappa must lie between 0 and 1 or be 'auto', it is {self.kappa:g}")
        for name in ("L1_coeffs", "L2_coeffs", "w0_rad", "w1_rad", "w2_rad", "w_orth"):
            if (getattr(self, name) or 0.0) < 0:
                raise AceError(f"settings.fit.loss.{name} must not be negative")


@dataclass
class Weighting:
    """Weights by the energy above the lowest or above the convex hull (eV, eV/A)."""

    type: Literal["EnergyBasedWeightingPolicy"] = "EnergyBasedWeightingPolicy"
    DElow: float = 1.0
    DEup: float = 10.0
    DFup: float | None = 50.0
    DE: float = 1.0
    DF: float = 1.0
    wlow: float | None = 0.75
    energy: Literal["convex_hull", "cohesive"] = "convex_hull"
    reftype: Literal["all", "bulk", "cluster"] = "all"
    nfit: int | None = None
    seed: int | None = None


@dataclass
class Fit:
    """Section ``fit`` of pacemaker's input; names and meaning are pacemaker's."""

    loss: Loss = field(default_factory=Loss)
    weighting: Weighting | None = None
    optimizer: str = "BFGS"
    maxiter: int = 2000
    options: dict[str, float] | None = None
    repulsion: Literal["auto"] | None = "auto"
    trainable_parameters: str | None = None
    fit_cycles: int | None = None
    noise_relative_sigma: float | None = None
    noise_absolute_sigma: float | None = None
    randomize_func_coeffs: float | None = None
    ladder_step: float | list[float] | None = None
    ladder_type: Literal["body_order", "power_order"] | None = None
    min_relative_train_loss_per_iter: float | None = None
    min_relative_test_loss_per_iter: float | None = None
    early_stopping_patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("maxiter", "fit_cycles", "early_stopping_patience", "ladder_step"):
            value = getattr(self, name)
            values = value if isinstance(value, tuple) else (value,)
            if any(v is not None and v <= 0 for v in values):
                raise AceError(f"settings.fit.{name} must be positive, it is {value!r}")


@dataclass
class Backend:
    """Section ``backend`` of pacemaker's input."""

    evaluator: Literal["tensorpot", "pyace"] = "tensorpot"
    batch_size: int = 100
    batch_size_reduction: bool | None = None
    batch_size_reduction_factor: float | None = None
    display_step: int = 50
    gpu_config: dict[str, int] | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "display_step"):
            if getattr(self, name) <= 0:
                raise AceError(f"settings.backend.{name} must be positive, it is {getattr(self, name)}")


@dataclass
class PacemakerSettings:
    """What a user may say of a fit by pacemaker.

    ``reference_energies``: ``fit``, ``isolated``, ``none`` or element -> eV; ``reset``: forget the coefficients of the
    start potential; ``accept_early_stop``: an early stop by the patience rule is a success; ``python``: interpreter
    beside pacemaker, that has its pandas and ASE.
    """

    fit: Fit = field(default_factory=Fit)
    backend: Backend = field(default_factory=Backend)
    reference_energies: Literal["fit", "isolated", "none"] | dict[str, float] = "fit"
    reset: bool = False
    accept_early_stop: bool = False
    python: str = "python"

    @classmethod
    def read(cls, data: Mapping[str, Any] | None) -> PacemakerSettings:
        """Checked settings.

        :raises AceError: unknown key (the nearest is named), value of the wrong type or out of range.
        """
        settings = build(cls, dict(data or {}))
        if not re.fullmatch(r"[\w./+-]+", settings.python):
            raise AceError(f"settings.python must be the name or path of an interpreter, it is {settings.python!r}")
        return settings


def write_input(
    settings: PacemakerSettings,
    potential: str,
    cutoff: float,
    reference: Mapping[str, float],
    elements: Sequence[str],
    test: bool = False,
    seed: int | None = None,
) -> dict[str, Any]:
    """Content of ``input.yaml``.

    :param potential: file name of the start potential, which gives the basis.
    :param cutoff: its largest cutoff (A); older versions of pacemaker want it.
    :param reference: energy of the free atoms, eV; noted although the data frame holds corrected energies, since newer
        versions otherwise take those that they find in the potential.
    """
    data: dict[str, Any] = {
        "filename": "train.pckl.gzip",
        "reference_energy": {element: float(reference.get(element, 0.0)) for element in elements},
    }
    if test:
        data["test_filename"] = "test.pckl.gzip"
    return {
        "cutoff": float(cutoff),
        "seed": 42 if seed is None else int(seed),
        "potential": {"filename": potential, "reset": True} if settings.reset else potential,
        "data": data,
        "fit": _given(settings.fit),
        "backend": _given(settings.backend),
    }


def _given(section: Any) -> dict[str, Any]:
    """Fields that have a value, as plain YAML."""
    plain = {}
    for name, value in vars(section).items():
        if value is None:
            continue
        if hasattr(value, "__dataclass_fields__"):
            value = _given(value)
        plain[name] = list(value) if isinstance(value, tuple) else value
    return plain


def check_cohesive(energies: Sequence[float], names: Sequence[str]) -> None:
    """Refuse what pacemaker would quietly change.

    :param energies: energy above the free atoms, eV/atom.
    :raises AceError: one is outside of :data:`COHESIVE_WINDOW`.
    """
    low, high = COHESIVE_WINDOW
    for energy, name in zip(energies, names):
        if not low <= energy <= high:
            raise AceError(
                f"{name}: {energy:.4g} eV/atom above the free atoms is outside of [{low:g}, {high:g}], where pacemaker "
                "replaces the reference energies by its own; set reference_energies to 'fit' or to the free atoms"
            )


def read_metrics(text: str) -> list[dict[str, float]]:
    """Rows of a metric table: a line of column names, then one line for each iteration.

    :raises AceError: a complete line does not fit the names. A last line that is cut is left out.
    """
    lines = text.splitlines()
    if not lines:
        return []
    names = lines[0].split()
    rows = []
    for number, line in enumerate(lines[1:], 2):
        words = line.split()
        if not words:
            continue
        try:
            if len(words) != len(names):
                raise ValueError(f"{len(words)} values for {len(names)} columns")
            rows.append({name: float(word) for name, word in zip(names, words)})
        except ValueError as error:
            if number == len(lines) and not text.endswith("\n"):
                break
            raise AceError(f"line {number}: {error}") from error
    return rows


def summary(rows: Sequence[Mapping[str, float]], n_points: int = 200) -> dict[str, Any]:
    """Last metrics, and the loss against the iteration (at most about ``n_points`` of them)."""
    if not rows:
        return {}
    last = rows[-1]
    step = max(1, math.ceil(len(rows) / n_points))
    kept = [*rows[:-1:step], last]
    return {
        **{new: last[old] for old, new in COLUMNS.items() if old in last},
        "n_iterations": int(last.get("iter_num", len(rows) - 1)),
        "loss_history": [[int(row.get("iter_num", k)), row["loss"]] for k, row in enumerate(kept) if "loss" in row],
    }


def divergence(rows: Sequence[Mapping[str, float]]) -> str | None:
    """Why a fit has diverged, ``None`` if it has not: loss not finite, or larger at the end than at the start."""
    losses = [row["loss"] for row in rows if "loss" in row]
    for number, loss in enumerate(losses):
        if not math.isfinite(loss):
            return f"loss {loss} at iteration {number}"
    if len(losses) > 1 and losses[-1] > losses[0]:
        return f"loss rose from {losses[0]:.4g} to {losses[-1]:.4g}"
    return None


def read_log(text: str) -> dict[str, Any]:
    """What the log says: version, sizes, early stop, whether the fit was finished and saved."""
    found: dict[str, Any] = {"finished": "Final potential is saved to" in text, "early_stop": None, "version": None}
    patterns = {
        "version": r"pacemaker/pyace version: (\S+)",
        "early_stop": r"(EARLY STOPPING: .*)",
        "n_train": r"Fitting dataset size: (\d+) structures",
        "n_test": r"Test dataset size: (\d+) structures",
        "n_functions": r"Total number of functions: (\d+)",
    }
    for key, pattern in patterns.items():
        matches = re.findall(pattern, text)
        if matches:
            found[key] = int(matches[-1]) if key.startswith("n_") else matches[-1].strip()
    found["warnings"] = re.findall(r" W - (.+)", text)[:20]
    return found
