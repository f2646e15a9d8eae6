"""pacemaker as another fitter: its ``input.yaml``, its log and its tables of metrics.

Written after pacemaker's documentation (https://pacemaker.readthedocs.io) and Bochkarev et al., Phys. Rev. Materials 6,
013804 (2022). Units of pacemaker's tables: eV per atom, eV/Angstrom.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import field_validator, model_validator

from aiida_aceal.ace.potential import AcePotential
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import Settings, nearest, section, setting

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


def _whole(value: float, least: int = 1) -> int:
    """The integer that ``value`` is: numbers that came through JSON may have become floats."""
    if isinstance(value, bool) or value != int(value) or value < least:
        raise ValueError(f"must be an integer of at least {least}, found {value!r}")
    return int(value)


class Loss(Settings):
    """Loss function of pacemaker."""

    heading = "pacemaker: `fit.loss`"

    kappa: float | Literal["auto"] = setting("auto", "Weight of the forces against the energies.", ge=0, le=1)
    L1_coeffs: float = setting(1e-8, "Regularisation of the coefficients.", ge=0)
    L2_coeffs: float = setting(1e-8, "Regularisation of the coefficients.", ge=0)
    w0_rad: float = setting(1e-8, "Regularisation of the radial functions.", ge=0)
    w1_rad: float = setting(1e-8, "Regularisation of the radial functions.", ge=0)
    w2_rad: float = setting(1e-8, "Regularisation of the radial functions.", ge=0)
    w_orth: float | None = setting(None, "Regularisation of the radial functions: orthogonality.", ge=0)


class Weighting(Settings):
    """Weights by the energy above the lowest or above the convex hull."""

    heading = "pacemaker: `fit.weighting`"

    type: Literal["EnergyBasedWeightingPolicy"] = setting("EnergyBasedWeightingPolicy", "Policy.")
    DElow: float = setting(1.0, "As in pacemaker.", unit="eV/atom", gt=0)
    DEup: float = setting(10.0, "As in pacemaker.", unit="eV/atom", gt=0)
    DFup: float | None = setting(50.0, "As in pacemaker.", unit="eV/A", gt=0)
    DE: float = setting(1.0, "As in pacemaker.", unit="eV/atom", gt=0)
    DF: float = setting(1.0, "As in pacemaker.", unit="eV/A", gt=0)
    wlow: float | None = setting(0.75, "As in pacemaker; null: no renormalisation.", gt=0, lt=1)
    energy: Literal["convex_hull", "cohesive"] = setting("convex_hull", "What energies are counted from.")
    reftype: Literal["all", "bulk", "cluster"] = setting("all", "As in pacemaker.")
    nfit: int | None = setting(None, "Number of structures to fit.", ge=1)
    seed: int | None = setting(None, "Random seed of the choice of structures.")


class Fit(Settings):
    """Section ``fit`` of pacemaker's input; names and meaning are pacemaker's."""

    heading = "pacemaker: `fit`"

    loss: Loss = section(Loss, "Loss function.")
    weighting: Weighting | None = setting(None, "Weights of the structures; null: uniform.")
    optimizer: str = setting("BFGS", "Method of scipy.optimize.minimize.")
    maxiter: int = setting(2000, "Iterations.", ge=1)
    options: dict[str, bool | int | float] | None = setting(
        None,
        "Options of scipy.optimize.minimize; integers stay integers.",
        allowed="a mapping of options of the optimiser",
    )
    repulsion: Literal["auto"] | None = setting("auto", "Core repulsion.")
    trainable_parameters: str | dict[str, str] | None = setting(None, "As in pacemaker.")
    fit_cycles: int | None = setting(None, "Repetitions.", ge=1)
    noise_relative_sigma: float | None = setting(None, "As in pacemaker.", ge=0)
    noise_absolute_sigma: float | None = setting(None, "As in pacemaker.", ge=0)
    randomize_func_coeffs: float | None = setting(None, "As in pacemaker.", ge=0)
    ladder_step: int | float | list[int | float] | None = setting(
        None,
        "Number of functions to add (integer), fraction of the present number (between 0 and 1), or a list of both.",
        gt=0,
    )
    ladder_type: Literal["body_order", "power_order"] | None = setting(None, "Order in which functions are added.")
    min_relative_train_loss_per_iter: float | None = setting(None, "As in pacemaker.", ge=0)
    min_relative_test_loss_per_iter: float | None = setting(None, "As in pacemaker.", ge=0)
    early_stopping_patience: int | None = setting(None, "As in pacemaker.", ge=1)

    @field_validator("optimizer")
    @classmethod
    def _known(cls, value: str) -> str:
        if value.lower() not in [known.lower() for known in OPTIMIZERS]:
            raise ValueError(f"unknown method {value!r} of scipy.optimize.minimize; {nearest(value, OPTIMIZERS)}")
        return value

    @field_validator("ladder_step")
    @classmethod
    def _ladder(cls, given: Any) -> Any:
        """Pacemaker tells the two kinds of steps apart by their type."""
        if given is None:
            return given
        steps = []
        for step in given if isinstance(given, list) else [given]:
            try:
                steps.append(float(step) if 0.0 < step < 1.0 else _whole(step))
            except ValueError as error:
                raise ValueError(f"a step that is not a fraction between 0 and 1 {error}") from error
        if not isinstance(given, list):
            return steps[0]
        if sorted(type(step).__name__ for step in steps) != ["float", "int"]:
            raise ValueError(f"a list must hold one integer and one fraction between 0 and 1, found {given}")
        return steps

    @model_validator(mode="after")
    def _together(self) -> Fit:
        least = {name: -1 if name == "iprint" else 1 for name in _INTEGER_OPTIONS}
        for name, value in (self.options or {}).items():
            if name == "maxiter":
                raise ValueError("options: maxiter is a key of fit itself; pacemaker passes it on")
            if name in least:
                try:
                    self.options[name] = _whole(value, least[name])  # type: ignore[index]
                except ValueError as error:
                    raise ValueError(f"options.{name}: {error}") from error
        if self.ladder_type is not None and self.ladder_step is None:
            raise ValueError("ladder_type has no effect without ladder_step; give ladder_step: 10")
        return self


class Backend(Settings):
    """Section ``backend`` of pacemaker's input."""

    heading = "pacemaker: `backend`"

    evaluator: Literal["tensorpot", "pyace"] = setting("tensorpot", "Evaluator.")
    batch_size: int = setting(100, "Number of structures in a batch.", ge=1)
    batch_size_reduction: bool | None = setting(None, "As in pacemaker.")
    batch_size_reduction_factor: float | None = setting(None, "As in pacemaker.", gt=0)
    display_step: int = setting(50, "Iterations between lines of the log.", ge=1)
    gpu_config: dict[str, int] | None = setting(None, "As in pacemaker.")


