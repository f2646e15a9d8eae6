"""Settings of a fit, as they stand in the YAML of ``aceal-worker fit`` and in the Dict node of ``aceal.fit``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from aiida_aceal.ace.errors import AceError
from aiida_aceal.common.memory import parse_memory

from .schema import build


def _positive(where: str, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not value > 0:
            raise AceError(f"{where}.{name}: must be positive, found {value}")


@dataclass(frozen=True)
class WeightSettings:
    """How errors enter the loss (pacemaker's meaning; see `aiida_aceal.fitting.weights`).

    ``kappa``: share of forces against energies, or ``auto`` (by the variances of the labels). ``virial``: share of
    virials on top (0: not used). ``forces: skip`` lets structures without forces train on their energy alone.
    ``DElow``, ``DEup``, ``DE`` in eV/atom; ``DFup``, ``DF`` in eV/Angstrom: of ``type: energy_based`` only.
    """

    type: Literal["uniform", "energy_based", "data"] = "uniform"
    kappa: float | Literal["auto"] = 0.3
    virial: float = 0.0
    missing_forces: Literal["error", "skip"] = "error"
    DElow: float = 1.0
    DEup: float = 10.0
    DFup: float = 50.0
    DE: float = 1.0
    DF: float = 1.0
    wlow: float | None = 0.75
    energy: Literal["lowest", "convex_hull", "cohesive"] = "convex_hull"

    def __post_init__(self) -> None:
        if self.kappa != "auto" and not 0.0 <= self.kappa <= 1.0:
            raise AceError(f"weights.kappa: must lie between 0 (energies only) and 1 (forces only), found {self.kappa}")
        if self.virial < 0.0:
            raise AceError(f"weights.virial: must not be negative, found {self.virial}")
        if self.wlow is not None and not 0.0 < self.wlow < 1.0:
            raise AceError(f"weights.wlow: must lie between 0 and 1, found {self.wlow}")
        _positive("weights", DElow=self.DElow, DEup=self.DEup, DFup=self.DFup, DE=self.DE, DF=self.DF)


@dataclass(frozen=True)
class RegularizationSettings:
    """Regularisation of linear fits (see `aiida_aceal.fitting.solvers`).

    ``method``: ``ridge`` (strength ``alpha``, or ``auto``), ``evidence`` (the same as ridge with ``auto``: strength of
    greatest Bayesian evidence), ``ard`` (one strength for each function; switches needless functions off), ``none``.
    ``prior``: ``smooth`` penalises rank, n and l with the exponents below; ``flat`` treats all scaled functions alike.
    ``composition_bound`` (eV/atom): with more than one element, the prior's standard deviation of the energy per atom
    of training structures with their elements exchanged (see `aiida_aceal.fitting.prior`); null: no such bound.
    """

    method: Literal["ridge", "evidence", "ard", "none"] = "evidence"
    alpha: float | Literal["auto"] = "auto"
    prior: Literal["smooth", "flat"] = "smooth"
    n_power: float = 1.0
    l_power: float = 1.0
    rank_power: float = 4.0
    composition_bound: float | None = 10.0

    def __post_init__(self) -> None:
        _positive("regularization", composition_bound=self.composition_bound)
        if self.alpha != "auto" and self.alpha < 0.0:
            raise AceError(f"regularization.alpha: must not be negative, found {self.alpha}")


@dataclass(frozen=True)
class NonlinearSettings:
    """Options of ``method: nonlinear`` (see `aiida_aceal.fitting.optimize`).

    ``evaluations``: largest number of evaluations of loss and gradient; ``tolerance``: the fit ends when a round of
    ``refresh`` evaluations lowers the loss by less than this fraction; ``max_seconds`` of wall time. ``radial``:
    optimise radial coefficients too. ``start``: ``auto`` goes on from a fitted potential ("upfit"), else from a linear
    fit; ``linear`` always starts afresh. ``second_density``: size of the random start of further densities relative to
    the error of the linear fit. ``ladder``: numbers of functions per element to fit first, added in the order
    ``ladder_order``. ``l2``, ``l2_radial``: strength of the penalties of coefficients and of changes of the radial
    coefficients, relative to the prior of the linear fit (`aiida_aceal.fitting.penalty`). With ``early_stopping`` the
    fraction ``validation_fraction`` of the training structures, taken by origin (`aiida_aceal.fitting.split`), is not
    fitted; the fit ends after ``patience`` rounds without a lower loss on it, and the best parameters are kept. Nothing
    is held out where that would be fewer than 5 structures. ``validation_seed`` is apart from the seed of the fit, so
    that fits that go on from one another hold out the same. A set given for validation or test is only evaluated.
    """

    optimizer: Literal["lbfgs", "gauss_newton"] = "lbfgs"
    evaluations: int = 400
    tolerance: float = 1e-2
    max_seconds: float | None = None
    radial: bool = True
    start: Literal["auto", "linear"] = "auto"
    second_density: float = 0.02
    refresh: int = 30
    damping: float = 1e-6
    l2: float = 1.0
    l2_radial: float = 1.0
    ladder: tuple[int, ...] = ()
    ladder_order: Literal["power_order", "body_order"] = "power_order"
    early_stopping: bool = True
    validation_fraction: float = 0.1
    validation_seed: int = 0
    patience: int = 3

    def __post_init__(self) -> None:
        _positive(
            "nonlinear", evaluations=self.evaluations, max_seconds=self.max_seconds, refresh=self.refresh,
            damping=self.damping, patience=self.patience, second_density=self.second_density,
        )  # fmt: skip
        if list(self.ladder) != sorted(set(self.ladder)) or min(self.ladder, default=1) < 1:
            raise AceError(f"nonlinear.ladder: must be ascending positive numbers, found {list(self.ladder)}")
        if not 0.0 < self.validation_fraction < 1.0:
            raise AceError(
                f"nonlinear.validation_fraction: must lie between 0 and 1, found {self.validation_fraction}; "
                "early_stopping: false holds nothing out"
            )
        if min(self.tolerance, self.l2, self.l2_radial) < 0.0:
            raise AceError("nonlinear: tolerance, l2 and l2_radial must not be negative")


@dataclass(frozen=True)
class FitSettings:
    """Everything a fit needs beside the potential and the data.

    ``reference_energies``: ``fit`` (least squares of the energies on the composition), ``joint`` (free parameters
    fitted with the ACE: sensible only if the data hold isolated atoms or very dilute structures, else the constants run
    away), ``isolated`` (one-atom structures of the data), ``none`` (labels are already relative to free atoms) or a
    mapping element -> eV. ``solver`` ``qr`` is the exact
    one, ``normal`` is faster for thousands of functions. ``memory`` bounds the working arrays of the fit.
    ``repulsion: auto`` sets the core repulsion from the shortest distance of each pair in the data.
    """

    method: Literal["linear", "nonlinear"] = "linear"
    weights: WeightSettings = field(default_factory=WeightSettings)
    regularization: RegularizationSettings = field(default_factory=RegularizationSettings)
    nonlinear: NonlinearSettings = field(default_factory=NonlinearSettings)
    reference_energies: Literal["fit", "joint", "isolated", "none"] | dict[str, float] = "fit"
    repulsion: Literal["keep", "auto"] = "keep"
    solver: Literal["qr", "normal"] = "qr"
    memory: str | int | float = "1GiB"
    threads: int | None = None
    worst: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        parse_memory(self.memory)
        if self.threads is not None:
            _positive("settings", threads=self.threads)

    @classmethod
    def read(cls, data: object, where: str = "settings") -> FitSettings:
        """From a mapping, another instance or None (all defaults).

        Raises
        ------
        AceError
            Unknown key (the nearest known one is named) or a value out of range.
        """
        return build(cls, data, where)

    @property
    def memory_bytes(self) -> int:
        return parse_memory(self.memory)
