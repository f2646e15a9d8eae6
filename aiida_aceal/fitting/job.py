"""What linear and nonlinear fits share: the prepared job, its result, and the part of energies that is not fitted."""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from aiida_aceal.ace import AceError, AceModel, AcePotential
from aiida_aceal.ace.radial import cutoff_warnings

from .checks import reference_warnings, screen, set_warnings
from .labels import LabelledSet, collect_labels, reference_energies
from .metrics import Predictions, predict
from .settings import FitSettings
from .solvers import Solution
from .upfit import kept_reference
from .weights import Weights, select_and_weigh

log = logging.getLogger(__name__)


@dataclass
class FitResult:
    """Outcome of a fit.

    ``metrics`` has ``train`` and, if given, ``validation``: each with ``n_structures``, ``n_atoms`` and for
    ``energy`` (eV/atom), ``forces`` (components, eV/Angstrom), ``virial`` (eV/atom): ``rmse``, ``mae``, ``max``, ``n``.
    ``compared``: errors of what the fit was compared with (`aiida_aceal.fitting.upfit`), ``warnings`` what came of it.
    ``report`` is the machine-readable report (JSON types only), made by `aiida_aceal.fitting.report`.
    """

    potential: AcePotential
    metrics: dict
    report: dict = field(default_factory=dict)
    solution: Solution | None = None
    train: Predictions | None = None
    validation: Predictions | None = None
    compared: dict = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def peak_memory() -> int:
    """Largest resident memory of this process so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass
class Prepared:
    """What every fit needs first: checked labels, weights, reference energies, a model.

    ``upfit``: ``potential`` is fitted and the fit starts from it. ``notes``: what the report must say.
    """

    potential: AcePotential
    model: AceModel
    train: LabelledSet
    weights: Weights
    reference: dict[str, float]
    validation: LabelledSet | None
    settings: FitSettings
    #: held out of the training side: a nonlinear fit stops early by it
    stopping: LabelledSet | None = None
    upfit: bool = False
    notes: tuple[str, ...] = ()
    #: labels that cannot be right, a line each (`screen`); they stand among the notes too
    outliers: tuple[str, ...] = ()


def prepare(
    potential: AcePotential,
    train: Sequence[Atoms],
    settings: FitSettings,
    validation: Sequence[Atoms] | None,
    names: Sequence[str] | None = None,
    validation_names: Sequence[str] | None = None,
) -> Prepared:
    """Collect and check labels, weigh them, find reference energies and the core repulsion.

    Raises
    ------
    AceError
        An element of the basis has no function; see `collect_labels`, `reference_energies` and `select_and_weigh`.
    """
    potential.require_functions()
    for line in cutoff_warnings(potential.bonds):
        log.warning(line)
    w = settings.weights
    wanted = {"forces": w.kappa == "auto" or w.kappa > 0.0, "virial": w.virial > 0.0}
    data = collect_labels(train, potential.elements, missing_forces=w.missing_forces, names=names, **wanted)
    held = None
    if validation:
        held = collect_labels(validation, potential.elements, True, True, "skip", validation_names, "validation set")
    notes = set_warnings(data, settings, potential.cutoff)
    outliers = [] if held is None else screen(held, "report", data, "validation set")[1]
    data, lines = screen(data, settings.outliers)
    outliers += lines
    notes += outliers
    reference = reference_energies(data, settings.reference_energies)
    upfit = potential.is_fitted and not (settings.method == "nonlinear" and settings.nonlinear.start == "linear")
    if upfit:
        reference, lines = kept_reference(potential, data, reference, settings.reference_energies, settings.threads)
        notes += lines
    notes += reference_warnings(data, settings.reference_energies, reference)
    if settings.repulsion == "auto":
        from .repulsion import with_automatic_repulsion

        potential = with_automatic_repulsion(potential, data.structures)
    data, weights = select_and_weigh(data, w, reference)
    model = AceModel(potential, threads=settings.threads)
    return Prepared(
        potential, model, data, weights, reference, held, settings, None, upfit, tuple(notes), tuple(outliers)
    )


def finish(result: FitResult, job: Prepared, reference: Mapping[str, float]) -> None:
    """Evaluate the fitted potential on the training and validation sets and note the errors in ``result``."""
    model = AceModel(result.potential, threads=job.settings.threads)
    result.train = predict(model, job.train, reference)
    result.metrics["train"] = result.train.metrics()
    if job.validation is not None:
        result.validation = predict(model, job.validation, reference)
        result.metrics["validation"] = result.validation.metrics()
    for name, part in result.metrics.items():
        if not np.isfinite(part["energy"]["rmse"]):
            raise AceError(f"the fitted potential gives no finite energies ({name}); raise regularization.alpha")


def n_free(job: Prepared) -> int:
    """Columns for reference energies that are fitted with the coefficients."""
    return len(job.potential.elements) if job.settings.reference_energies == "joint" else 0


def fixed_part(job: Prepared) -> Callable[[int], tuple]:
    """Energy, forces, virial that do not depend on the coefficients: the core repulsion."""
    from aiida_aceal.ace.radial import core_range

    if not any(core_range(bond) > 0.0 for bond in job.potential.bonds.values()):
        return lambda k: (0.0, 0.0, 0.0)
    zero = {el: np.zeros((job.potential.n_densities[el], K)) for el, K in job.potential.n_functions.items()}
    core = job.model.with_coefficients(zero).single_threaded()
    limits = {el: s.rho_core_cut - s.drho_core_cut for el, s in job.potential.species.items()}
    zbl = any(bond.inner_cutoff_type == "zbl" for bond in job.potential.bonds.values())

    def fixed(k: int) -> tuple:
        atoms = job.train.structures[k]
        result = core.evaluate(atoms, forces=True, stress=False)
        # with zbl the core counts only where the ACE is switched off, else where its energy passes rho_core_cut:
        # there the energy is no linear function of the coefficients
        for el, e in zip(atoms.get_chemical_symbols(), result.energies):
            if e > (0.0 if zbl else limits[el]):
                raise AceError(
                    f"{job.train.names[k]}: atoms are so close that the core repulsion of the potential switches its "
                    "ACE off; remove the structure, or set repulsion: auto"
                )
        return result.energy, result.forces, result.virial

    return fixed
