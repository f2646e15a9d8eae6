"""Builds a new potential (unfitted basis) from a short description, as pacemaker's users write it.

The functions of a block are all products of factors (mu, n, l) whose set of elements {central} + {neighbours} equals
the block's, with n <= nradmax_by_orders[rank - 1], l <= lmax_by_orders[rank - 1] and even sum of l; among the
couplings of one product a linearly independent set is kept (`aiida_aceal.ace.independent`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from itertools import combinations, combinations_with_replacement, groupby
from itertools import product as cartesian

import numpy as np

from aiida_aceal.common.errors import AceError

from .basis_settings import BondSettings, FunctionSettings
from .describe import Description, read_description
from .independent import angular_functions
from .limits import check_count, check_radial_size
from .potential import AcePotential, BasisFunction, Bond
from .radial import cutoff_warnings

# A basis beyond this is a mistyped description: it could neither be fitted nor evaluated.
MAX_FUNCTIONS_PER_ELEMENT = 200_000
_RANDOM_SCALE = 1e-4


def build_potential(description: Mapping, seed: int = 0) -> AcePotential:
    """Build an unfitted potential.

    Parameters
    ----------
    description
        Either pacemaker's form (``elements``, ``embeddings``, ``bonds``, ``functions`` with the keys ALL, UNARY,
        BINARY, ..., "Al", "AlNi"; the more specific one wins key by key) or a flat one (``elements``, ``cutoff``,
        ``nradmax_by_orders``, ``lmax_by_orders`` and any key of the sections), or ``preset: Cu``, the name of a
        published basis (`aiida_aceal.ace.presets`). Lengths in Angstrom. See
        `aiida_aceal.ace.describe.read_description`.
    seed
        Seed of the coefficients of blocks with ``coefs_init: random``; all others are zero.

    Returns
    -------
    AcePotential
        Coefficients zero, R_nl = g_n (radial coefficients delta_nk for every l).

    Raises
    ------
    AceError
        On unknown keys (the nearest known one is named) and on values that make no basis.

    Notes
    -----
    ``number_of_functions_per_element`` is shared out evenly: each block keeps its limit * elements // blocks functions
    of smallest power rank p = rank + sum(n) + sum(l), ties in file order; radial data keep their full size.
    """
    wanted = read_description(description)
    by_block: dict[tuple[str, ...], list[BasisFunction]] = {}
    for central in wanted.elements:
        total = 0
        for block in _blocks_of(central, wanted.elements):
            settings = wanted.functions.get(block)
            if settings is None:
                continue
            n_density = wanted.species[central].n_density
            found = []
            for function in _functions(block, settings, (0.0,) * n_density):
                total += 1
                if total > MAX_FUNCTIONS_PER_ELEMENT:
                    raise AceError(
                        f"the description gives {central} more than {MAX_FUNCTIONS_PER_ELEMENT} functions; lower "
                        "nradmax_by_orders or lmax_by_orders of the highest orders"
                    )
                found.append(function)
            by_block[block] = found
    if not any(by_block.values()):
        raise AceError("the description yields no functions; raise nradmax_by_orders")
    bonds = _bonds(wanted, by_block)
    for line in cutoff_warnings(bonds):
        warnings.warn(line, stacklevel=2)
    # every element and every pair has a block of its own: they carry the embedding and the radial data
    names = sorted({(el,) for el in wanted.elements} | set(bonds) | {b for b, fs in by_block.items() if fs})
    names = [name for name in names if len(name) != 2 or name[0] != name[1]]
    if wanted.function_limit is not None:
        _truncate(by_block, wanted, len(names))
    _randomise(by_block, wanted, np.random.default_rng(seed))
    return AcePotential(
        elements=wanted.elements,
        species=wanted.species,
        bonds=bonds,
        blocks={" ".join(name): tuple(by_block.get(name, ())) for name in names},
        delta_spline_bins=wanted.delta_spline_bins,
        metadata=wanted.metadata,
    )


def _blocks_of(central: str, elements: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    others = [el for el in elements if el != central]
    for size in range(len(others) + 1):
        for chosen in combinations(others, size):
            yield (central, *chosen)


def _functions(block: tuple[str, ...], settings: FunctionSettings, zero: tuple[float, ...]) -> Iterator[BasisFunction]:
    """Functions of a block, ascending in (rank, mus, ns, ls, lint)."""
    central, members = block[0], sorted(block)
    sizes = (settings.nradmax_by_orders, settings.lmax_by_orders, settings.lmin_by_orders)
    for rank, (nmax, lmax, lmin) in enumerate(zip(*sizes), start=1):
        if rank < len(block) - 1 or nmax == 0:
            continue
        check_count(f"functions of {central}", 1, rank, nmax, lmax, MAX_FUNCTIONS_PER_ELEMENT)
        for mus in combinations_with_replacement(members, rank):
            if {central, *mus} != set(block):
                continue
            parts = [len(list(same)) for _, same in groupby(mus)]
            radial = [tuple(combinations_with_replacement(range(1, nmax + 1), k)) for k in parts]
            for chosen in cartesian(*radial):
                ns = tuple(n for part in chosen for n in part)
                # equal (mu, n) stand next to each other, as both are ascending
                groups = tuple(len(list(same)) for part in chosen for _, same in groupby(part))
                for ls, lint in angular_functions(groups, lmax, lmin):
                    yield BasisFunction(central, mus, ns, ls, lint, zero)


def _bonds(wanted: Description, by_block: Mapping[tuple[str, ...], list[BasisFunction]]) -> dict:
    """Radial data of every ordered pair, as large as the functions need; both orders of a pair are equal."""
    needed: dict[tuple[str, str], list[int]] = {}
    for functions in by_block.values():
        for f in functions:
            for mu, n, l in zip(f.mus, f.ns, f.ls):
                size = needed.setdefault(tuple(sorted((f.mu0, mu))), [0, 0, 0])
                if f.rank == 1:
                    size[2] = max(size[2], n)
                else:
                    size[0], size[1] = max(size[0], n), max(size[1], l)
    bonds = {}
    for a, b in combinations_with_replacement(wanted.elements, 2):
        settings: BondSettings = wanted.bonds[a, b]
        n_used, l_used, k_used = needed.get((a, b), [0, 0, 0])
        nradmax, lmax = max(1, n_used, settings.nradmax or 0), max(l_used, settings.lmax or 0)
        nradbase = max(k_used, nradmax) if settings.nradbase is None else settings.nradbase
        for key, given, used in (("nradmax", settings.nradmax, n_used), ("lmax", settings.lmax, l_used),
                                 ("nradbase", settings.nradbase, max(k_used, nradmax))):  # fmt: skip
            if given is not None and given < used:
                raise AceError(f"bonds {a}-{b}: {key}={given}, but functions need {used}; raise it or leave it out")
        check_radial_size(f"bonds {a}-{b}", nradmax, lmax, nradbase)
        radial = np.zeros((nradmax, lmax + 1, nradbase)) + np.eye(nradmax, nradbase)[:, None, :]
        bonds[a, b] = bonds[b, a] = Bond(
            radbase=settings.radbase,
            radparameters=settings.radparameters,
            rcut=settings.rcut,
            dcut=settings.dcut,
            nradbase=nradbase,
            radcoefficients=radial,
            core_repulsion=settings.core_repulsion,
            r_in=settings.r_in,
            delta_in=settings.delta_in,
            inner_cutoff_type=settings.inner_cutoff_type,
            cutoff_function=settings.NameOfCutoffFunction,
        )
    return bonds


def _truncate(by_block: dict[tuple[str, ...], list[BasisFunction]], wanted: Description, n_blocks: int) -> None:
    """Keep the functions of smallest power rank of each block, as pacemaker shares the limit out."""
    quota = wanted.function_limit * len(wanted.elements) // n_blocks
    if quota == 0:
        raise AceError(
            f"number_of_functions_per_element={wanted.function_limit} leaves no function for each of the {n_blocks} "
            f"blocks; give at least {-(-n_blocks // len(wanted.elements))}"
        )
    for block, functions in by_block.items():
        ranks = [_power_rank(f) for f in functions]
        kept = sorted(range(len(functions)), key=ranks.__getitem__)[:quota]  # stable: ties in file order
        by_block[block] = [functions[k] for k in sorted(kept)]


def _power_rank(f: BasisFunction) -> int:
    return f.rank + sum(f.ns) + sum(f.ls)


def _randomise(
    by_block: dict[tuple[str, ...], list[BasisFunction]], wanted: Description, rng: np.random.Generator
) -> None:
    for block in sorted(by_block):
        if wanted.functions[block].coefs_init != "random":
            continue
        values = rng.normal(scale=_RANDOM_SCALE, size=(len(by_block[block]), wanted.species[block[0]].n_density))
        by_block[block] = [
            BasisFunction(f.mu0, f.mus, f.ns, f.ls, f.lint, tuple(c)) for f, c in zip(by_block[block], values.tolist())
        ]
