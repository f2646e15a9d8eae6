"""Settings of a fit, as they stand in the YAML of ``aceal-worker fit`` and in the Dict node of ``aceal.fit``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from aiida_aceal.common.memory import parse_memory
from aiida_aceal.common.settings import Settings, memory_size, section, setting

from .ensemble_settings import EnsembleSettings


class WeightSettings(Settings):
    """How errors enter the loss (pacemaker's meaning; see `aiida_aceal.fitting.weights`)."""

    heading = "Fits: `weights`"

    type: Literal["uniform", "energy_based", "data"] = setting("uniform", "How structures are weighted.")
    kappa: float | Literal["auto"] = setting(
        0.3, "Share of forces (1) against energies (0), or auto (by the variances of the labels).", ge=0, le=1
    )
    virial: float = setting(0.0, "Weight of the virials in addition; 0: not used.", ge=0)
    missing_forces: Literal["error", "skip"] = setting(
        "error", "skip: structures without forces train on their energy alone."
    )
    DElow: float = setting(1.0, "Of type energy_based.", unit="eV/atom", gt=0)
    DEup: float = setting(10.0, "Of type energy_based.", unit="eV/atom", gt=0)
    DFup: float = setting(50.0, "Of type energy_based.", unit="eV/A", gt=0)
    DE: float = setting(1.0, "Of type energy_based.", unit="eV/atom", gt=0)
    DF: float = setting(1.0, "Of type energy_based.", unit="eV/A", gt=0)
    wlow: float | None = setting(
        0.75, "Share of the weights below DElow, of type energy_based; null: as they come.", gt=0, lt=1
    )
    energy: Literal["lowest", "convex_hull", "cohesive"] = setting(
        "convex_hull", "What energies are counted from, of type energy_based."
    )


class RegularizationSettings(Settings):
    """Regularisation of linear fits (see `aiida_aceal.fitting.solvers`)."""

    heading = "Fits: `regularization`"

    method: Literal["ridge", "evidence", "ard", "none"] = setting(
        "evidence", "ridge (strength alpha), evidence (as ridge with auto: strength of greatest Bayesian evidence), "
        "ard (one strength for each function; switches needless functions off) or none.",
    )  # fmt: skip
    alpha: float | Literal["auto"] = setting("auto", "Strength of ridge.", ge=0)
    prior: Literal["smooth", "flat"] = setting(
        "smooth", "smooth penalises rank, n and l with the exponents below; flat treats all scaled functions alike."
    )
    n_power: float = setting(1.0, "Exponent of n in the smooth prior.")
    l_power: float = setting(1.0, "Exponent of l in the smooth prior.")
    rank_power: float = setting(4.0, "Exponent of the rank in the smooth prior.")
    composition_bound: float | None = setting(
        10.0, "With more than one element: the prior's standard deviation of the energy per atom of training "
        "structures with their elements exchanged; null: no such bound.", unit="eV/atom", gt=0,
    )  # fmt: skip


class NonlinearSettings(Settings):
    """Options of ``method: nonlinear`` (see `aiida_aceal.fitting.optimize`).

    With ``early_stopping`` a part of the training structures, taken by origin (`aiida_aceal.fitting.split`), is not
    fitted, and the parameters of the lowest loss on it are kept; nothing is held out where that would be fewer than 5
    structures. A set given for validation or test is only evaluated.
    """

    heading = "Fits: `nonlinear`"

    optimizer: Literal["lbfgs", "gauss_newton"] = setting("lbfgs", "Optimiser.")
    evaluations: int = setting(400, "Largest number of evaluations of loss and gradient.", ge=1)
    tolerance: float = setting(
        1e-2, "The fit ends when a round of refresh evaluations lowers the loss by less than this fraction.", ge=0
    )
    max_seconds: float | None = setting(None, "Wall time; null: no limit.", unit="s", gt=0)
    radial: bool = setting(True, "Whether radial coefficients are optimised too.")
    start: Literal["auto", "linear"] = setting(
        "auto", "auto goes on from a fitted potential (upfit), else from a linear fit; linear always starts afresh."
    )
    second_density: float = setting(
        0.02, "Size of the random start of further densities relative to the error of the linear fit.", gt=0
    )
    refresh: int = setting(30, "Number of evaluations in a round.", ge=1)
    damping: float = setting(1e-6, "Damping of gauss_newton.", gt=0)
    l2: float = setting(1.0, "Penalty of coefficients, relative to the prior of the linear fit.", ge=0)
    l2_radial: float = setting(1.0, "Penalty of changes of the radial coefficients, likewise.", ge=0)
    ladder: tuple[int, ...] = setting((), "Ascending numbers of functions per element to fit first.", ge=1)
    ladder_order: Literal["power_order", "body_order"] = setting("power_order", "Order in which they are added.")
    early_stopping: bool = setting(True, "Whether the fit ends by the loss of structures that are not fitted.")
    validation_fraction: float = setting(
        0.1, "Fraction of the training structures that early_stopping holds out.", gt=0, lt=1
    )
    validation_seed: int = setting(
        0, "Random seed that chooses them; separate from the seed of the fit, so that successive fits hold out "
            "the same ones.",
        ge=0,
    )  # fmt: skip
    patience: int = setting(3, "Number of rounds without a lower loss on them after which the fit ends.", ge=1)

    @model_validator(mode="after")
    def _ascending(self) -> NonlinearSettings:
        if list(self.ladder) != sorted(set(self.ladder)):
            raise ValueError(f"ladder: must be ascending positive numbers, found {list(self.ladder)}")
        return self


class FitSettings(Settings):
    """Everything a fit needs beside the potential and the data."""

    heading = "Fits"

    method: Literal["linear", "nonlinear"] = setting("linear", "Linear or nonlinear fit.")
    weights: WeightSettings = section(WeightSettings, "How the errors enter the loss.")
    regularization: RegularizationSettings = section(RegularizationSettings, "Regularisation of linear fits.")
    nonlinear: NonlinearSettings = section(NonlinearSettings, "Options of nonlinear fits.")
    reference_energies: Literal["fit", "joint", "isolated", "none"] | dict[str, float] = setting(
        "fit", "fit (least squares of the energies on the composition), joint (fitted with the ACE: sensible only if "
        "the data hold isolated atoms or very dilute structures), isolated (one-atom structures of the data), none "
        "(labels are relative to free atoms), or a mapping from elements to energies in eV.",
    )  # fmt: skip
    repulsion: Literal["keep", "auto"] = setting(
        "keep", "auto sets the core repulsion from the shortest distance of each pair in the data."
    )
    outliers: Literal["exclude", "keep"] = setting(
        "exclude", "Whether structures whose labels cannot be right beside the others are left out or kept; "
            "either way they "
        "are named in report and log.",
    )  # fmt: skip
    solver: Literal["qr", "normal"] = setting("qr", "qr is exact; normal is faster for thousands of functions.")
    memory: str | int | float = memory_size("1GiB", "Bound on the size of the working arrays.")
    threads: int | None = setting(None, "Number of threads; null: all that the job has.", ge=1)
    worst: int = setting(10, "Number of worst structures listed in the report.", ge=0)
    seed: int = setting(0, "Random seed, the only source of randomness.", ge=0)

    @property
    def memory_bytes(self) -> int:
        return parse_memory(self.memory)


class FitJobSettings(FitSettings):
    """A fit, and what may be made beside it."""

    heading = "Fits: `settings` of `aceal.fit`"

    ensemble: EnsembleSettings | None = setting(None, "Settings of an ensemble fitted to the same data.")
    validation_fraction: float | None = setting(
        None, "Fraction of the structures that is held out and only evaluated.", gt=0, lt=1
    )

    @model_validator(mode="after")
    def _members(self) -> FitJobSettings:
        if self.ensemble is not None:
            method = self.ensemble.method_for(self.method)
            if method == "posterior" and self.regularization.method == "none":
                raise ValueError("ensemble.method: posterior needs regularization.method evidence, ridge or ard")
        return self


class FitFile(FitJobSettings):
    """Settings file of a fit; relative paths start from the working directory."""

    heading = "Fits: file of `aceal-worker fit`"

    potential: str | dict[str, Any] = setting(
        help="Basis, its description (elements, cutoff, ...), or a fitted potential to continue from."
    )
    data: str | tuple[str, ...] = setting(help="Labelled configurations.", items=(1, None))
    validation: str | tuple[str, ...] | None = setting(None, "Labelled configurations that are only evaluated.")
    output: str = setting(help="The fitted potential.")
    report: str | None = setting(None, "JSON file of the report.")
    text_report: str | None = setting(None, "Text file of the report.")
    parity_plot: str | None = setting(None, "Figure of predictions against labels.")
    parity_data: str | None = setting(None, "Labels and predictions, [N, 2] arrays (npz).")
    ensemble_output: str | None = setting(None, "File of the ensemble.")
    energy_key: str | None = setting(None, "Info entry with the energies; by default ASE's usual place.")
    forces_key: str | None = setting(None, "Array with the forces; by default ASE's usual place.")
    stress_key: str | None = setting(None, "Info entry with the stresses; by default ASE's usual place.")

    @model_validator(mode="after")
    def _files(self) -> FitFile:
        if self.validation and self.validation_fraction is not None:
            raise ValueError("give validation files or validation_fraction, not both")
        if self.ensemble is not None and not self.ensemble_output:
            raise ValueError("ensemble is given, but no ensemble_output; name the file that it is written to")
        if self.ensemble is None and self.ensemble_output:
            raise ValueError("ensemble_output is given, but no ensemble; add for example ensemble: {members: 8}")
        return self
