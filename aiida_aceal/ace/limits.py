"""What a potential may ask for: beyond these bounds a number is a slip of the pen, and evaluation would never end."""

from __future__ import annotations

import math

from aiida_aceal.common.errors import AceError

#: Angstrom. Usual cutoffs are 4 to 12.
MAX_CUTOFF = 30.0
#: Largest angular momentum. Usual ones are up to 8.
MAX_L = 30
#: Radial functions of a pair: nradmax * (lmax + 1) * nradbase.
MAX_RADIAL = 2_000_000
#: Combinations of m of one product, before the sum rule.
MAX_COMBINATIONS = 2_000_000
#: The same, over all products of one order of a basis that is built (rank 4 with l to 8, rank 6 with l to 3).
MAX_COUPLING_WORK = 5_000_000
#: Largest size of any coefficient or parameter: its products must stay finite.
MAX_NUMBER = 1e100


def check_cutoff(where: str, rcut: float) -> None:
    """AceError beyond `MAX_CUTOFF`, with the number of neighbours an atom would have."""
    if not rcut <= MAX_CUTOFF:
        count = 0.08 * 4.0 / 3.0 * math.pi * rcut**3
        raise AceError(
            f"{where}: a cutoff of {rcut:g} A gives an atom of a metal about {count:.0e} neighbours; "
            f"at most {MAX_CUTOFF:g} A are allowed"
        )


def check_radial_size(where: str, nradmax: int, lmax: int, nradbase: int) -> None:
    """AceError if the radial coefficients of a pair would be too many, or none."""
    if min(nradmax, nradbase) < 0 or lmax < 0:
        raise AceError(f"{where}: nradmax={nradmax}, lmax={lmax}, nradbase={nradbase} must not be negative")
    if lmax > MAX_L:
        raise AceError(f"{where}: lmax={lmax}, at most {MAX_L} is allowed: each l has 2 l + 1 functions")
    size = nradmax * (lmax + 1) * nradbase
    if size > MAX_RADIAL:
        raise AceError(
            f"{where}: nradmax={nradmax}, lmax={lmax}, nradbase={nradbase} make {size:.1e} radial coefficients, "
            f"at most {MAX_RADIAL:.0e} are allowed"
        )


def check_coupling(ls: tuple[int, ...]) -> None:
    """AceError if the product of these angular momenta has too many combinations of m."""
    count = math.prod(2 * l + 1 for l in ls[:-1])
    if count > MAX_COMBINATIONS:
        raise AceError(
            f"a product with l = {list(ls)} has about {count:.0e} combinations of m, at most {MAX_COMBINATIONS:.0e} "
            "are allowed; lower lmax or leave out the highest order"
        )


def check_count(where: str, members: int, rank: int, nmax: int, lmax: int, limit: int) -> None:
    """AceError if functions of one order are certainly more than ``limit``; ``members``: kinds of neighbours."""
    radial = math.comb(members * nmax + rank - 1, rank)
    least = radial * (lmax + 1 if rank == 2 else 1)
    if lmax > MAX_L or least > limit:
        raise AceError(
            f"{where}: nradmax={nmax} and lmax={lmax} of order {rank} ask for about {least:.1e} functions or more; "
            f"at most {limit} functions and lmax {MAX_L} are allowed"
        )
    work = math.comb(lmax + rank, rank) * (2 * lmax + 1) ** (rank - 1)
    if rank > 2 and work > MAX_COUPLING_WORK:
        raise AceError(
            f"{where}: lmax={lmax} of order {rank} asks for couplings of about {work:.0e} combinations of m, at most "
            f"{MAX_COUPLING_WORK:.0e} are allowed; lower lmax_by_orders of the high orders"
        )
