"""Linearly independent angular couplings of products with equal factors.

For factors (mu, n, l) that occur several times, the invariants of different intermediate momenta ``lint`` are linearly
dependent. Their number follows from the characters of SO(3) (the product space is the tensor product of the symmetric
powers Sym^k of the irreducible spaces l; the invariants are the weights M = 0 minus the weights M = 1); which of them
to keep is decided numerically and proved by that number. See R. Drautz, Phys. Rev. B 102, 024104 (2020), and
G. Dusson et al., J. Comput. Phys. 454, 110946 (2022), on the independent set.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations_with_replacement, groupby, product

import numpy as np

from aiida_aceal.common.errors import AceError

from .coupling import clebsch_gordan, coupling_tree

# Residuals of dependent functions are ~1e-14 of their norm, those of independent ones are above 1e-3 in all cases met.
_DEPENDENT = 1e-7


@cache
def candidate_lints(ls: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """All intermediate momenta that couple ``ls`` to zero, ascending.

    Rank 7 keeps only L1234 = L123456, which the engines that read these files demand.
    """
    rank = len(ls)
    if rank == 1:
        return ((),) if ls[0] == 0 else ()
    if sum(ls) % 2:
        return ()
    pairs = coupling_tree(rank)
    found: list[tuple[int, ...]] = []

    def extend(momenta: tuple[int, ...]) -> None:
        a, b = (momenta[k] for k in pairs[len(momenta) - rank])
        if len(momenta) - rank == len(pairs) - 1:
            if a == b:
                found.append(momenta[rank:])
            return
        for L in range(abs(a - b), a + b + 1):
            extend((*momenta, L))

    extend(tuple(ls))
    if rank == 7:
        found = [lint for lint in found if lint[3] == lint[4]]
    return tuple(found)


@cache
def _symmetric_power(l: int, power: int) -> tuple[int, ...]:
    """Number of weights M = -l*power..l*power of Sym^power of the irreducible space l."""
    weights = [np.zeros(2 * l * power + 1, dtype=object) for _ in range(power + 1)]
    weights[0][l * power] = 1  # weight 0 sits in the middle
    for m in range(-l, l + 1):
        for k in range(1, power + 1):  # ascending: m may be taken again
            shifted = np.roll(weights[k - 1], m)
            weights[k] = weights[k] + shifted
    return tuple(weights[power].tolist())


@cache
def count_invariants(classes: tuple[tuple[int, int], ...]) -> int:
    """Number of independent scalars made of ``classes`` = ((l, multiplicity of one factor (mu, n, l)), ...)."""
    weights = np.ones(1, dtype=object)
    for l, power in classes:
        weights = np.convolve(weights, np.array(_symmetric_power(l, power), dtype=object))
    middle = len(weights) // 2
    return int(weights[middle] - (weights[middle + 1] if middle + 1 < len(weights) else 0))


@cache
def _cg_block(l1: int, l2: int, L: int) -> np.ndarray:
    """<l1 m1 l2 m2 | L M> as an array [M, m1 * m2]."""
    block = np.zeros((2 * L + 1, 2 * l1 + 1, 2 * l2 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            if abs(m1 + m2) <= L:
                block[m1 + m2 + L, m1 + l1, m2 + l2] = clebsch_gordan(l1, m1, l2, m2, L, m1 + m2)
    return block.reshape(2 * L + 1, -1)


def invariant_samples(ls: tuple[int, ...], lints, factors: list[np.ndarray]) -> np.ndarray:
    """Values sum_m C(m; l, lint) prod_t a_t[m_t] of each lint (rows) at sampled factors.

    ``factors[t]`` [2 l_t + 1, samples] are independent variables a_{t, m}, real or complex; equal factors (mu, n, l)
    are given by equal arrays. Intermediates shared between couplings are computed once.
    """
    rank = len(ls)
    if rank == 1:
        return np.array([factors[0][ls[0]]])
    pairs = coupling_tree(rank)
    leaves = {}

    def value(slot: int, momenta: tuple[int, ...]) -> np.ndarray:
        if slot < rank:
            return factors[slot]
        key = (slot, tuple(momenta[k] for k in _descendants(rank, slot)))
        if key not in leaves:
            a, b = pairs[slot - rank]
            va, vb = value(a, momenta), value(b, momenta)
            outer = (va[:, None, :] * vb[None, :, :]).reshape(-1, va.shape[1])
            leaves[key] = _cg_block(momenta[a], momenta[b], momenta[slot]) @ outer
        return leaves[key]

    return np.array([value(rank + len(pairs) - 1, (*ls, *lint, 0))[0] for lint in lints])


@cache
def _descendants(rank: int, slot: int) -> tuple[int, ...]:
    """Intermediate slots at and below ``slot`` (their momenta decide its value)."""
    if slot < rank:
        return ()
    a, b = coupling_tree(rank)[slot - rank]
    return (*_descendants(rank, a), *_descendants(rank, b), slot)


@cache
def independent_lints(ls: tuple[int, ...], runs: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """First independent intermediates of a product, in ascending order.

    Parameters
    ----------
    ls
        Angular momenta of the factors.
    runs
        Lengths of consecutive runs of equal factors (mu, n, l); they add up to the rank.

    Raises
    ------
    AceError
        If the number found is not the number of invariants (rank 7 is restricted, see `candidate_lints`).
    """
    starts = np.cumsum((0, *runs))[:-1]
    classes = tuple(sorted((ls[s], k) for s, k in zip(starts, runs)))
    expected = count_invariants(classes) if sum(ls) % 2 == 0 else 0
    lints = candidate_lints(ls)
    if not lints or not expected:
        return ()
    if expected == len(lints) and len(ls) != 7:
        return lints
    # Values at more sample points than functions decide dependence of polynomials; the seed is fixed, so that the
    # choice is the same on every machine. Unit vectors keep products of equal factors on one scale.
    rng = np.random.default_rng(20240229)
    n_samples = 2 * expected + 16
    factors: list[np.ndarray] = []
    for s, k in zip(starts, runs):
        a = rng.standard_normal((2 * ls[s] + 1, n_samples))
        factors += [a / np.linalg.norm(a, axis=0)] * k
    values = invariant_samples(ls, lints, factors)
    kept, basis = [], np.zeros((0, n_samples))
    for lint, row in zip(lints, values):
        norm = np.linalg.norm(row)
        if norm < 1e-12 * np.sqrt(n_samples):  # antisymmetric in equal factors: zero
            continue
        row = row / norm
        for _ in range(2):  # twice is enough for orthogonality to rounding
            row = row - basis.T @ (basis @ row)
        residual = np.linalg.norm(row)
        if residual > _DEPENDENT:
            basis = np.vstack([basis, row / residual])
            kept.append(lint)
            if len(kept) == expected:
                break
    if len(kept) != expected and len(ls) != 7:
        raise AceError(
            f"found {len(kept)} independent couplings of l = {list(ls)}, runs of equal factors {list(runs)}, but there "
            f"are {expected}; lower lmax_by_orders at rank {len(ls)}"
        )
    return tuple(kept)


@cache
def angular_functions(
    groups: tuple[int, ...], lmax: int, lmin: int = 0
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """All independent (ls, lint) of a product whose (mu, n) come in consecutive ``groups`` of equal ones.

    Within a group the l ascend, so that every multiset of factors (mu, n, l) is met once. Sum of l is even.
    """
    if groups == (1,):
        return (((0,), ()),)
    choices = [tuple(combinations_with_replacement(range(lmin, lmax + 1), k)) for k in groups]
    found = []
    for parts in product(*choices):
        ls = tuple(l for part in parts for l in part)
        if sum(ls) % 2:
            continue
        runs = tuple(len(list(same)) for part in parts for _, same in groupby(part))
        found.extend((ls, lint) for lint in independent_lints(ls, runs))
    return tuple(found)
