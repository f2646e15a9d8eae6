"""Settings of the properties: one section each."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from aiida_aceal.common.plausible import HOTTEST, LONGEST_STEP
from aiida_aceal.common.settings import Settings, section, setting

from .names import ALL, DEFAULT, DYNAMICS, dynamics_names, property_names


class RelaxationSettings(Settings):
    """Relaxations with ASE's LBFGS."""

    fmax: float = setting(1e-4, "Largest force that is left, on atoms and cell.", unit="eV/A", gt=0)
    max_steps: int = setting(500, "Steps of the optimiser before it is given up.", ge=1)


class EosSettings(Settings):
    """Energy against volume; positions and shape of the cell are relaxed at each volume."""

    phases: tuple[str, ...] = setting(
        (), "Prototypes that are computed beside the given structures: sc, fcc, bcc, hcp, diamond (elements only)."
    )
    points: int = setting(9, "Volumes of each phase.", ge=5)
    volume_range: float = setting(0.03, "Largest relative change of the volume.", gt=0, le=0.3)
    cell_length: float = setting(
        0.0, "Cells are repeated to this height, for methods that know the gamma point only; 0: the primitive cell.",
        unit="A", ge=0,
    )  # fmt: skip


class ElasticSettings(Settings):
    """Elastic constants from stresses of strained cells with relaxed positions."""

    strain: float = setting(0.005, "Amplitude of the strains, which are applied with both signs.", gt=0, le=0.05)
    cell_length: float = setting(0.0, "Cells are repeated to this height; 0: the primitive cell.", unit="A", ge=0)


class PhononSettings(Settings):
    """Phonons by finite displacements (phonopy)."""

    supercell_length: float = setting(10.0, "Least distance of opposite faces of the supercell.", unit="A", gt=0)
    displacement: float = setting(0.01, "Displacement of an atom.", unit="A", gt=0, le=0.2)
    mesh_length: float = setting(60.0, "Density of the mesh of wave vectors, as phonopy's length.", unit="A", gt=0)
    band_points: int = setting(31, "Wave vectors on each segment of the path.", ge=2)
    imaginary_below: float = setting(-0.1, "Frequencies below it count as imaginary.", unit="THz", le=0)
    temperatures: tuple[float, ...] = setting((100.0, 300.0, 600.0), "Of the thermal properties.", unit="K", ge=0)
    quasi_harmonic: bool = setting(False, "Also thermal expansion, from phonons at several volumes.")
    volume_range: float = setting(0.04, "Largest relative change of the volume (quasi-harmonic).", gt=0, le=0.2)
    volumes: int = setting(5, "Number of volumes (quasi-harmonic).", ge=5)


class DefectSettings(Settings):
    """Point defects in a supercell of constant volume."""

    cell_length: float = setting(10.0, "Least distance of opposite faces of the supercell.", unit="A", gt=0)
    fmax: float = setting(0.005, "Largest force that is left.", unit="eV/A", gt=0)
    max_sites: int = setting(3, "Interstitial sites that are tried, those with most room first.", ge=1)
    migration: bool = setting(False, "Also the barrier of a vacancy's hop to the nearest like neighbour (NEB).")
    images: int = setting(5, "Images between the ends of the path.", ge=1)
    neb_fmax: float = setting(0.03, "Largest force that is left on the path.", unit="eV/A", gt=0)


class SurfaceSettings(Settings):
    """Slabs, and generalised stacking faults of fcc and hcp."""

    planes: tuple[tuple[int, int, int], ...] = setting(
        (), "Miller indices in the conventional cell; default: (100), (110), (111), for hexagonal (001), (100), (110)."
    )
    thickness: float = setting(12.0, "Least thickness of a slab.", unit="A", gt=0)
    vacuum: float = setting(12.0, "Vacuum between slabs.", unit="A", gt=0)
    fmax: float = setting(0.005, "Largest force that is left.", unit="eV/A", gt=0)
    stacking_fault: bool = setting(True, "Whether fcc and hcp get the curve of the stacking fault.")
    fault_points: int = setting(9, "Displacements of the curve, 0 and 1 included.", ge=3)


class PairSettings(Settings):
    """Dimers, and an atom of the crystal pushed into its neighbour."""

    shortest: float = setting(0.4, "Start of the curves, in units of the sum of covalent radii.", gt=0, lt=1)
    longest: float = setting(6.0, "End of the curves of dimers.", unit="A", gt=0)
    points: int = setting(60, "Distances of each curve.", ge=10)
    gamma_limit: float = setting(2.0, "With an active set: grades above it are not trusted.", gt=0)


class MdSettings(Settings):
    """Molecular dynamics with the engine itself (ASE)."""

    temperature_K: float = setting(300.0, "Temperature.", unit="K", gt=0, le=HOTTEST)
    cell_length: float = setting(10.0, "Least distance of opposite faces of the supercell.", unit="A", gt=0)
    timestep_ps: float = setting(0.002, "Time step; usual: 0.0005 to 0.005.", unit="ps", gt=0, le=LONGEST_STEP)
    equilibration: int = setting(500, "Steps before anything is measured.", ge=0)
    steps: int = setting(1000, "Steps that are measured, in NVE and in NPT each.", ge=10)
    interval: int = setting(10, "Steps between frames.", ge=1)
    npt: bool = setting(True, "Whether the expansion at zero pressure is computed too.")
    bins: int = setting(100, "Bins of the radial distribution.", ge=10)
    seed: int = setting(0, "All randomness comes from it.", ge=0)
    members: bool = setting(
        False, "Whether each member of an ensemble makes its own runs, for error bars: as long as the potential's, one "
        "after the other."
    )  # fmt: skip


