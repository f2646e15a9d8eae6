"""Fits that start from a fitted potential: what they keep of it, and what a fit must not be worse than."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from aiida_aceal.ace import AceModel, AcePotential

from .labels import LabelledSet, reference_sum
from .metrics import Predictions, predict

log = logging.getLogger(__name__)

START = "the start"
LINEAR = "the linear fit"
#: errors count as worse above this factor
_WORSE = 1.01
#: labels have another zero of energy than the start where a shift lowers its error more than so many times ...
_SHIFTED = 10.0
#: ... and the error is above this, eV/atom
_LARGE = 0.1


def kept_reference(
    potential: AcePotential, data: LabelledSet, found: Mapping[str, float], mode: object, threads: int | None = None
) -> tuple[dict[str, float], list[str]]:
    """Reference energies (element -> eV) of a fit that starts from ``potential``, and what there is to say.

    With ``mode`` ``fit`` or ``joint`` a fitted potential keeps the energies it was fitted with, so that its
    coefficients still mean the same; a file that names none counts from free atoms (zero). Only elements that it has no
    coefficients for, or labels with another zero of energy, get energies fitted to what the start leaves. ``found`` are
    the energies that the data alone would give.
    """
    if mode not in ("fit", "joint") or not potential.is_fitted:
        return dict(found), []
    own = potential.reference_energies
    present = [el for k, el in enumerate(data.elements) if data.counts[:, k].any()]
    known = list(own) or [el for el in present if np.any(potential.coefficients(el))]
    reference = {el: own.get(el, 0.0) for el in known}
    model = AceModel(potential, threads=threads)
    results = model.evaluate_batch(data.structures, forces=False, stress=False)
    left = data.energies - np.array([r.energy for r in results])
    finite = np.isfinite(left)
    if not finite.any():
        return reference | {el: e for el, e in found.items() if el not in reference}, []

    def shift(elements: list[str], rest: np.ndarray) -> dict[str, float]:
        index = [data.elements.index(el) for el in elements]
        n = data.n_atoms[:, None]
        solution = np.linalg.lstsq((data.counts[:, index] / n)[finite], (rest / n[:, 0])[finite], rcond=1e-8)[0]
        return {el: float(e) for el, e in zip(elements, solution)}

    def error(energies: Mapping[str, float]) -> float:
        return float(np.sqrt(np.mean(((left - reference_sum(data, energies)) / data.n_atoms)[finite] ** 2)))

    notes = []
    new = [el for el in present if el not in known]
    if new:
        reference |= shift(new, left - reference_sum(data, reference))
    before = error(reference)
    moved = dict(reference)
    for el, e in shift(present, left - reference_sum(data, reference)).items():
        moved[el] += e
    if before > _LARGE and before > _SHIFTED * error(moved):
        changes = ", ".join(f"{el} {moved[el] - reference[el]:+.4f} eV" for el in present)
        notes.append(
            f"the zero of energy of the labels differs from that of the potential given (error {before:.3g} "
            "eV/atom): its "
            f"reference energies are shifted by {changes}; if that is not meant, give reference_energies"
        )
        reference = moved
    elif not new:
        text = ", ".join(f"{el} {reference[el]:.6g} eV" for el in present)
        log.info("reference energies kept from the potential given: %s", text)
    for note in notes:
        log.warning(note)
    return reference, notes


def weighted_loss(predictions: Predictions, weights) -> float:
    """The loss of a fit without penalties: squared errors with the factors of `Weights`."""
    total = float(weights.energy @ predictions.energy_errors() ** 2)
    total += sum(float(w @ (e**2).sum(1)) for w, e in zip(weights.forces, predictions.force_errors()) if w is not None)
    total += sum(float(w * (e**2).sum()) for w, e in zip(weights.virial, predictions.virial_errors()) if w > 0.0)
    return total


@dataclass
class Rival:
    """Something a fit is compared with: its start, or the linear fit of the same basis."""

    name: str
    potential: AcePotential
    train: Predictions
    validation: Predictions | None

    @classmethod
    def of(cls, name: str, potential: AcePotential, reference: Mapping[str, float], job) -> Rival:
        """Evaluate ``potential`` with the reference energies on the sets of a job."""
        model = AceModel(potential, threads=job.settings.threads)
        held = None if job.validation is None else predict(model, job.validation, reference)
        return cls(name, potential.with_reference_energies(reference), predict(model, job.train, reference), held)

    def errors(self) -> dict:
        """``energy`` (eV/atom) and ``forces`` (eV/A): RMSE on ``train`` and ``validation``."""
        parts = {"train": self.train, "validation": self.validation}
        return {
            name: {kind: p.metrics()[kind]["rmse"] for kind in ("energy", "forces") if p.metrics().get(kind)}
            for name, p in parts.items()
            if p is not None
        }


def the_start(job) -> Rival | None:
    """What the fit of a job starts from; None for a blank potential.

    A linear fit is compared with it too: regularised too strongly, or of several densities, it can be worse.
    """
    return Rival.of(START, job.potential, job.reference, job) if job.upfit else None


def better(result, rival: Rival, job) -> bool:
    """Whether the rival has the lower loss than the fit: where it looks for the best parameters.

    That is the part of the training side held out for early stopping where there is one, else what is fitted.
    """
    if job.stopping is None:
        theirs, mine = weighted_loss(rival.train, job.weights), weighted_loss(result.train, job.weights)
    else:
        theirs, mine = (_stopping_loss(p, job) for p in (rival.potential, result.potential))
    return theirs < (1.0 - 1e-9) * mine


def _stopping_loss(potential: AcePotential, job) -> float:
    """Loss on what is held out for early stopping, with uniform weights."""
    kappa, model = job.weights.kappa, AceModel(potential, threads=job.settings.threads)
    m = predict(model, job.stopping, potential.reference_energies).metrics()
    forces = 3.0 * m["forces"]["rmse"] ** 2 if m.get("forces") else 0.0
    return (1.0 - kappa) * m["energy"]["rmse"] ** 2 + kappa * forces


def worse_than(result, rival: Rival) -> list[str]:
    """One line for each error in which the fit is worse than the rival."""
    lines, errors = [], rival.errors()
    for part, title in (("train", "training"), ("validation", "validation")):
        for kind, unit in (("energy", "meV/atom"), ("forces", "meV/A")):
            theirs = errors.get(part, {}).get(kind)
            if theirs is None or not result.metrics[part].get(kind):
                continue
            mine = result.metrics[part][kind]["rmse"]
            if mine > _WORSE * theirs:
                lines.append(
                    f"worse than {rival.name} in {kind} on the {title} set: {mine * 1e3:.4g} against "
                    f"{theirs * 1e3:.4g} {unit}"
                )
    return lines


def judge(result, job, rivals: list[Rival]) -> None:
    """Compare a fit with its rivals: ``compared`` and ``warnings`` of the result, which are logged too.

    A start (`Rival` called ``the start``) of lower loss takes the place of what was fitted.
    """
    warnings: list[str] = []
    for rival in rivals:
        if rival.name == START and better(result, rival, job):
            which = "training" if job.stopping is None else "early stopping"
            warnings.append(
                f"the fit ended with a higher {which} loss than the potential it started from, which is kept"
            )
            result.potential, result.train, result.validation = rival.potential, rival.train, rival.validation
            result.metrics = {"train": rival.train.metrics()}
            if rival.validation is not None:
                result.metrics["validation"] = rival.validation.metrics()
    for rival in rivals:
        warnings += worse_than(result, rival)
    for line in warnings:
        log.warning(line)
    result.compared = {rival.name.removeprefix("the "): rival.errors() for rival in rivals}
    result.warnings = warnings
