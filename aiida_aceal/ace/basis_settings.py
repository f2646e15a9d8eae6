"""What may stand in the description of a basis: every key with type, unit, bounds and default.

Values given for ALL, for a number of elements or for some elements are laid over each other before defaults are filled
in: see `aiida_aceal.ace.describe.read_description`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from aiida_aceal.common.settings import Settings, setting

from .potential import EMBEDDINGS, INNER_CUTOFFS, RADIAL_TYPES, Species
from .presets import PRESETS


class EmbeddingSettings(Settings):
    """How the densities of an element make its energy: `basis` itself, or `basis.embeddings` by element."""

    heading = "Basis: `embeddings`"

    npot: str = setting("FinnisSinclairShiftedScaled", "Embedding function.", choices=lambda: EMBEDDINGS)
    fs_parameters: tuple[float, ...] | None = setting(
        None, "Prefactor and exponent of each density, one after the other [default: by `ndensity`]."
    )
    ndensity: int | None = setting(None, "Number of densities [default: as `fs_parameters` says, else 1].", ge=1)
    rho_core_cut: float = setting(
        Species.rho_core_cut, "Core energy of an atom above which its ACE energy is switched off.", unit="eV", gt=0
    )
    drho_core_cut: float = setting(Species.drho_core_cut, "Width of that switch.", unit="eV", gt=0)


class BondSettings(Settings):
    """Radial functions of a pair of elements: `basis` itself, or `basis.bonds` by pair."""

    heading = "Basis: `bonds`"

    rcut: float | None = setting(None, "Cutoff [default: `cutoff`].", unit="A", gt=0)
    radbase: str = setting("SBessel", "Kind of radial functions.", choices=lambda: RADIAL_TYPES)
    radparameters: tuple[float, ...] = setting((5.25,), "Parameters of the radial functions.", items=(1, None))
    dcut: float = setting(0.01, "Width of the smooth end at the cutoff.", unit="A", ge=0)
    r_in: float = setting(0.0, "Distance below which the repulsion of cores takes over.", unit="A", ge=0)
    delta_in: float = setting(0.0, "Width of the switch at `r_in`.", unit="A", ge=0)
    core_repulsion: tuple[float, float] = setting(
        (0.0, 0.0), "Prefactor (eV A) and decay (1/A^2) of the repulsion of cores; 0: none."
    )
    inner_cutoff_type: str = setting(
        "distance", "What switches the repulsion of cores on; zbl: its universal form.", choices=lambda: INNER_CUTOFFS
    )
    NameOfCutoffFunction: str = setting("cos", "Cutoff function.")
    nradbase: int | None = setting(None, "Radial functions of rank 1 [default: as the functions need].", ge=0)
    nradmax: int | None = setting(None, "Largest n of higher ranks [default: as the functions need].", ge=0)
    lmax: int | None = setting(None, "Largest l [default: as the functions need].", ge=0)

    @model_validator(mode="after")
    def _together(self) -> BondSettings:
        if self.rcut is not None and self.dcut > self.rcut:
            raise ValueError(f"dcut ({self.dcut}) is larger than rcut ({self.rcut})")
        return self


class FunctionSettings(Settings):
    """Size of the functions of each order (1: pairs, 2: triples): `basis` itself, or `basis.functions` by block."""

    heading = "Basis: `functions`"

    nradmax_by_orders: tuple[int, ...] | None = setting(None, "Largest n of each order, such as [8, 4, 2].", ge=0)
    lmax_by_orders: tuple[int, ...] | None = setting(None, "Largest l of each order, such as [0, 3, 2].", ge=0)
    lmin_by_orders: tuple[int, ...] | None = setting(None, "Smallest l of each order [default: 0].", ge=0)
    coefs_init: Literal["zero", "random"] = setting("zero", "Coefficients before the first fit.")


class BasisSettings(EmbeddingSettings, BondSettings, FunctionSettings):
    """Description of a basis; keys of `embeddings`, `bonds` and `functions` that stand here hold for all elements."""

    heading = "Basis"

    preset: str | None = setting(
        None, "Name of a published basis, which gives everything but what else is stated: "
        f"{', '.join(PRESETS)}; case does not matter.",
    )  # fmt: skip
    elements: tuple[str, ...] | str | None = setting(None, "Elements [default in campaigns: those of the structures].")
    cutoff: float | None = setting(None, "Cutoff of all pairs.", unit="A", gt=0)
    embedding: str | dict[str, Any] | None = setting(
        None, "Embedding of all elements: linear, sqrt, an embedding function, or a mapping of keys of `embeddings`."
    )
    number_of_functions_per_element: int | None = setting(
        None, "Functions of largest power rank are left out beyond this number.", ge=1
    )
    embeddings: dict[str, Any] | None = setting(None, "Embeddings by element: {ALL: {...}, Al: {...}}.")
    bonds: dict[str, Any] | None = setting(None, "Radial functions by pair: {ALL: {...}, BINARY: {...}, AlNi: {...}}.")
    functions: dict[str, Any] | None = setting(
        None, "Sizes by block: {ALL: {...}, UNARY: {...}, AlNi: {...}}, and number_of_functions_per_element."
    )
    deltaSplineBins: float = setting(0.001, "Step of the radial tables in LAMMPS.", unit="A", gt=0)
    metadata: dict[str, Any] | None = setting(None, "Texts that are kept with the potential.")


#: section of a description -> what its entries may hold
SECTIONS: dict[str, type[Settings]] = {
    "embeddings": EmbeddingSettings, "bonds": BondSettings, "functions": FunctionSettings,
}  # fmt: skip
