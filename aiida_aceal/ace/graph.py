"""Products of atomic base functions A as a graph of binary products, shared between all basis functions.

The recursive evaluator of Y. Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021), carried further: a product and its
complex conjugate are one node, and the last multiplication of each product is never stored: only its real part counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np

from .coupling import coupling_terms
from .potential import AcePotential

#: one atomic base function: (neighbour species index, n - 1, l, m)
Factor = tuple[int, int, int, int]


class Products(NamedTuple):
    """All products of one central element and how functions are made of them.

    Attributes
    ----------
    rank1
        (neighbour species, n - 1) of each distinct rank-1 base function.
    factors
        Tuples of `Factor` of each distinct product of rank > 1.
    rank1_of, rank1_weight
        For each function of rank 1: index into ``rank1`` and weight.
    matrix
        (function, product, weight) triples: B_function = sum weight Re prod.
    """

    n_functions: int
    rank1: list[tuple[int, int]]
    factors: list[tuple[Factor, ...]]
    rank1_matrix: list[tuple[int, int, float]]
    matrix: list[tuple[int, int, float]]


def _conjugate(factors: Sequence[Factor]) -> tuple[Factor, ...]:
    return tuple(sorted((mu, n, l, -m) for mu, n, l, m in factors))


def _canonical(factors: Sequence[Factor]) -> tuple[tuple[Factor, ...], bool]:
    """The representative of a product and its conjugate, and whether it is the conjugate."""
    ordered = tuple(sorted(factors))
    other = _conjugate(ordered)
    return (ordered, False) if ordered >= other else (other, True)


def collect_products(
    terms: Sequence[tuple[Sequence[int], Sequence[int], Sequence[int], np.ndarray, np.ndarray]],
) -> Products:
    """Merge equal products of a list of functions.

    ``terms``: per function (neighbour species indices, n - 1, l, ms [q, r], weights [q]). The conjugate of a product
    with sum m = 0 has the same real part, so both are one entry.
    """
    rank1: dict[tuple[int, int], int] = {}
    products: dict[tuple[Factor, ...], int] = {}
    rank1_matrix, merged = [], {}
    for v, (mus, ns, ls, ms, weights) in enumerate(terms):
        if len(mus) == 1:
            index = rank1.setdefault((mus[0], ns[0]), len(rank1))
            rank1_matrix.append((v, index, float(weights[0])))
            continue
        for m, w in zip(ms.tolist(), weights.tolist()):
            key, _ = _canonical([(mu, n, l, q) for mu, n, l, q in zip(mus, ns, ls, m)])
            index = products.setdefault(key, len(products))
            merged[v, index] = merged.get((v, index), 0.0) + w
    matrix = [(v, e, w) for (v, e), w in merged.items() if abs(w) > 1e-15]
    return Products(len(terms), list(rank1), list(products), rank1_matrix, matrix)


def b_basis_products(pot: AcePotential, element: str) -> Products:
    """Products of the B-basis functions of an element, in projection order."""
    index = {el: i for i, el in enumerate(pot.elements)}
    terms = []
    for f in pot.functions(element):
        ms, weights = coupling_terms(f.ls, f.lint)
        terms.append(([index[mu] for mu in f.mus], [n - 1 for n in f.ns], f.ls, ms, weights))
    return collect_products(terms)


@dataclass
class Graph:
    """Binary product nodes of one central element (see `build_graph`).

    Leaves are atomic base functions with m >= 0. Node k >= n_leaves is ``s a^(+-) b^(+-)`` with
    re = k1 ar br + k2 ai bi, im = k3 ar bi + k4 ai br. A top is w (ar br + sigma ai bi) with the node indices in
    ``top_a``, ``top_b``; ``top_scale`` holds the sign that goes into its weight.
    """

    leaves: list[Factor] = field(default_factory=list)
    node_a: list[int] = field(default_factory=list)
    node_b: list[int] = field(default_factory=list)
    node_k: list[tuple[float, float, float, float]] = field(default_factory=list)
    top_a: list[int] = field(default_factory=list)
    top_b: list[int] = field(default_factory=list)
    top_sigma: list[float] = field(default_factory=list)
    top_scale: list[float] = field(default_factory=list)


class _Builder:
    def __init__(self) -> None:
        self.graph = Graph()
        self.nodes: dict[tuple[Factor, ...], int] = {}

    def reference(self, factors: tuple[Factor, ...]) -> tuple[int, int, float]:
        """Node of a product, +1 or -1 for its conjugate, and the sign of the representation."""
        key, conjugated = _canonical(factors)
        sign = -1.0 if conjugated and sum(f[3] for f in key) % 2 else 1.0
        return self.nodes[key], (-1 if conjugated else 1), sign

    def exists(self, factors: tuple[Factor, ...]) -> bool:
        return _canonical(factors)[0] in self.nodes

    def best_split(self, factors: tuple[Factor, ...]) -> tuple[tuple[Factor, ...], tuple[Factor, ...]]:
        """Split with the fewest missing parts; ties: the most even one."""
        r = len(factors)
        best, choice = None, None
        for size in range(r // 2, 0, -1):
            for pick in combinations(range(r), size):
                if 2 * size == r and 0 not in pick:
                    continue
                part = tuple(factors[i] for i in pick)
                rest = tuple(factors[i] for i in range(r) if i not in pick)
                cost = sum(0 if self.exists(p) else len(p) for p in (part, rest))
                if best is None or cost < best:
                    best, choice = cost, (part, rest)
                    if cost == 0:
                        return choice
        return choice

    def ensure(self, factors: tuple[Factor, ...]) -> None:
        key, _ = _canonical(factors)
        if key in self.nodes:
            return
        part, rest = self.best_split(key)
        self.ensure(part)
        self.ensure(rest)
        a, sa, ga = self.reference(part)
        b, sb, gb = self.reference(rest)
        g = ga * gb
        self.nodes[key] = len(self.graph.leaves) + len(self.graph.node_a)
        self.graph.node_a.append(a)
        self.graph.node_b.append(b)
        self.graph.node_k.append((g, -g * sa * sb, g * sb, g * sa))


def build_graph(products: Products) -> Graph:
    """Choose a binary product tree for every product, sharing sub-products; greedy from low to high rank."""
    builder = _Builder()
    graph = builder.graph
    leaves = sorted({_canonical([f])[0][0] for factors in products.factors for f in factors})
    for leaf in leaves:
        builder.nodes[(leaf,)] = len(graph.leaves)
        graph.leaves.append(leaf)
    tops: list[tuple[int, int, float, float]] = [(0, 0, 0.0, 0.0)] * len(products.factors)
    for e in sorted(range(len(products.factors)), key=lambda e: len(products.factors[e])):
        factors = products.factors[e]
        part, rest = builder.best_split(factors)
        builder.ensure(part)
        builder.ensure(rest)
        a, sa, ga = builder.reference(part)
        b, sb, gb = builder.reference(rest)
        if a > b:
            a, b = b, a
        tops[e] = (a, b, -float(sa * sb), ga * gb)
    for a, b, sigma, scale in tops:
        graph.top_a.append(a)
        graph.top_b.append(b)
        graph.top_sigma.append(sigma)
        graph.top_scale.append(scale)
    return graph