class PacemakerSettings(Settings):
    """What a user may say of a fit by pacemaker."""

    heading = "pacemaker: `settings` of `aceal.fit.pacemaker`"

    fit: Fit = section(Fit, "As in pacemaker's input.yaml.")
    backend: Backend = section(Backend, "As in pacemaker's input.yaml.")
    reference_energies: Literal["fit", "isolated", "none"] | dict[str, float] = setting(
        "fit", "fit, isolated, none, or a mapping from elements to energies in eV."
    )
    reset: bool = setting(False, "Whether the coefficients of the start potential are discarded.")
    accept_early_stop: bool = setting(False, "Whether an early stop by the patience rule counts as success.")
    python: str = setting("python", "Python interpreter of pacemaker's environment, with pandas and ASE.")

    @model_validator(mode="after")
    def _usable(self) -> PacemakerSettings:
        if self.fit.min_relative_test_loss_per_iter and self.backend.evaluator == "pyace":
            raise ValueError(
                "fit.min_relative_test_loss_per_iter: the evaluator pyace computes no loss of the test set; use "
                "tensorpot or min_relative_train_loss_per_iter"
            )
        if not re.fullmatch(r"[\w./+-]+", self.python):
            raise ValueError(f"python must be the name or path of an interpreter, found {self.python!r}")
        return self


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


def _given(part: Settings) -> dict[str, Any]:
    """Fields that have a value, as plain YAML."""
    plain = {}
    for name in type(part).model_fields:
        value = getattr(part, name)
        if value is None and name != "wlow":  # null there is a choice of its own: no renormalisation
            continue
        if isinstance(value, Settings):
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
                f"{name}: {energy:.4g} eV/atom above the free atoms is outside [{low:g}, {high:g}], where pacemaker "
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
