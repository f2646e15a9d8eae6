"""Stands in for pacemaker: checks input.yaml and the data frames strictly, fits for real (linear), and writes
output_potential.yaml, interim potentials, log.txt and the metric tables in pacemaker's form.

``FAKE_PACEMAKER`` in the environment makes it skip the fit (quick: all coefficients 0.01) or, on top of that, go wrong:
early_stop, diverge, cut, cut_table, crash, memory, nan, no_predictions.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.ace import AceModel, AcePotential

COLUMNS = [
    *("ladder_step", "cycle_step", "iter_num", "loss", "e_loss_contrib", "f_loss_contrib", "reg_loss", "rmse_epa"),
    *("rmse_f_comp", "low_rmse_epa", "low_rmse_f_comp", "mae_f_comp", "low_mae_f_comp", "nfuncs", "ncoefs"),
    *("l1_reg_contrib", "l2_reg_contrib", "smooth_orth", "smooth_w1", "smooth_w2", "smooth_w3"),
]
FIT_KEYS = {
    "loss", "weighting", "optimizer", "maxiter", "options", "repulsion", "trainable_parameters", "fit_cycles",
    "noise_relative_sigma", "noise_absolute_sigma", "randomize_func_coeffs", "ladder_step", "ladder_type",
    "min_relative_train_loss_per_iter", "min_relative_test_loss_per_iter", "early_stopping_patience",
}  # fmt: skip
FAULT = os.environ.get("FAKE_PACEMAKER", "")


def log(message: str, level: str = "I") -> None:
    """One line of log.txt."""
    with open("log.txt", "a") as handle:
        handle.write(f"{datetime.now():%Y/%m/%d %H:%M:%S} {level} - {message}\n")


def only(section: dict, allowed: set[str], name: str) -> None:
    """No key that pacemaker does not know."""
    unknown = set(section) - allowed
    if unknown:
        raise ValueError(f"{name}: unknown keys {sorted(unknown)}")


def load(filename: str, reference: dict[str, float]) -> list:
    """Structures of a data frame, with the labels that pacemaker fits."""
    frame = pd.read_pickle(filename, compression="gzip")
    for column in ("ase_atoms", "energy", "energy_corrected", "forces"):
        if column not in frame.columns:
            raise ValueError(f"Column `{column}` not found in dataset")
    frames = []
    for row in frame.itertuples():
        atoms = row.ase_atoms
        assert atoms.calc is None
        assert set(atoms.arrays) == {"numbers", "positions"}
        assert np.shape(row.forces) == (len(atoms), 3), "forces has wrong shape. It should be [nat,3]"
        assert len(atoms) == row.NUMBER_OF_ATOMS
        free = sum(reference[symbol] for symbol in atoms.get_chemical_symbols())
        assert abs(row.energy - free - row.energy_corrected) < 1e-9
        assert -20 < row.energy_corrected / len(atoms) < 250
        atoms.calc = SinglePointCalculator(atoms, energy=row.energy_corrected, forces=np.array(row.forces))
        frames.append(atoms)
    return frames


def table(filename: str, losses: list[float], metrics: dict, cut: bool = False) -> None:
    """Metrics against iteration."""
    lines = [" ".join(f"{name:<22}" for name in COLUMNS)]
    for number, loss in enumerate(losses):
        values = dict.fromkeys(COLUMNS, 0.0)
        values.update(iter_num=number, loss=loss, rmse_epa=metrics["energy"], rmse_f_comp=metrics["forces"])
        values.update(mae_f_comp=metrics["mae"], nfuncs=metrics["n"], ncoefs=metrics["n"])
        lines.append(" ".join(f"{values[name]:<22}" for name in COLUMNS))
    text = "\n".join(lines) + "\n"
    Path(filename).write_text(text[:-60] if cut else text)


def fit(potential: AcePotential, train: list, test: list | None, n: int) -> tuple[AcePotential, dict]:
    """Fitted potential, metrics of training and test set."""
    if FAULT:
        zero = {"energy": 0.0, "forces": 0.0, "mae": 0.0, "n": n}
        constant = {el: np.full(potential.coefficients(el).shape, 0.01) for el in potential.elements}
        return potential.with_coefficients(constant), {"train": zero, "validation": zero}
    from aiida_aceal.fitting import FitSettings, fit_linear

    result = fit_linear(potential, train, FitSettings(reference_energies="none"), validation=test)
    metrics = {}
    for name, part in result.metrics.items():
        metrics[name] = {"energy": part["energy"]["rmse"], "forces": part["forces"]["rmse"]}
        metrics[name].update(mae=part["forces"]["mae"], n=n)
    return result.potential, metrics


def check_types(section: dict) -> None:
    """Numbers of the types that pacemaker and SciPy insist on."""
    steps = section.get("ladder_step", [])
    for step in steps if isinstance(steps, list) else [steps]:
        if not (step >= 1 if isinstance(step, int) else 0 < step < 1):
            raise ValueError(f"ladder_step: {step!r}")
    for name, value in section.get("options", {}).items():
        if name in ("maxcor", "maxls", "maxfun") and not isinstance(value, int):
            raise TypeError(f"{name}: {type(value).__name__} object cannot be interpreted as an integer")


def predict(potential: AcePotential, test: list, filename: str) -> None:
    """Pacemaker's data frame of predictions, the only word of its evaluator pyace on a test set."""
    if FAULT == "no_predictions":
        return
    model = AceModel(potential, threads=1)
    results = [model.evaluate(atoms) for atoms in test]
    frame = pd.read_pickle(filename, compression="gzip")
    frame = frame[["name", "energy_corrected", "forces", "NUMBER_OF_ATOMS"]].copy()
    frame["energy_pred"] = [result.energy for result in results]
    frame["forces_pred"] = [result.forces for result in results]
    frame.to_pickle("test_pred.pckl.gzip", compression="gzip", protocol=4)