class MeltingSettings(Settings):
    """Melting temperature by coexistence of solid and liquid, with the engine itself (ASE)."""

    temperature_K: float | None = setting(
        None, "Temperature at which the first attempt begins; default: 0.8 of that at which the heated half melts.",
        unit="K", gt=0, le=HOTTEST,
    )  # fmt: skip
    width: float = setting(14.0, "Least width of the bar.", unit="A", gt=0)
    length: float = setting(36.0, "Least length of the bar, along the third axis of the conventional cell.", unit="A",
                            gt=0)  # fmt: skip
    timestep_ps: float = setting(0.002, "Time step; usual: 0.0005 to 0.003.", unit="ps", gt=0, le=LONGEST_STEP)
    heating_steps: int = setting(300, "Steps at each temperature while one half is heated, by 15 % each.", ge=10)
    hottest_K: float = setting(10000.0, "Heating is given up there.", unit="K", gt=0, le=HOTTEST)
    equilibration: int = setting(500, "Steps at the temperature at which an attempt begins.", ge=0)
    steps: int = setting(15000, "Steps without thermostat; the second half of them is averaged.", ge=100)
    interval: int = setting(150, "Steps between frames.", ge=1)
    attempts: int = setting(5, "Attempts from different temperatures, if one phase is gone.", ge=1)
    reference: bool = setting(
        False, "Whether a reference that is an ASE calculator makes such runs as well: at least ten thousand steps of "
        "hundreds of atoms."
    )  # fmt: skip
    seed: int = setting(0, "All randomness comes from it.", ge=0)

    @model_validator(mode="after")
    def _enough_frames(self) -> MeltingSettings:
        if self.steps < 5 * self.interval:
            raise ValueError(f"steps {self.steps}: at least five frames, 5 x interval ({self.interval}), are needed")
        return self


class PropertySections(Settings):
    """Which properties, and how each is computed."""

    properties: str | tuple[str, ...] = setting(
        ",".join(DEFAULT), f"Names, by commas or as a list: {', '.join(ALL)}.", parse=property_names,
        allowed=f"names among {', '.join(ALL)}",
    )  # fmt: skip
    symprec: float = setting(1e-3, "Tolerance of the search for symmetry.", unit="A", gt=0)
    relaxation: RelaxationSettings = section(RelaxationSettings, "Relaxations.")
    eos: EosSettings = section(EosSettings, "Equation of state.")
    elastic: ElasticSettings = section(ElasticSettings, "Elastic constants.")
    phonon: PhononSettings = section(PhononSettings, "Phonons.")
    defects: DefectSettings = section(DefectSettings, "Vacancies, interstitials, antisites.")
    surface: SurfaceSettings = section(SurfaceSettings, "Surfaces and stacking faults.")
    pairs: PairSettings = section(PairSettings, "Short distances.")
    md: MdSettings = section(MdSettings, "Molecular dynamics.")
    melting: MeltingSettings = section(MeltingSettings, "Melting temperature.")


class PropertiesSettings(PropertySections):
    """Which properties, how each is computed, and who computes."""

    calculator: str | None = setting(
        None, "ASE calculator that computes in place of the potential, such as emt or package.module:Class."
    )
    calculator_kwargs: dict[str, Any] = setting({}, "Its arguments.")
    relax_with: Literal["calculator", "potential"] = setting(
        "calculator", "With a calculator: who relaxes; the other choice leaves it single points of relaxed structures."
    )
    relax_start: bool = setting(
        True, "Whether the given structures are relaxed first; if not, their cells are taken as they are."
    )
    structures_only: bool = setting(False, "Stop before anything is labelled: only the structures are made.")


class ValidateSettings(PropertySections):
    """Properties of a potential beside those of the reference."""

    heading = "Validation: `settings` of `aceal.validate`"

    lattice: Literal["reference", "given"] = setting(
        "reference", "Cells in which all but the equations of state is computed: the given ones, scaled to the volume "
        "at which the energy of the reference is lowest; or as given."
    )  # fmt: skip


class NumbersSettings(PropertySections):
    """Numbers of properties from labelled structures."""

    heading = "Numbers of properties: `settings` of `aceal.property_numbers`"

    errors: dict[str, str] = setting({}, "Why there are no structures, by property.")
    reference_errors: dict[str, str] = setting({}, "Why the reference has no numbers, by property.")
    potential_errors: dict[str, str] = setting({}, "Why the potential has no numbers, by property.")
    unlabelled: dict[str, str] = setting({}, "Why a structure has no label of the reference, by content hash.")


class ReferenceMdSettings(Settings):
    """The runs of the properties `md` and `melting` by an ASE calculator."""

    heading = "Dynamics of the reference: `settings` of `aceal.reference_md`"

    calculator: str = setting(help="ASE calculator: a short name (emt, tblite, gpaw, ...) or package.module:Class.")
    kwargs: dict[str, Any] | None = setting(None, "Arguments of the calculator.")
    properties: str | tuple[str, ...] = setting(
        "md", f"Which: {', '.join(DYNAMICS)}.", parse=dynamics_names, allowed=f"names among {', '.join(DYNAMICS)}",
    )  # fmt: skip
    symprec: float = setting(1e-3, "Tolerance of the search for symmetry.", unit="A", gt=0)
    md: MdSettings = section(MdSettings, "Molecular dynamics.")
    melting: MeltingSettings = section(MeltingSettings, "Melting temperature.")
