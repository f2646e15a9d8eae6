"""Building local active sets: clusters of environments by k-means or by groups, and one search for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.memory import parse_memory

from .active_rows import FLOOR, RANK_TOLERANCE
from .build import Progress, check_kind, first_structures, run_search
from .local import Classifier, LocalActiveSet
from .maxvol import TOLERANCE, check_numbers
from .sources import Rows, natural_scale, unpack

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_aceal.ace import AceModel

_FEATURES = 24
_SAMPLE = 40000


def group_names(structures: Iterable[Atoms], key: str) -> list[str]:
    """The value of an info entry of each structure, as the name of its group; AceError if one has no such entry."""
    found = []
    for index, atoms in enumerate(structures):
        if key not in atoms.info:
            raise AceError(f"structure {index} has no info entry {key!r}; it has {sorted(atoms.info)}")
        found.append(str(atoms.info[key]))
    return found


class _ClusteredRows:
    """Rows of each element and, again, of each of its clusters under the name ``element/cluster``.

    An environment belongs to the cluster of its group, if it has one, and to that of the classifier: it will be graded
    there, and must be within the tolerance.
    """

    def __init__(
        self, source: Rows, classifiers: dict[str, Classifier], of_group: dict[str, Any], counts: dict[str, int]
    ) -> None:
        self.source = source
        self.classifiers = classifiers
        self.of_group = of_group
        self.columns = dict(source.columns)
        for el, n in counts.items():
            self.columns.update({f"{el}/{c}": source.columns[el] for c in range(n)})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def __iter__(self) -> Iterator[dict[str, tuple[np.ndarray, np.ndarray]]]:
        for chunk in self.source:
            parts = dict(chunk)
            for el, (rows, labels) in chunk.items():
                cluster = self.classifiers[el](rows)
                group = self.of_group[el](labels) if el in self.of_group else cluster
                for c in np.union1d(cluster, group):
                    mine = (cluster == c) | (group == c)
                    parts[f"{el}/{c}"] = (rows[mine], labels[mine])
            yield parts


def build_local_active_set(
    model: AceModel,
    structures: Iterable[Atoms],
    kind: str = "linear",
    *,
    clusters: int = 8,
    groups: Sequence[str] | None = None,
    definition: str = "minimum",
    switch: float | None = None,
    tolerance: float = TOLERANCE,
    memory: str | float = "2GiB",
    floor: float = FLOOR,
    rank_tolerance: float = RANK_TOLERANCE,
    emptiness: bool = True,
    max_passes: int = 20,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> LocalActiveSet:
    """Active sets of clusters of environments, and the global one.

    :param clusters: number of clusters of each element, found by k-means on principal components of the rows.
    :param groups: name of the group of each structure instead: its environments make up one cluster of each element;
        new environments are assigned by linear discriminant analysis. An environment of the training set that it
        assigns to another cluster than that of its group belongs to both.
    :param definition, switch: see :class:`LocalActiveSet`.
    :param tolerance, memory, floor, rank_tolerance, emptiness, max_passes, seed, threads, progress: as for
        ``build_active_set``. Emptiness is that of all environments of an element, not of a cluster.
    :raises AceError: bad arguments, no structure.
    """
    check_numbers(tolerance, floor, rank_tolerance)
    check_kind(model, kind)
    if clusters < 1:
        raise AceError(f"clusters = {clusters} must be at least 1")
    budget = parse_memory(memory)
    source = Rows(model, structures, kind, budget * 0.05)
    scale = natural_scale(model, first_structures(structures), kind, seed)
    group_names = sorted(set(groups)) if groups is not None else []
    of_structure = np.searchsorted(group_names, groups) if groups is not None else None
    samples = _sample(source, seed, int(budget * 0.2), of_structure)
    classifiers, of_group, names = {}, {}, {}
    for el, (rows, labels) in samples.items():
        transform, mean = _components(rows, scale[el])
        features = rows @ transform - mean
        if groups is None:
            classifier = Classifier.from_centres(transform, mean, _centres(features, clusters, seed))
            names[el] = [str(c) for c in range(len(classifier.offsets))]
        else:
            present = np.unique(of_structure[unpack(labels)[:, 0]])
            classifier = _discriminant(transform, mean, features, of_structure[unpack(labels)[:, 0]], present)
            names[el] = [group_names[g] for g in present]
            of_group[el] = lambda x, present=present: np.searchsorted(present, of_structure[unpack(x)[:, 0]])
        classifiers[el] = classifier
    del samples
    counts = {el: len(names[el]) for el in classifiers}
    clustered = _ClusteredRows(source, classifiers, of_group, counts)
    scales = {key: scale[key.split("/")[0]].copy() for key in clustered.columns}
    found, extra = run_search(
        clustered, scales, budget, tolerance=tolerance, floor=floor, rank_tolerance=rank_tolerance,
        max_passes=max_passes, seed=seed, threads=threads, progress=progress, emptiness=emptiness,
    )  # fmt: skip
    if not emptiness:
        extra["emptiness"] = False
    return LocalActiveSet(
        {el: found[el] for el in model.elements},
        {el: [found[f"{el}/{c}"] for c in range(n)] for el, n in counts.items()},
        classifiers, kind, definition=definition, switch=switch, names=names,
        tolerance=tolerance, floor=floor, extra=extra,
    )  # fmt: skip


def _sample(
    source: Rows, seed: int, limit_bytes: int, of_structure: np.ndarray | None = None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A uniform sample of rows of each element, bounded in number and bytes; of groups, as many rows of each.

    A group that is small must not be missed: it is the one that local sets are made for.
    """
    rng = np.random.default_rng(seed)
    held: dict[tuple[str, int], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    n_groups = 1 if of_structure is None else int(of_structure.max(initial=0)) + 1
    for chunk in source:
        if of_structure is not None and source.n_structures > len(of_structure):
            break
        for el, (rows, labels) in chunk.items():
            most = max(1000, min(_SAMPLE, limit_bytes // (16 * rows.shape[1] * len(source.columns))))
            most = max(2 * _FEATURES, most // n_groups)
            group = np.zeros(len(rows), np.int64) if of_structure is None else of_structure[unpack(labels)[:, 0]]
            keys = rng.random(len(rows))
            for g in np.unique(group):
                new = tuple(x[group == g] for x in (rows, labels, keys))
                if (el, g) in held:
                    new = tuple(np.concatenate(pair) for pair in zip(held[el, g], new))
                if len(new[0]) > most:
                    kept = np.sort(np.argpartition(new[2], most)[:most])
                    new = tuple(x[kept] for x in new)
                held[el, g] = new
    if of_structure is not None and len(of_structure) != source.n_structures:
        raise AceError(
            f"{len(of_structure)} groups were given for {source.n_structures} structures or more; each needs one"
        )
    found = {}
    for el in sorted({el for el, _ in held}):
        parts = [held[key][:2] for key in sorted(held) if key[0] == el]
        found[el] = tuple(np.concatenate(x) for x in zip(*parts))
    return found


def _components(rows: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of standardised rows: (transform [K, D], mean [D])."""
    spread = rows.std(axis=0)
    unit = np.where(spread > 1e-9 * np.maximum(scale, np.finfo(float).tiny), spread, np.inf)
    centre = rows.mean(axis=0)
    standard = (rows - centre) / unit
    values, vectors = np.linalg.eigh(standard.T @ standard)
    order = np.argsort(values)[::-1][: min(_FEATURES, len(values))]
    transform = vectors[:, order] / unit[:, None]
    return transform, centre @ transform


def _centres(features: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    distinct = len(np.unique(features.round(9), axis=0))
    return KMeans(min(clusters, distinct), n_init=4, random_state=seed).fit(features).cluster_centers_


def _discriminant(
    transform: np.ndarray, mean: np.ndarray, features: np.ndarray, group: np.ndarray, present: np.ndarray
) -> Classifier:
    """Linear discriminant analysis with equal priors, so that small groups are not swallowed by large ones."""
    centres = np.array([features[group == g].mean(axis=0) for g in present])
    inside = features - centres[np.searchsorted(present, group)]
    covariance = inside.T @ inside / max(1, len(features) - len(present))
    covariance[np.diag_indices(len(covariance))] += 1e-6 * max(covariance.trace() / len(covariance), 1e-300)
    weights = np.linalg.solve(covariance, centres.T)
    return Classifier(transform, mean, weights, -0.5 * (centres.T * weights).sum(axis=0))
