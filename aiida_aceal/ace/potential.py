"""The ACE potential as data: elements, embeddings, bonds and B-basis functions (no evaluation here)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from aiida_aceal.common.atomic import write_text
from aiida_aceal.common.errors import AceError

from .coupling import coupling_terms
from .limits import check_cutoff

RADIAL_TYPES = ("SBessel", "ChebExpCos", "ChebPow", "ChebLinear")
EMBEDDINGS = ("FinnisSinclair", "FinnisSinclairShiftedScaled")
INNER_CUTOFFS = ("distance", "density", "zbl")
_REFERENCE_KEY = "reference_energy_"  # with the element: one number each
_PACEMAKER_KEY = "reference_energy"  # JSON of all elements, as pacemaker writes and reads it


def _reference(element: str, value: object) -> float:
    """The number an entry of the metadata stands for."""
    try:
        number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise AceError(f"metadata: {_REFERENCE_KEY}{element}: expected a finite number in eV, found {value!r}")
    return number


@dataclass(frozen=True)
class Species:
    """Embedding of one element (FORMATS: E = sum_p w_p F(rho_p; m_p)).

    ``parameters`` holds w1, m1, w2, m2, ...: ``2 * n_density`` numbers. ``rho_core_cut``, ``drho_core_cut`` in eV.
    """

    element: str
    n_density: int = 1
    embedding: str = "FinnisSinclairShiftedScaled"
    parameters: tuple[float, ...] = (1.0, 1.0)
    rho_core_cut: float = 100000.0
    drho_core_cut: float = 250.0

    def __post_init__(self) -> None:
        if self.embedding not in EMBEDDINGS:
            raise AceError(f"element {self.element}: unknown embedding npoti={self.embedding!r}; known: {EMBEDDINGS}")
        if len(self.parameters) != 2 * self.n_density:
            raise AceError(
                f"element {self.element}: {self.n_density} densities need {2 * self.n_density} embedding parameters "
                f"(w1, m1, w2, m2, ...), found {list(self.parameters)}"
            )


@dataclass(frozen=True, eq=False)
class Bond:
    """Radial data of an ordered pair of elements. Lengths in Angstrom.

    ``radcoefficients`` [nradmax, lmax + 1, nradbase] maps g_k to R_nl; ``core_repulsion`` is (prefactor, lambda).
    """

    radbase: str
    radparameters: tuple[float, ...]
    rcut: float
    dcut: float
    nradbase: int
    radcoefficients: np.ndarray
    core_repulsion: tuple[float, float] = (0.0, 0.0)
    r_in: float = 0.0
    delta_in: float = 0.0
    inner_cutoff_type: str = "density"
    cutoff_function: str = "cos"

    def __post_init__(self) -> None:
        if self.radbase not in RADIAL_TYPES:
            raise AceError(f"unknown radial type radbase={self.radbase!r}; known: {', '.join(RADIAL_TYPES)}")
        if self.inner_cutoff_type not in INNER_CUTOFFS:
            raise AceError(f"unknown inner_cutoff_type {self.inner_cutoff_type!r}; known: {', '.join(INNER_CUTOFFS)}")
        if self.radcoefficients.ndim != 3 or self.radcoefficients.shape[2] != self.nradbase:
            raise AceError(
                f"radcoefficients of shape {self.radcoefficients.shape} do not fit nradbase={self.nradbase}: "
                "expected [nradmax][lmax+1][nradbase]"
            )
        if not self.rcut > 0:
            raise AceError(f"rcut must be positive, found {self.rcut}")
        check_cutoff("rcut", self.rcut)

    @property
    def nradmax(self) -> int:
        return self.radcoefficients.shape[0]

    @property
    def lmax(self) -> int:
        return self.radcoefficients.shape[1] - 1


@dataclass(frozen=True)
class BasisFunction:
    """One B-basis function of central element ``mu0``; n counts from 1; ``coefficients`` has one number per density."""

    mu0: str
    mus: tuple[str, ...]
    ns: tuple[int, ...]
    ls: tuple[int, ...]
    lint: tuple[int, ...] = ()
    coefficients: tuple[float, ...] = (0.0,)
    skip: bool = False

    @property
    def rank(self) -> int:
        return len(self.mus)


@dataclass(frozen=True, eq=False)
class AcePotential:
    """A pacemaker B-basis potential.

    ``blocks`` maps the names of the file's species blocks to their functions in file order; ``functions(el)`` gives
    the order of projections (FORMATS 3.7). Instances are immutable: ``with_...`` methods return changed copies.
    """

    elements: tuple[str, ...]
    species: Mapping[str, Species]
    bonds: Mapping[tuple[str, str], Bond]
    blocks: Mapping[str, tuple[BasisFunction, ...]]
    delta_spline_bins: float = 0.001
    metadata: Mapping[str, str] = field(default_factory=dict)
    auxdata: Mapping[str, Mapping] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = set(self.elements)
        for el in self.elements:
            if el not in self.species:
                raise AceError(f"element {el} has no block of its own (speciesblock: {el})")
        for name, functions in self.blocks.items():
            for f in functions:
                self._check_function(name, f, known)

    def _check_function(self, name: str, f: BasisFunction, known: set[str]) -> None:
        where = f"speciesblock {name!r}, function {f.mu0} {' '.join(f.mus)} nr={list(f.ns)} nl={list(f.ls)}"
        if f.mu0 not in known or not known.issuperset(f.mus):
            raise AceError(
                f"{where}: contains an element that no speciesblock names; known: {', '.join(self.elements)}"
            )
        if not len(f.ns) == len(f.ls) == f.rank:
            raise AceError(f"{where}: nr and nl must have {f.rank} entries each")
        if len(f.coefficients) != self.species[f.mu0].n_density:
            raise AceError(
                f"{where}: {len(f.coefficients)} coefficients, but {f.mu0} has "
                f"ndensityi={self.species[f.mu0].n_density}"
            )
        for mu, n, l in zip(f.mus, f.ns, f.ls):
            bond = self.bonds.get((f.mu0, mu))
            if bond is None:
                raise AceError(f"{where}: the pair {f.mu0} {mu} has no radial data; add a speciesblock '{f.mu0} {mu}'")
            n_limit = bond.nradbase if f.rank == 1 else bond.nradmax
            if not 1 <= n <= n_limit or not 0 <= l <= (0 if f.rank == 1 else bond.lmax):
                raise AceError(
                    f"{where}: n={n}, l={l} lies outside n <= {n_limit}, l <= {bond.lmax} of its radial data"
                )

    # --- reading and writing ------------------------------------------------------------------------------------
    @classmethod
    def read(cls, path: str | Path) -> AcePotential:
        """Read a B-basis ``.yaml``; a ``.yace`` gives a `CTildePotential` (for evaluation only)."""
        if Path(path).suffix == ".yace":
            from .yace import CTildePotential

            return CTildePotential.read(path)
        from .yaml_io import read_potential

        return read_potential(path)

    @classmethod
    def from_yaml(cls, text: str, source: str = "<string>") -> AcePotential:
        """Parse the text of a B-basis ``.yaml``; ``source`` names it in error messages."""
        from .yaml_io import parse_potential

        return parse_potential(text, source)

    def to_yaml(self) -> str:
        """Text of the B-basis ``.yaml``; numbers with 17 significant digits, as pacemaker writes them."""
        from .yaml_io import format_potential

        return format_potential(self)

    def write(self, path: str | Path) -> None:
        """Write ``.yaml`` (B-basis) or ``.yace`` (C-tilde), by the suffix of ``path``.

        A ``.yace`` gets as many densities for all elements, which ``pair_style pace`` needs.
        """
        path = Path(path)
        if path.suffix == ".yace":
            from .yace import potential_to_yace

            write_text(path, potential_to_yace(self.with_equal_densities()))
        else:
            write_text(path, self.to_yaml())

    # --- views ----------------------------------------------------------------------------------------------------
    @property
    def cutoff(self) -> float:
        """Largest cutoff of any pair, Angstrom."""
        return max(bond.rcut for bond in self.bonds.values())

    @cached_property
    def _ordered(self) -> dict[str, tuple[BasisFunction, ...]]:
        index = {el: i for i, el in enumerate(self.elements)}

        def key(f: BasisFunction):
            ms, _ = coupling_terms(f.ls, f.lint)
            return (f.rank, tuple(index[mu] for mu in f.mus), f.ns, f.ls, len(ms), tuple(ms.ravel().tolist()))

        ordered = {el: [] for el in self.elements}
        for functions in self.blocks.values():
            for f in functions:
                if not f.skip:
                    ordered[f.mu0].append(f)
        return {el: tuple(sorted(fs, key=key)) for el, fs in ordered.items()}

    def functions(self, element: str) -> tuple[BasisFunction, ...]:
        """Functions of a central element in the order of the projections and of the rows of an ``.asi``."""
        return self._ordered[element]

    @property
    def n_functions(self) -> dict[str, int]:
        """K_mu: number of functions of each element."""
        return {el: len(fs) for el, fs in self._ordered.items()}

    def require_functions(self) -> None:
        """Refuse a basis in which an element has no function.

        Raises
        ------
        AceError
            Environments of such an element can be neither fitted nor graded.
        """
        without = [el for el, count in self.n_functions.items() if count == 0]
        if without:
            raise AceError(
                f"the basis has no function with {' or '.join(without)} as central atom: its environments can be "
                f"neither fitted nor graded; give it some (functions: ALL, UNARY or {without[0]}), or leave it out"
            )

    @property
    def n_densities(self) -> dict[str, int]:
        return {el: self.species[el].n_density for el in self.elements}

    def coefficients(self, element: str) -> np.ndarray:
        """Coefficients c [P, K] of an element, in the order of its projections."""
        fs = self.functions(element)
        P = self.species[element].n_density
        return np.array([f.coefficients for f in fs], dtype=float).reshape(len(fs), P).T.copy()

    @property
    def is_fitted(self) -> bool:
        """Whether any coefficient differs from zero."""
        return any(c != 0.0 for fs in self.blocks.values() for f in fs for c in f.coefficients)

    @property
    def reference_energies(self) -> dict[str, float]:
        """Energy of each free atom, eV, as kept in ``metadata`` (a ``.yaml`` has no place of its own for E0).

        Read are pacemaker's ``reference_energy: '{"Cu": 0.695}'`` and ``reference_energy_Cu: 0.695``. Where both name
        an element pacemaker's counts, which rewrites its own key alone.

        Raises
        ------
        AceError
            If an entry is no finite number or no JSON mapping of such.
        """
        found: dict[str, object] = {
            el: self.metadata[_REFERENCE_KEY + el] for el in self.elements if _REFERENCE_KEY + el in self.metadata
        }
        text = self.metadata.get(_PACEMAKER_KEY)
        if text is not None:
            try:
                values = json.loads(text)
            except (ValueError, RecursionError):
                values = None
            if not isinstance(values, dict):
                raise AceError(
                    f"metadata: reference_energy is {text!r}, expected a JSON mapping such as "
                    '{"Cu": -3.2}; correct it'
                )
            found |= {el: values[el] for el in self.elements if el in values}
        return {el: _reference(el, found[el]) for el in self.elements if el in found}

    # --- changed copies -------------------------------------------------------------------------------------------
    def with_coefficients(self, coefficients: Mapping[str, np.ndarray]) -> AcePotential:
        """Copy with new coefficients: element -> [P, K] (or [K] for one density) in projection order."""
        new: dict[int, tuple[float, ...]] = {}
        for el, values in coefficients.items():
            fs, P = self.functions(el), self.species[el].n_density
            values = np.atleast_2d(np.asarray(values, dtype=float))
            if values.shape != (P, len(fs)):
                raise AceError(f"coefficients of {el} have shape {values.shape}, expected {(P, len(fs))}")
            for k, f in enumerate(fs):
                new[id(f)] = tuple(values[:, k].tolist())
        blocks = {
            name: tuple(replace(f, coefficients=new[id(f)]) if id(f) in new else f for f in fs)
            for name, fs in self.blocks.items()
        }
        return replace(self, blocks=blocks)

    def with_equal_densities(self) -> AcePotential:
        """The same energies, with as many densities for each element as the one with most has.

        Added densities have coefficients 0 and embedding parameters (0, 1): rho = 0, F = 0 and dF/drho = 0, so that
        energies, forces and projections do not change by a bit. The recursive evaluator of ML-PACE is wrong where
        numbers of densities differ. Itself if they are equal.
        """
        most = max(self.n_densities.values())
        missing = {el: most - count for el, count in self.n_densities.items()}
        if not any(missing.values()):
            return self
        species = {
            el: replace(s, n_density=most, parameters=(*s.parameters, *(0.0, 1.0) * missing[el]))
            for el, s in self.species.items()
        }
        blocks = {
            name: tuple(replace(f, coefficients=(*f.coefficients, *(0.0,) * missing[f.mu0])) for f in functions)
            for name, functions in self.blocks.items()
        }
        return replace(self, species=species, blocks=blocks)

    def with_radial_coefficients(self, radial: Mapping[tuple[str, str], np.ndarray]) -> AcePotential:
        """Copy with new radial coefficients: pair -> [nradmax, lmax + 1, nradbase]; the dual pair is kept equal."""
        bonds = dict(self.bonds)
        for (a, b), values in radial.items():
            values = np.array(values, dtype=float)
            if values.shape != bonds[a, b].radcoefficients.shape:
                raise AceError(f"radcoefficients of {a}-{b} must keep shape {bonds[a, b].radcoefficients.shape}")
            bonds[a, b] = replace(bonds[a, b], radcoefficients=values)
            bonds[b, a] = replace(bonds[b, a], radcoefficients=values)
        return replace(self, bonds=bonds)

    def with_reference_energies(self, energies: Mapping[str, float]) -> AcePotential:
        """Copy with reference energies (element -> eV) noted in ``metadata``, as pacemaker does and one by one."""
        kept = {k: v for k, v in self.metadata.items() if k != _PACEMAKER_KEY and not k.startswith(_REFERENCE_KEY)}
        values = {el: float(e) for el, e in energies.items()}
        metadata = kept | ({_PACEMAKER_KEY: json.dumps(values)} if values else {})
        metadata.update({_REFERENCE_KEY + el: repr(e) for el, e in values.items()})
        return replace(self, metadata=metadata)

    def with_metadata(self, **entries: str) -> AcePotential:
        """Copy with further ``metadata`` entries (text)."""
        return replace(self, metadata={**self.metadata, **{k: str(v) for k, v in entries.items()}})
