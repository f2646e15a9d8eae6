"""Generalised Clebsch-Gordan coefficients that couple products of spherical harmonics to a scalar.

Conventions: R. Drautz, Phys. Rev. B 99, 014104 (2019) and Phys. Rev. B 102, 024104 (2020). For rank r the angular
momenta ``ls`` are coupled pairwise, (1,2), (3,4), ..., the intermediates ``lint`` again pairwise in the order in which
they arise, until L = 0; for odd rank the last l couples with the last intermediate.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from math import factorial, sqrt

import numpy as np

from aiida_aceal.common.errors import AceError

from .limits import check_coupling


@cache
def clebsch_gordan(l1: int, m1: int, l2: int, m2: int, L: int, M: int) -> float:
    """Ordinary Clebsch-Gordan coefficient <l1 m1 l2 m2 | L M> (Racah's closed form, integers until the last step)."""
    if m1 + m2 != M or not abs(l1 - l2) <= L <= l1 + l2 or abs(m1) > l1 or abs(m2) > l2 or abs(M) > L:
        return 0.0
    f = factorial
    total = 0
    terms = []
    for k in range(max(0, l2 - L - m1, l1 - L + m2), min(l1 + l2 - L, l1 - m1, l2 + m2) + 1):
        terms.append((k, f(k) * f(l1 + l2 - L - k) * f(l1 - m1 - k) * f(l2 + m2 - k) * f(L - l2 + m1 + k)
                      * f(L - l1 - m2 + k)))  # fmt: skip
    # a common denominator keeps the alternating sum exact
    denominator = 1
    for _, d in terms:
        denominator *= d
    for k, d in terms:
        total += (-1) ** k * (denominator // d)
    numerator = (2 * L + 1) * f(L + l1 - l2) * f(L - l1 + l2) * f(l1 + l2 - L)
    numerator *= f(L + M) * f(L - M) * f(l1 - m1) * f(l1 + m1) * f(l2 - m2) * f(l2 + m2)
    return sqrt(numerator / f(l1 + l2 + L + 1)) * (total / denominator)


def full_intermediates(ls: tuple[int, ...], lint: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``lint`` in its full length max(r - 2, 0), expanding the shorthands of the file format.

    Raises
    ------
    AceError
        If the length fits neither the full nor a short form.
    """
    rank = len(ls)
    lint = tuple(lint)
    if rank <= 2:
        return ()
    if len(lint) == rank - 2:
        return lint
    if rank == 3 and not lint:
        return (ls[2],)
    if rank == 4 and len(lint) == 1:
        return lint * 2
    raise AceError(f"lint {list(lint)} does not fit nl {list(ls)}: rank {rank} takes {rank - 2} intermediate momenta")


def coupling_tree(rank: int) -> list[tuple[int, int]]:
    """Pairs of slots coupled in turn: slots 0..r-1 are the l's, slot r+k is the k-th intermediate.

    The last pair couples to L = 0 and has no intermediate. Rank 1 has no pair.
    """
    pairs = [(2 * k, 2 * k + 1) for k in range(rank // 2)]
    queue = [rank + k for k in range(len(pairs))]
    while len(queue) > 1:
        pairs.append((queue[0], queue[1]))
        queue = queue[2:] + [rank + len(pairs) - 1]
    if rank % 2 and rank > 1:
        pairs.append((queue[0], rank - 1))
    return pairs


@cache
def _coupling(ls: tuple[int, ...], lint: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rank = len(ls)
    if rank == 1:
        return np.zeros((1, 1), dtype=np.int64), np.ones(1)
    check_coupling(ls)
    pairs = coupling_tree(rank)
    l_of = list(ls) + list(lint) + [0]
    ms, coefficients = [], []
    # the first m runs fastest: enumerate the reversed product
    for reverse in product(*(range(-l, l + 1) for l in reversed(ls[:-1]))):
        m = list(reversed(reverse))
        last = -sum(m)
        if abs(last) > ls[-1]:
            continue
        m.append(last)
        ms.append(m)
    ms.sort(key=lambda row: row[::-1])
    kept = []
    for m in ms:
        first = next((x for x in m if x), 0)
        if first < 0:
            continue  # complex conjugate of a kept combination
        slots = list(m)
        value = 1.0 if first == 0 else 2.0
        for k, (a, b) in enumerate(pairs):
            M = slots[a] + slots[b]
            slots.append(M)
            value *= clebsch_gordan(l_of[a], slots[a], l_of[b], slots[b], l_of[rank + k], M)
            if value == 0.0:
                break
        if value != 0.0:
            kept.append(m)
            coefficients.append(value)
    return np.array(kept, dtype=np.int64).reshape(-1, rank), np.array(coefficients)


def coupling_terms(ls: tuple[int, ...], lint: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Return the kept m-combinations and their coefficients for B = sum_m C(m) Re prod_t A_{l_t m_t}.

    Parameters
    ----------
    ls, lint
        Angular momenta (length r) and intermediates (full or short form).

    Returns
    -------
    ms : int64 [n, r]
        Combinations with sum m = 0 whose first non-zero m is positive, or that are all zero; first m fastest.
    coefficients : float64 [n]
        Product of Clebsch-Gordan coefficients along the tree, times 2 where the conjugate combination is left out.
    """
    ls = tuple(int(l) for l in ls)
    return _coupling(ls, full_intermediates(ls, tuple(int(l) for l in lint)))
