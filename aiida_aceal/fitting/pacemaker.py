"""pacemaker as another fitter: its ``input.yaml``, its log and its tables of metrics.

Written after pacemaker's documentation (https://pacemaker.readthedocs.io) and Bochkarev et al., Phys. Rev. Materials 6,
013804 (2022). Units of pacemaker's tables: eV per atom, eV/Angstrom.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from aiida_aceal.ace.errors import AceError
from aiida_aceal.ace.potential import AcePotential
from aiida_aceal.fitting.schema import build

INPUT_FILE = "input.yaml"
OUTPUT_FILE = "output_potential.yaml"
LOG_FILE = "log.txt"
METRICS_FILE = "metrics.txt"
TEST_METRICS_FILE = "test_metrics.txt"
#: errors of pacemaker's own predictions for the test set, written by ``pacemaker_data.py errors``
TEST_ERRORS_FILE = "test_errors.json"

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


#: what :data:`TEST_ERRORS_FILE` holds
TEST_ERRORS = ("n_structures", "energy_rmse", "energy_mae", "forces_rmse", "forces_mae")
#: methods of ``scipy.optimize.minimize``, which pacemaker's ``optimizer`` names
OPTIMIZERS = (
    "BFGS", "L-BFGS-B", "CG", "Newton-CG", "TNC", "SLSQP", "Nelder-Mead", "Powell", "COBYLA", "trust-constr",
    "trust-ncg", "trust-exact", "trust-krylov", "dogleg",
)  # fmt: skip
#: options of these methods that SciPy takes as integers only
_INTEGER_OPTIONS = ("maxcor", "maxfun", "maxls", "maxfev", "iprint")


def _whole(where: str, value: float, least: int = 1) -> int:
    """The integer that ``value`` is: numbers that came through JSON may have become floats."""
    if isinstance(value, bool) or value != int(value) or value < least:
        raise AceError(f"{where} must be an integer from {least} on, it is {value!r}")
    return int(value)


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

    def __post_init__(self) -> None:
        for name in ("DElow", "DEup", "DFup", "DE", "DF", "nfit"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise AceError(f"settings.fit.weighting.{name} must be positive, it is {getattr(self, name)!r}")
        if self.wlow is not None and not 0.0 < self.wlow < 1.0:
            raise AceError(f"settings.fit.weighting.wlow must lie between 0 and 1 or be null, it is {self.wlow!r}")


@dataclass
class Fit:
    """Section ``fit`` of pacemaker's input; names and meaning are pacemaker's.

    ``ladder_step``: number of functions to add (integer), share of those that are there (between 0 and 1), or a list of
    both. ``options``: of ``scipy.optimize.minimize``; integers stay integers.
    """

    loss: Loss = field(default_factory=Loss)
    weighting: Weighting | None = None
    optimizer: str = "BFGS"
    maxiter: int = 2000
    options: dict[str, bool | int | float] | None = None
    repulsion: Literal["auto"] | None = "auto"
    trainable_parameters: str | dict[str, str] | None = None
    fit_cycles: int | None = None
    noise_relative_sigma: float | None = None
    noise_absolute_sigma: float | None = None
    randomize_func_coeffs: float | None = None
    ladder_step: int | float | list[int | float] | None = None
    ladder_type: Literal["body_order", "power_order"] | None = None
    min_relative_train_loss_per_iter: float | None = None
    min_relative_test_loss_per_iter: float | None = None
    early_stopping_patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("maxiter", "fit_cycles", "early_stopping_patience"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise AceError(f"settings.fit.{name} must be positive, it is {value!r}")
        for name in ("noise_relative_sigma", "noise_absolute_sigma", "randomize_func_coeffs",
                     "min_relative_train_loss_per_iter", "min_relative_test_loss_per_iter"):  # fmt: skip
            if (getattr(self, name) or 0.0) < 0:
                raise AceError(f"settings.fit.{name} must not be negative, it is {getattr(self, name)!r}")
        if self.optimizer.lower() not in [known.lower() for known in OPTIMIZERS]:
            raise AceError(
                f"settings.fit.optimizer: unknown method {self.optimizer!r} of scipy.optimize.minimize; known: "
                f"{', '.join(OPTIMIZERS)}"
            )
        if self.options is not None:
            self.options = self._options(self.options)
        if self.ladder_step is not None:
            self.ladder_step = self._ladder(self.ladder_step)
        if self.ladder_type is not None and self.ladder_step is None:
            raise AceError("settings.fit.ladder_type has no effect without ladder_step; give ladder_step: 10")

    @staticmethod
    def _options(options: Mapping[str, Any]) -> dict[str, Any]:
        if "maxiter" in options:
            raise AceError("settings.fit.options: maxiter is a key of settings.fit itself; pacemaker passes it on")
        where = "settings.fit.options"
        least = {name: -1 if name == "iprint" else 1 for name in _INTEGER_OPTIONS}
        return {k: _whole(f"{where}.{k}", v, least[k]) if k in least else v for k, v in options.items()}

    @staticmethod
    def _ladder(given: Any) -> Any:
        """Pacemaker tells the two kinds of steps apart by their type."""
        where = "settings.fit.ladder_step"
        steps = [
            float(step) if 0.0 < step < 1.0 else _whole(f"{where}: a step that is no share between 0 and 1", step)
            for step in (given if isinstance(given, (tuple, list)) else [given])
        ]
        if not isinstance(given, (tuple, list)):
            return steps[0]
        if sorted(type(step).__name__ for step in steps) != ["float", "int"]:
            raise AceError(f"{where}: a list holds one integer and one share between 0 and 1, it is {list(given)}")
        return tuple(steps)


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
        if settings.fit.min_relative_test_loss_per_iter and settings.backend.evaluator == "pyace":
            raise AceError(
                "settings.fit.min_relative_test_loss_per_iter: the evaluator pyace computes no loss of the test set; "
                "use tensorpot or min_relative_train_loss_per_iter"
            )
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

    :param potential: file name of the start potential, which gives the basis. With ``settings.reset`` it is what
        :func:`reset_potential` gives: pacemaker's own key ``reset`` does not go together with a ladder.
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
        "potential": potential,
        "data": data,
        "fit": _given(settings.fit),
        "backend": _given(settings.backend),
    }


def reset_potential(potential: AcePotential) -> AcePotential:
    """The basis alone, as pacemaker's ``reset`` leaves it: coefficients zero, R_nl = g_n."""
    zero = {el: np.zeros_like(potential.coefficients(el)) for el in potential.elements}
    radial = {}
    for pair, bond in potential.bonds.items():
        n, l, k = bond.radcoefficients.shape
        radial[pair] = np.zeros((n, l, k)) + np.eye(n, k)[:, None, :]
    return potential.with_coefficients(zero).with_radial_coefficients(radial)


def _given(section: Any) -> dict[str, Any]:
    """Fields that have a value, as plain YAML."""
    plain = {}
    for name, value in vars(section).items():
        if value is None and name != "wlow":  # null there is a choice of its own: no renormalisation
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


def read_test_errors(text: str) -> dict[str, Any]:
    """Errors of the test set from :data:`TEST_ERRORS_FILE`, named as in the reports; empty if they are not there."""
    try:
        found = json.loads(text)
        return {key: found[key] if key == "n_structures" else float(found[key]) for key in TEST_ERRORS}
    except (ValueError, KeyError, TypeError):
        return {}  # the file is an extra; the caller says that the errors are missing


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
