"""C-tilde potentials (``.yace``): conversion from the B-basis, writer, reader, and what the evaluator needs of them.

The C-tilde basis of Y. Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021): rho_p = sum over products of ctilde_p times
Re prod A. Functions that differ only in their intermediate momenta are one there, hence B-basis coefficients cannot be
recovered from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_aceal.common.atomic import write_text
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.yaml import load_yaml

from . import values
from .coupling import coupling_terms
from .graph import Products, collect_products
from .limits import MAX_L, check_radial_size
from .potential import AcePotential, Bond, Species

if TYPE_CHECKING:
    from .compile import CompiledSpecies


@dataclass(frozen=True, eq=False)
class CTildeFunction:
    """Products of one (mus, ns, ls): neighbour species indices, n from 1, l; ``ms`` [q, r]; ``ctildes`` [q, P]."""

    mus: tuple[int, ...]
    ns: tuple[int, ...]
    ls: tuple[int, ...]
    ms: np.ndarray
    ctildes: np.ndarray

    @property
    def rank(self) -> int:
        return len(self.mus)


@dataclass(frozen=True, eq=False)
class CTildePotential:
    """A potential in C-tilde form.

    ``functions`` maps each element to its functions in file order; ``energies`` are the E0 of the file, eV per atom.
    `AceModel` takes it as it takes an `AcePotential`: energies (without E0), forces and virial, but there are no
    projections and hence no extrapolation grade.
    """

    elements: tuple[str, ...]
    species: Mapping[str, Species]
    bonds: Mapping[tuple[str, str], Bond]
    functions: Mapping[str, tuple[CTildeFunction, ...]]
    energies: tuple[float, ...]
    delta_spline_bins: float = 0.001

    @classmethod
    def read(cls, path: str | Path) -> CTildePotential:
        """Read a ``.yace`` file; raises `AceError` if it is missing or malformed."""
        return parse_yace(Path(path), str(path))

    def to_yace(self) -> str:
        """Text of the ``.yace``; reading it back gives bit-equal numbers."""
        return _format(self)

    def write(self, path: str | Path) -> None:
        write_text(path, self.to_yace())

    @property
    def cutoff(self) -> float:
        """Largest cutoff of any pair, Angstrom."""
        return max(bond.rcut for bond in self.bonds.values())

    @property
    def n_densities(self) -> dict[str, int]:
        return {el: self.species[el].n_density for el in self.elements}

    @property
    def reference_energies(self) -> dict[str, float]:
        """E0 of each element, eV."""
        return dict(zip(self.elements, self.energies))

    def with_reference_energies(self, energies: Mapping[str, float]) -> CTildePotential:
        """Copy with other E0 (element -> eV); elements not named keep theirs."""
        new = {**self.reference_energies, **energies}
        return replace(self, energies=tuple(float(new[el]) for el in self.elements))

    def products(self, element: str) -> Products:
        """Products A of an element with their weights in its densities: its P densities are the "functions"."""
        terms = []
        P = self.species[element].n_density
        for f in self.functions[element]:
            ns = [n - 1 for n in f.ns]
            terms.extend((f.mus, ns, f.ls, f.ms, f.ctildes[:, p]) for p in range(P))
        merged = collect_products(terms)

        def by_density(matrix: list[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
            total: dict[tuple[int, int], float] = {}
            for v, e, w in matrix:
                total[v % P, e] = total.get((v % P, e), 0.0) + w
            return [(p, e, w) for (p, e), w in total.items()]

        return merged._replace(
            n_functions=P, rank1_matrix=by_density(merged.rank1_matrix), matrix=by_density(merged.matrix)
        )

    def compile_species(self, element: str) -> CompiledSpecies:
        """Kernel arrays of one element for `AceModel` (whose "projections" are then the densities rho_p)."""
        from .compile import compile_products  # compiled kernels are loaded only for evaluation

        bonds = [self.bonds.get((element, other)) for other in self.elements]
        identity = np.eye(self.species[element].n_density)
        return compile_products(element, self.elements, self.species[element], bonds, self.products(element), identity)


# --- conversion -------------------------------------------------------------------------------------------------------
@cache
def _merged_terms(ls: tuple[int, ...], lint: tuple[int, ...], runs: tuple[int, ...]) -> tuple[list, np.ndarray]:
    """Kept m-combinations; those that differ by exchange of equal factors (``runs`` of them) are merged.

    As the reference engine does, m ascend among equal factors only if that makes the list shorter.
    """
    ms, weights = coupling_terms(ls, lint)
    rows = [tuple(row) for row in ms.tolist()]
    merged: dict[tuple[int, ...], float] = {}
    for row, weight in zip(rows, weights.tolist()):
        key, start = [], 0
        for run in runs:
            key += sorted(row[start : start + run])
            start += run
        merged[tuple(key)] = merged.get(tuple(key), 0.0) + weight
    if len(merged) == len(rows):
        merged = dict(zip(rows, weights.tolist()))
    return list(merged), np.array(list(merged.values()))


def to_ctilde(pot: AcePotential) -> CTildePotential:
    """Convert a B-basis potential: ctilde_p(m) = sum over lint of c^(p) C(m; l, lint); E0 from its metadata."""
    index = {el: i for i, el in enumerate(pot.elements)}
    functions: dict[str, tuple[CTildeFunction, ...]] = {}
    for el in pot.elements:
        converted = []
        for (mus, ns, ls), same in groupby(pot.functions(el), key=lambda f: (f.mus, f.ns, f.ls)):
            runs = tuple(len(list(g)) for _, g in groupby(zip(mus, ns, ls)))
            table: dict[tuple[int, ...], np.ndarray] = {}
            for f in same:
                rows, weights = _merged_terms(ls, f.lint, runs)
                for row, weight in zip(rows, weights):
                    table[row] = table.get(row, 0.0) + weight * np.array(f.coefficients)
            rows = sorted(table)
            converted.append(
                CTildeFunction(
                    mus=tuple(index[mu] for mu in mus),
                    ns=ns,
                    ls=ls,
                    ms=np.array(rows, dtype=np.int64).reshape(len(rows), len(mus)),
                    ctildes=np.array([table[row] for row in rows]),
                )
            )
        functions[el] = tuple(converted)
    reference = pot.reference_energies
    return CTildePotential(
        elements=pot.elements,
        species=dict(pot.species),
        bonds=dict(pot.bonds),
        functions=functions,
        energies=tuple(reference.get(el, 0.0) for el in pot.elements),
        delta_spline_bins=pot.delta_spline_bins,
    )


def potential_to_yace(pot: AcePotential) -> str:
    """Text of the ``.yace`` of a B-basis potential, with E0 from ``pot.reference_energies`` (0 where not given).

    ``pair_style pace`` needs as many densities for all elements: give it `AcePotential.with_equal_densities`.
    """
    return to_ctilde(pot).to_yace()


# --- writing ----------------------------------------------------------------------------------------------------------
def _num(value: float) -> str:
    return f"{value:.17g}"


def _list(values: Any) -> str:
    if isinstance(values, np.ndarray):
        values = values.tolist()
    return "[" + ", ".join(_list(v) if isinstance(v, (list, tuple)) else _num(v) for v in values) + "]"


def _format(pot: CTildePotential) -> str:
    out = [f"elements: [{', '.join(pot.elements)}]\n", f"E0: {_list(pot.energies)}\n"]
    out.append(f"deltaSplineBins: {_num(pot.delta_spline_bins)}\nembeddings:\n")
    for i, el in enumerate(pot.elements):
        s = pot.species[el]
        out.append(
            f"  {i}: {{ndensity: {s.n_density}, FS_parameters: {_list(s.parameters)}, npoti: {s.embedding}, "
            f"rho_core_cutoff: {_num(s.rho_core_cut)}, drho_core_cutoff: {_num(s.drho_core_cut)}}}\n"
        )
    out.append("bonds:\n")
    for i, a in enumerate(pot.elements):
        for j, b in enumerate(pot.elements):
            if (a, b) in pot.bonds:
                out.append(f"  [{i}, {j}]: {_format_bond(pot.bonds[a, b])}\n")
    out.append("functions:\n")
    for i, el in enumerate(pot.elements):
        functions = pot.functions[el]
        out.append(f"  {i}:\n" if functions else f"  {i}: []\n")
        for f in functions:
            out.append(
                f"    - {{mu0: {i}, rank: {f.rank}, ndensity: {pot.species[el].n_density}, num_ms_combs: {len(f.ms)}, "
                f"mus: {_list(f.mus)}, ns: {_list(f.ns)}, ls: {_list(f.ls)}, "
                f"ms_combs: {_list(f.ms.ravel())}, ctildes: {_list(f.ctildes.ravel())}}}\n"
            )
    return "".join(out)


def _format_bond(b: Bond) -> str:
    return (
        f"{{nradmax: {b.nradmax}, lmax: {b.lmax}, nradbasemax: {b.nradbase}, radbasename: {b.radbase}, "
        f"radparameters: {_list(b.radparameters)}, radcoefficients: {_list(b.radcoefficients)}, "
        f"prehc: {_num(b.core_repulsion[0])}, lambdahc: {_num(b.core_repulsion[1])}, rcut: {_num(b.rcut)}, "
        f"dcut: {_num(b.dcut)}, rcut_in: {_num(b.r_in)}, dcut_in: {_num(b.delta_in)}, "
        f"inner_cutoff_type: {b.inner_cutoff_type}}}"
    )


# --- reading ----------------------------------------------------------------------------------------------------------
def parse_yace(text: str | Path, source: str = "<string>") -> CTildePotential:
    """Parse the text (or the file, if a path is given) of a ``.yace``; ``source`` names it in error messages.

    Raises
    ------
    AceError
        If the text is no YAML or no valid C-tilde potential.
    """
    data = load_yaml(text, source, sequence_keys=True)
    needed = ("elements", "embeddings", "bonds", "functions")
    if not isinstance(data, dict) or any(key not in data for key in needed):
        raise AceError(f"{source}: lacks one of {', '.join(needed)}; this is not a C-tilde potential (.yace)")
    try:
        return _build(data)
    except AceError as error:
        raise type(error)(f"{source}: {error}") from error
    except (KeyError, IndexError) as error:
        raise AceError(f"{source}: the entry {error} is missing") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise AceError(f"{source}: malformed potential ({type(error).__name__}: {error})") from error


def _build(data: dict) -> CTildePotential:
    elements = tuple(str(el) for el in values.sequence("elements", data["elements"]))
    values.check_symbols(elements)
    energies = values.numbers("E0", data.get("E0", [0.0] * len(elements)))
    if len(energies) != len(elements):
        raise AceError(f"E0 holds {len(energies)} energies for {len(elements)} elements")
    species = {}
    for i, el in enumerate(elements):
        e = values.mapping(f"embeddings {i}", data["embeddings"][i])
        species[el] = Species(
            element=el,
            n_density=values.integer(f"ndensity of {el}", e["ndensity"], 1, 100),
            embedding=str(e["npoti"]),
            parameters=values.numbers(f"FS_parameters of {el}", e["FS_parameters"]),
            rho_core_cut=values.number("rho_core_cutoff", e.get("rho_core_cutoff", 100000.0)),
            drho_core_cut=values.number("drho_core_cutoff", e.get("drho_core_cutoff", 250.0)),
        )
    bonds = {(elements[i], elements[j]): _bond(f"bond [{i}, {j}]", b) for (i, j), b in data["bonds"].items()}
    functions = {}
    for i, el in enumerate(elements):
        items = data["functions"].get(i) or []
        functions[el] = tuple(_function(i, k, item, elements, species[el], bonds) for k, item in enumerate(items))
    delta = values.number("deltaSplineBins", data.get("deltaSplineBins", 0.001), 1e-12)
    return CTildePotential(elements, species, bonds, functions, energies, delta)


def _bond(where: str, b: dict) -> Bond:
    name = str(b["radbasename"])
    if name.startswith("ACE.jl"):
        raise AceError(f"{where}: radial functions {name!r} of ACE.jl are not supported; use SBessel or Cheb* ones")
    n, l, k = (values.integer(f"{where}: {key}", b[key]) for key in ("nradmax", "lmax", "nradbasemax"))
    check_radial_size(where, n, l, k)
    shape = (n, l + 1, k)
    radial = values.array(f"{where}: radcoefficients", b["radcoefficients"])
    if radial.size == 0:
        radial = radial.reshape(shape)
    if radial.shape != shape:
        raise AceError(f"{where}: radcoefficients of shape {radial.shape}, expected {shape}")
    return Bond(
        radbase=name,
        radparameters=values.numbers(f"{where}: radparameters", b["radparameters"]),
        rcut=values.number(f"{where}: rcut", b["rcut"], 0.0),
        dcut=values.number(f"{where}: dcut", b.get("dcut", 0.01), 0.0),
        nradbase=shape[2],
        radcoefficients=radial,
        core_repulsion=values.numbers(where, (b.get("prehc", 0.0), b.get("lambdahc", 0.0))),
        r_in=values.number(f"{where}: rcut_in", b.get("rcut_in", 0.0), 0.0),
        delta_in=values.number(f"{where}: dcut_in", b.get("dcut_in", 0.0), 0.0),
        inner_cutoff_type=str(b.get("inner_cutoff_type", "density")),
    )


def _function(
    center: int, k: int, item: dict, elements: tuple[str, ...], species: Species, bonds: Mapping
) -> CTildeFunction:
    where = f"function {k + 1} of {elements[center]}"
    mus, ns, ls = (values.integers(f"{where}: {key}", item[key]) for key in ("mus", "ns", "ls"))
    rank, P = len(mus), species.n_density
    stated = values.integer(f"{where}: rank", item.get("rank", rank))
    if rank == 0 or len(ns) != rank or len(ls) != rank or stated != rank:
        raise AceError(f"{where}: mus, ns, ls must have one entry for each of its {item.get('rank', rank)} factors")
    if values.integer(f"{where}: ndensity", item.get("ndensity", P)) != P:
        raise AceError(f"{where}: ndensity={item['ndensity']}, but the embedding of {species.element} has {P}")
    ms = values.array(f"{where}: ms_combs", item["ms_combs"])
    if (ms != np.rint(ms)).any() or (np.abs(ms) > MAX_L).any():
        raise AceError(f"{where}: ms_combs must be integers of at most {MAX_L}")
    ms = ms.astype(np.int64)
    ctildes = values.array(f"{where}: ctildes", item["ctildes"])
    count = values.integer(f"{where}: num_ms_combs", item.get("num_ms_combs", ms.size // rank), 0, 10**9)
    if ms.size != count * rank or ctildes.size != count * P:
        raise AceError(f"{where}: {count} combinations need {count * rank} ms_combs and {count * P} ctildes")
    ms = ms.reshape(count, rank)
    if (np.abs(ms) > np.array(ls)).any() or ms.sum(axis=1).any():
        raise AceError(f"{where}: a combination of ms_combs has |m| > l or a sum that is not zero")
    for mu, n, l in zip(mus, ns, ls):
        bond = bonds.get((elements[center], elements[mu])) if 0 <= mu < len(elements) else None
        if bond is None:
            raise AceError(f"{where}: the pair [{center}, {mu}] has no entry under bonds")
        n_limit, l_limit = (bond.nradbase, 0) if rank == 1 else (bond.nradmax, bond.lmax)
        if not 1 <= n <= n_limit or not 0 <= l <= l_limit:
            raise AceError(f"{where}: n={n}, l={l} lies outside n <= {n_limit}, l <= {l_limit} of its bond")
    return CTildeFunction(mus, ns, ls, ms, ctildes.reshape(count, P))