def main() -> None:
    """One fit."""
    given = yaml.safe_load(Path(sys.argv[1]).read_text())
    only(given, {"cutoff", "seed", "metadata", "potential", "data", "fit", "backend"}, "input")
    only(given["data"], {"filename", "test_filename", "test_size", "reference_energy"}, "data")
    only(given["fit"], FIT_KEYS, "fit")
    only(given["fit"]["loss"], {"kappa", "L1_coeffs", "L2_coeffs", "w0_rad", "w1_rad", "w2_rad", "w_orth"}, "loss")
    check_types(given["fit"])
    only(given["backend"], {"evaluator", "batch_size", "display_step"}, "backend")
    assert isinstance(given["fit"]["maxiter"], int)
    assert isinstance(given["fit"]["loss"]["L1_coeffs"], float), "1e-8 without a dot is text in YAML"
    start = given["potential"]
    if not isinstance(start, str):
        if "ladder_step" in given["fit"]:
            raise KeyError("functions")  # as pacemaker does
        start = start["filename"]
    potential = AcePotential.read(start)
    assert abs(given["cutoff"] - potential.cutoff) < 1e-12
    reference = given["data"]["reference_energy"]
    assert set(reference) == set(potential.elements)
    log("Start pacemaker")
    log("pacemaker/pyace version: 0.3.1+stand-in")
    train = load(given["data"]["filename"], reference)
    test = load(given["data"]["test_filename"], reference) if "test_filename" in given["data"] else None
    log(f"Fitting dataset size: {len(train)} structures / {sum(map(len, train))} atoms")
    if FAULT == "memory":
        raise MemoryError("Unable to allocate 9.00 GiB")
    if FAULT == "crash":
        raise ZeroDivisionError("in the optimizer")
    log("Number of parameters unusual", "W")
    n = sum(potential.n_functions.values())
    log(f"Total number of functions: {n} / number of parameters: {n}")
    fitted, metrics = fit(potential, train, test, n)
    losses = [1.0 / (1 + k) for k in range(given["fit"]["maxiter"] + 1)]
    if FAULT == "diverge":
        losses[-1] = float("nan")
    table("metrics.txt", losses, metrics["train"], cut=FAULT == "cut_table")
    if test and given["backend"]["evaluator"] == "pyace":
        predict(fitted, test, given["data"]["test_filename"])
    else:
        table("test_metrics.txt", losses if test else [], metrics.get("validation", metrics["train"]))
    fitted.with_metadata(intermediate_time="now").write("interim_potential_0.yaml")
    if FAULT == "cut":
        return
    if FAULT == "early_stop":
        log("EARLY STOPPING: Too small or even positive TRAIN loss change (best=-1.0e-09 / iter). Stopping")
    log("Fitting done")
    text = fitted.with_metadata(_loss=str(losses[-1])).to_yaml()
    if FAULT == "nan":
        assert "0.01]" in text
        text = text.replace("0.01]", ".nan]", 1)
    Path("output_potential.yaml").write_text(text)
    log("Final potential is saved to output_potential.yaml")


if __name__ == "__main__":
    main()
