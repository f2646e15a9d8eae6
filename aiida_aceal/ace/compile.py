"""From an `AcePotential` to the flat arrays of the kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial, sqrt

import numpy as np

from aiida_aceal.common.errors import AceError

from .graph import Graph, Products, b_basis_products, build_graph
from .kernels import DENSITY, DISTANCE, ZBL, SpeciesArrays
from .potential import AcePotential, Bond, Species
from .radial import core_range, core_repulsion, kinks, nuclear_charges, radial_functions
from .tables import DEGREE, Table, build_table, hermite_table, times_distance

_INNER = {"distance": DISTANCE, "density": DENSITY, "zbl": ZBL}
_EMBEDDING = {"FinnisSinclair": 0, "FinnisSinclairShiftedScaled": 1}


@dataclass(frozen=True, eq=False)
class CompiledSpecies:
    """Kernel arrays of one central element, with the graph they were made from (for fits and design matrices)."""

    element: str
    arrays: SpeciesArrays
    products: Products
    graph: Graph
    top_order: np.ndarray  # product index of each top in kernel order


def compile_species(pot: AcePotential, element: str, spacing: float | None = None) -> CompiledSpecies:
    """Compile one central element of a B-basis potential; ``spacing``: see `compile_products`."""
    bonds = [pot.bonds.get((element, other), None) for other in pot.elements]
    return compile_products(
        element,
        pot.elements,
        pot.species[element],
        bonds,
        b_basis_products(pot, element),
        pot.coefficients(element),
        spacing=spacing,
    )


def compile_products(
    element: str,
    elements: Sequence[str],
    species: Species,
    bonds: Sequence[Bond | None],
    products: Products,
    coefficients: np.ndarray,
    e0: float = 0.0,
    spacing: float | None = None,
) -> CompiledSpecies:
    """Compile a list of products: ``coefficients`` [P, K] are those of the functions of ``products``.

    ``spacing`` (Angstrom) asks for cubic tables of that width, as the reference engines use, in place of exact ones.
    """
    graph = build_graph(products)
    channels, tables = _channels_and_tables(bonds, products, graph, spacing)
    arrays = SpeciesArrays(
        **_radial_arrays(element, elements, bonds, tables, spacing),
        **_base_arrays(len(elements), products, graph, channels),
        **_graph_arrays(products, graph),
        **_weights(products, coefficients, species.n_density, _top_order(graph), graph),
        embedding=_EMBEDDING[species.embedding],
        emb_w=np.array(species.parameters[0::2], dtype=float),
        emb_m=np.array(species.parameters[1::2], dtype=float),
        rho_core_cut=float(species.rho_core_cut),
        drho_core_cut=float(species.drho_core_cut),
        inner_type=_INNER[next(b for b in bonds if b is not None).inner_cutoff_type],
        e0=float(e0),
        n_functions=products.n_functions,
    )
    return CompiledSpecies(element, arrays, products, graph, _top_order(graph))


def with_coefficients(compiled: CompiledSpecies, coefficients: np.ndarray) -> CompiledSpecies:
    """Same basis, other coefficients [P, K]: nothing but two small arrays is made anew."""
    new = _weights(compiled.products, coefficients, len(compiled.arrays.emb_w), compiled.top_order, compiled.graph)
    return CompiledSpecies(
        compiled.element,
        compiled.arrays._replace(r1_weight=new["r1_weight"], top_weight=new["top_weight"]),
        compiled.products,
        compiled.graph,
        compiled.top_order,
    )


def _top_order(graph: Graph) -> np.ndarray:
    return np.lexsort((graph.top_b, graph.top_a)).astype(np.int64) if graph.top_a else np.zeros(0, dtype=np.int64)


# --- radial -----------------------------------------------------------------------------------------------------------
def _channels_and_tables(bonds: Sequence[Bond | None], products: Products, graph: Graph, spacing: float | None):
    """Distinct radial functions of each neighbour species and their tables."""
    channels: dict[tuple, int] = {}  # (species, kind, n, l) -> channel of that species
    tables: list[Table | None] = []
    for s, bond in enumerate(bonds):
        vectors: list[np.ndarray] = []
        if bond is None:
            tables.append(None)
            continue
        wanted = [("g", n, 0) for mu, n in products.rank1 if mu == s]
        wanted += sorted({("R", n, l) for mu, n, l, _ in graph.leaves if mu == s})
        for kind, n, l in wanted:
            vector = np.eye(bond.nradbase)[n] if kind == "g" else bond.radcoefficients[n, l]
            equal = (c for c, known in enumerate(vectors) if np.array_equal(known, vector))
            c = next(equal, len(vectors))  # equal radial functions share a channel
            if c == len(vectors):
                vectors.append(vector)
            channels[s, kind, n, l] = c
        tables.append(_radial_table(bond, np.array(vectors), spacing) if vectors else None)
    return channels, tables


def _radial_table(bond: Bond, vectors: np.ndarray, spacing: float | None) -> Table:
    def function(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        g, dg, _, _ = radial_functions(bond, r)
        return g @ vectors.T, dg @ vectors.T

    return build_table(function, kinks(bond)) if spacing is None else hermite_table(function, bond.rcut, spacing)


def _stack(tables: Sequence[Table | None], channels: int) -> tuple[np.ndarray, ...]:
    G = max([len(t.start) for t in tables if t is not None], default=1)
    start, inverse = np.full((len(tables), G), np.inf), np.ones((len(tables), G))
    offset = np.zeros((len(tables), G), dtype=np.int64)
    start[:, 0] = 0.0
    parts, total = [], 0
    for s, t in enumerate(tables):
        if t is None:
            offset[s] = total
            parts.append(np.zeros((1, DEGREE + 1, channels)))
            inverse[s] = 0.0
        else:
            g = len(t.start)
            start[s, :g], inverse[s, :g], offset[s, :g] = t.start, t.inverse_width, t.offset + total
            block = np.zeros((len(t.coefficients), DEGREE + 1, channels))
            block[:, :, : t.coefficients.shape[2]] = t.coefficients
            parts.append(block)
        total += len(parts[-1])
    parts.append(np.zeros((1, DEGREE + 1, channels)))  # the bin of empty places
    return start, inverse, offset, np.concatenate(parts)


def _core_table(bond: Bond, z_i: int, z_j: int, spacing: float | None) -> Table:
    """Table of r V(r), V the core energy of the bond."""

    def function(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, slope = core_repulsion(bond, r, z_i, z_j)
        return value[:, None], slope[:, None]

    def divided(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, slope = function(r)
        r = np.maximum(r, 1e-6)[:, None]  # the engines' first bin is never used: they refuse such distances
        return value / r, (slope - value / r) / r

    if spacing is None:
        return build_table(function, kinks(bond), width=0.05)
    return times_distance(hermite_table(divided, bond.rcut, spacing))


def _radial_arrays(
    element: str,
    elements: Sequence[str],
    bonds: Sequence[Bond | None],
    tables: Sequence[Table | None],
    spacing: float | None,
) -> dict:
    C = max([t.coefficients.shape[2] for t in tables if t is not None], default=1)
    C = (C + 7) // 8 * 8  # full vectors
    start, inverse, offset, table = _stack(tables, C)
    cores: list[Table | None] = []
    for other, bond in zip(elements, bonds):
        if bond is None or core_range(bond) == 0.0:
            cores.append(None)
            continue
        z_i, z_j = nuclear_charges(element, other)
        if bond.inner_cutoff_type == "zbl" and not (z_i and z_j):
            raise AceError(f"zbl core repulsion needs chemical elements, found the pair {element} {other}")

        cores.append(_core_table(bond, z_i, z_j, spacing))
    core_start, core_inverse, core_offset, core_table = _stack(cores, 1)
    return {
        "rcut": np.array([b.rcut if b is not None else 0.0 for b in bonds]),
        "seg_start": start,
        "seg_inverse": inverse,
        "seg_offset": offset,
        "table": table,
        "core_cut": np.array([core_range(b) if b is not None else 0.0 for b in bonds]),
        "core_start": core_start,
        "core_inverse": core_inverse,
        "core_offset": core_offset,
        "core_table": np.ascontiguousarray(core_table[:, :, 0]),
        "inner_shift": np.array([b.r_in - b.delta_in if b is not None else 0.0 for b in bonds]),
        "inner_delta": np.array([b.delta_in if b is not None else 0.0 for b in bonds]),
    }


# --- atomic base and graph --------------------------------------------------------------------------------------------
def _base_arrays(S: int, products: Products, graph: Graph, channels: Mapping) -> dict:
    lmax = np.full(S, -1, dtype=np.int64)
    for mu, _, l, _ in graph.leaves:
        lmax[mu] = max(lmax[mu], l)
    L = max(int(lmax.max(initial=0)), 0)
    LM = (L + 1) * (L + 2) // 2
    norm = np.array(
        [
            (-1) ** m * sqrt((2 * l + 1) * factorial(l - m) / factorial(l + m))
            for l in range(L + 1)
            for m in range(l + 1)
        ]
    )
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for leaf, (mu, n, l, m) in enumerate(graph.leaves):
        groups.setdefault((mu, l * (l + 1) // 2 + m), []).append((channels[mu, "R", n, l], leaf))
    lm_ptr = np.zeros((S, LM + 1), dtype=np.int64)
    entries: list[tuple[int, int]] = []
    for s in range(S):
        for lm in range(LM):
            lm_ptr[s, lm] = len(entries)
            entries += groups.get((s, lm), [])
        lm_ptr[s, LM] = len(entries)
    order = sorted(range(len(products.rank1)), key=lambda e: products.rank1[e])
    r1_ptr = np.array([sum(products.rank1[e][0] < s for e in order) for s in range(S + 1)], dtype=np.int64)
    return {
        "lmax": lmax,
        "norm": norm,
        "lm_ptr": lm_ptr,
        "ent_channel": np.array([c for c, _ in entries], dtype=np.int64),
        "ent_leaf": np.array([leaf for _, leaf in entries], dtype=np.int64),
        "r1_ptr": r1_ptr,
        "r1_channel": np.array(
            [channels[products.rank1[e][0], "g", products.rank1[e][1], 0] for e in order], dtype=np.int64
        ),
    }


def _rank1_order(products: Products) -> list[int]:
    return sorted(range(len(products.rank1)), key=lambda e: products.rank1[e])


def _csr(rows: Sequence[int], columns: Sequence[int], values: Sequence[float], count: int) -> tuple[np.ndarray, ...]:
    rows = np.asarray(rows, dtype=np.int64)
    order = np.argsort(rows, kind="stable")
    ptr = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=count), out=ptr[1:])
    return ptr, np.asarray(columns, dtype=np.int64)[order], np.asarray(values, dtype=float)[order]


def _graph_arrays(products: Products, graph: Graph) -> dict:
    order = _top_order(graph)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    top_a = np.array(graph.top_a, dtype=np.int64)[order]
    grp_a, first = np.unique(top_a, return_index=True)
    rank1_place = {e: k for k, e in enumerate(_rank1_order(products))}
    scale = np.array(graph.top_scale)
    proj = _csr(
        [place[e] for _, e, _ in products.matrix],
        [v for v, _, _ in products.matrix],
        [w * scale[e] for _, e, w in products.matrix],
        len(order),
    )
    r1 = _csr(
        [rank1_place[e] for _, e, _ in products.rank1_matrix],
        [v for v, _, _ in products.rank1_matrix],
        [w for _, _, w in products.rank1_matrix],
        len(products.rank1),
    )
    return {
        "n_leaves": len(graph.leaves),
        "node_a": np.array(graph.node_a, dtype=np.int64),
        "node_b": np.array(graph.node_b, dtype=np.int64),
        "node_k": np.array(graph.node_k, dtype=float).reshape(-1, 4),
        "grp_a": grp_a.astype(np.int64),
        "grp_ptr": np.append(first, len(order)).astype(np.int64),
        "top_b": np.array(graph.top_b, dtype=np.int64)[order],
        "top_sigma": np.array(graph.top_sigma, dtype=float)[order],
        "proj_ptr": proj[0],
        "proj_v": proj[1],
        "proj_w": proj[2],
        "r1_proj_ptr": r1[0],
        "r1_proj_v": r1[1],
        "r1_proj_w": r1[2],
    }


def _weights(products: Products, coefficients: np.ndarray, P: int, order: np.ndarray, graph: Graph) -> dict:
    """Weights of rank-1 sums and tops in the densities: coefficients [P, K] folded with the coupling."""
    coefficients = np.asarray(coefficients, dtype=float).reshape(P, products.n_functions)
    top = np.zeros((len(products.factors), P))
    for v, e, w in products.matrix:
        top[e] += w * coefficients[:, v]
    top *= np.array(graph.top_scale).reshape(-1, 1)
    r1 = np.zeros((len(products.rank1), P))
    for v, e, w in products.rank1_matrix:
        r1[e] += w * coefficients[:, v]
    return {
        "r1_weight": np.ascontiguousarray(r1[_rank1_order(products)]),
        "top_weight": np.ascontiguousarray(top[order]),
    }
