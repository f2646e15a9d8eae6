"""Selection strategies without matrices: random, uncertainty, diversity, hybrid, viability."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from scipy.special import erf

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import Settings, build, setting

from .base import Pick, Pool
from .reference import ReferenceStatistics

Clusters = Annotated[
    int | None, setting(help="Number of clusters; by default a tenth of the number of structures wanted.", ge=1)
]
Weight = Annotated[float, setting(help="Weight of the uncertainty against the distance.", ge=0, le=1)]


def random(pool: Pool, wanted: int, rng: np.random.Generator) -> Iterator[Pick]:
    """Uniform, without replacement: the baseline."""
    for rank, index in enumerate(rng.permutation(len(pool))):
        yield Pick(int(index), 1.0 - rank / len(pool), "drawn at random")


def uncertainty(pool: Pool, wanted: int, rng: np.random.Generator) -> Iterator[Pick]:
    """Largest uncertainty first (gamma, or the indicator of an ensemble)."""
    values = pool.uncertainty
    for index in np.argsort(-values, kind="stable"):
        why = f"{pool.uncertainty_name} {values[index]:.4g}{pool.why(int(index))}"
        yield Pick(int(index), float(values[index]), why)


def diversity(pool: Pool, wanted: int, rng: np.random.Generator, clusters: Clusters = None) -> Iterator[Pick]:
    """k-means on structure descriptors, then farthest points inside the clusters, one cluster after the other.

    :param clusters: number of clusters (default: a tenth of what is wanted, at least 2).
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    X = pool.descriptors
    k = min(len(pool), clusters if clusters is not None else max(2, wanted // 10))
    if k < 1:
        raise AceError(f"clusters = {clusters} must be at least 1")
    method = KMeans if len(pool) <= 20000 else MiniBatchKMeans
    distinct = len(np.unique(X.round(9), axis=0)) if len(pool) <= 20000 else k
    fit = method(n_clusters=min(k, distinct), n_init=3, random_state=int(rng.integers(2**31))).fit(X)
    members = [np.flatnonzero(fit.labels_ == c) for c in range(fit.n_clusters)]
    members = sorted((m for m in members if len(m)), key=lambda m: (-len(m), m[0]))
    streams = [(c, _farthest(X, m, fit.cluster_centers_[fit.labels_[m[0]]])) for c, m in enumerate(members)]
    turn = 0
    while streams:
        alive = []
        for c, stream in streams:
            step = next(stream, None)
            if step is None:
                continue
            index, distance = step
            why = "nearest to its centre" if turn == 0 else f"distance {distance:.4g} from those chosen in it"
            yield Pick(index, distance, f"cluster {c}: {why}", turn)
            alive.append((c, stream))
        streams = alive
        turn += 1


def _farthest(X: np.ndarray, members: np.ndarray, centre: np.ndarray) -> Iterator[tuple[int, float]]:
    """Members of a cluster: the one nearest to the centre, then always the one farthest from those taken."""
    Y = X[members]
    first = int(np.argmin(((Y - centre) ** 2).sum(axis=1)))
    yield int(members[first]), float(np.sqrt(((Y - centre) ** 2).sum(axis=1).max()))
    nearest = _distances(Y, first)
    nearest[first] = -1.0
    for _ in range(len(members) - 1):
        k = int(np.argmax(nearest))
        yield int(members[k]), float(nearest[k])
        np.minimum(nearest, _distances(Y, k), out=nearest)
        nearest[k] = -1.0


def _distances(X: np.ndarray, k: int, block: int = 4096) -> np.ndarray:
    """[N] distances of all rows to row k; no copy of X is made, which may be hundreds of megabytes."""
    out = np.empty(len(X))
    for start in range(0, len(X), block):
        difference = X[start : start + block] - X[k]
        out[start : start + block] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return out


def hybrid(pool: Pool, wanted: int, rng: np.random.Generator, weight: Weight = 0.5) -> Iterator[Pick]:
    """Uncertainty and diversity combined: ``weight * u + (1 - weight) * d``, chosen one by one.

    ``u`` is the rank of the uncertainty scaled to [0, 1] (ranks, because gamma spans decades), ``d`` the distance to
    the nearest chosen structure relative to the largest such distance.
    """
    if not 0.0 <= weight <= 1.0:
        raise AceError(f"weight = {weight} must lie in [0, 1]: it is the share of the uncertainty in the score")
    X, values = pool.descriptors, pool.uncertainty
    u = np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(1, len(pool) - 1)
    nearest = np.full(len(pool), np.inf)
    free = np.ones(len(pool), dtype=bool)
    for _ in range(len(pool)):
        far = nearest[free].max()
        d = np.ones(len(pool)) if not np.isfinite(far) else nearest / max(far, 1e-300)
        score = np.where(free, weight * u + (1.0 - weight) * np.minimum(d, 1.0), -np.inf)
        k = int(np.argmax(score))
        yield Pick(
            k,
            float(score[k]),
            f"{pool.uncertainty_name} {values[k]:.4g}{pool.why(k)} (rank {u[k]:.3f}), distance {min(d[k], 1):.3f}",
        )
        free[k] = False
        np.minimum(nearest, _distances(X, k), out=nearest)


class ViabilityRule(Settings):
    """Numbers of the viability rule, see :func:`viability_probability`."""

    heading = "Strategy viability: `options`"

    shift: float = setting(2.0, "Where an uncertainty becomes likely, in spreads above the mean of the reference.")
    gradient: float = setting(1.0, "How wide the step is there.", gt=0)
    floor: float = setting(0.2, "Probability at the energy E + (a + b) sE.", gt=0, le=1)
    a: float = setting(1.0, "Up to E + a sE the energy does not count.")
    b: float = setting(0.8, "Width of the fall in energy, in spreads.", gt=0)


class ViabilityOptions(ViabilityRule):
    """Options of the strategy `viability`."""

    reference: dict[str, float] | None = setting(
        None, "U, sU (uncertainty), E, sE (eV/atom) in place of the training set; with atoms, sE is that of cells of "
        "so many atoms.",
    )  # fmt: skip


def viability_probability(
    u: np.ndarray, e: np.ndarray, reference: Mapping[str, Any], rule: ViabilityRule | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """P_U and P_E of the viability rule.

    ``P_U = (1 + erf((u - U - shift sU) / (gradient sU sqrt(0.2)))) / 2`` and
    ``P_E = min(1, floor ** ((e - E - a sE) / (b sE)))``: likely where the uncertainty is high, and never more likely
    with a higher energy (1 up to E + a sE, ``floor`` at E + (a + b) sE).

    :param u, e: uncertainty and potential energy of the candidates.
    :param reference: U, sU, E, sE: means and standard deviations over a reference set under the current model; numbers,
        or arrays with one entry for each candidate.
    """
    U, sU, E, sE = (np.asarray(reference[key], dtype=float) for key in ("U", "sU", "E", "sE"))
    if not (sU > 0).all() or not (sE > 0).all():
        raise AceError(
            f"the reference spread must be positive, found sU = {sU}, sE = {sE}: take a longer reference run"
        )
    rule = rule or ViabilityRule()
    p_u = 0.5 * (1.0 + erf((np.asarray(u) - U - rule.shift * sU) / (rule.gradient * sU * np.sqrt(0.2))))
    exponent = np.maximum((np.asarray(e) - E - rule.a * sE) / (rule.b * sE), 0.0)
    return p_u, rule.floor**exponent


def viability(
    pool: Pool, wanted: int, rng: np.random.Generator, reference: Mapping[str, float] | None = None, **parameters: float
) -> Iterator[Pick]:
    """Candidates in random order, each accepted with probability ``P_U P_E`` (see `viability_probability`).

    The reference is the training set under the current model. Its mean energy follows the composition, and the spread
    of energies per atom the number of atoms (`aiida_aceal.selection.reference`).

    :param reference: U, sU (uncertainty), E, sE (eV/atom) in place of the training set; with ``atoms``, sE is that of
        cells of so many atoms.
    :raises AceError: neither a reference set in the pool nor ``reference``.
    """
    rule = build(ViabilityRule, parameters, "viability")
    known = pool.reference if reference is None else ReferenceStatistics.from_numbers(reference)
    u, e = pool.uncertainty, pool.energies
    mean, spread = known.mean_energy(pool.structures), known.energy_spread(pool.sizes)
    p_u, p_e = viability_probability(u, e, {"U": known.U, "sU": known.sU, "E": mean, "sE": spread}, rule)
    pool.judged_by = known
    pool.notes.append(
        f"viability: {f'{known.n_structures} reference structures' if reference is None else 'given reference'}: "
        f"{pool.uncertainty_name} {known.U:.4g} +- {known.sU:.2g}; energies per atom spread by "
        f"{1000 * spread.min():.3g} to {1000 * spread.max():.3g} meV/atom at the candidates' {pool.sizes.max()} to "
        f"{pool.sizes.min()} atoms"
    )
    foreign = known.foreign_compositions(pool.structures)
    if foreign:
        pool.notes.append(
            f"viability: {foreign} of {len(pool)} candidates have compositions beyond those of the reference set: "
            "their mean energy was taken from the reference energies of the potential alone"
        )
    for line in pool.notes:
        pool.progress(line)
    for index in rng.permutation(len(pool)):
        draw = float(rng.random())
        p = float(p_u[index] * p_e[index])
        facts: dict[str, Any] = {
            "index": int(index), "P_U": float(p_u[index]), "P_E": float(p_e[index]), "draw": draw, "accepted": draw < p,
        }  # fmt: skip
        pool.log.append(facts)
        if draw < p:
            why = f"accepted: draw {draw:.3f} < P_U {p_u[index]:.3f} x P_E {p_e[index]:.3f}"
            yield Pick(int(index), p, why)


#: its options are declared by a model, as the rule is used elsewhere too
viability.settings = ViabilityOptions  # type: ignore[attr-defined]
