"""Local D-optimality: one active set for each cluster of environments.

On heterogeneous data one active set under-reports novelty: an environment between the extremes of very different
materials interpolates for the whole set but is unlike anything in it. Two definitions are in use: the smallest of the
clusters' grades, and the grade of the environment's own cluster; and the rule to use the local grade in
under-represented clusters only.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_aceal.common.archives import check_inverse, read_arrays, read_json
from aiida_aceal.common.atomic import open_whole
from aiida_aceal.common.errors import AceError, NotFiniteError

from .active_set import ActiveSet, register_format
from .asi import element_from_report, facts_of
from .element_set import ElementActiveSet

if TYPE_CHECKING:
    pass

DEFINITIONS = ("minimum", "own")
_FORMAT = "aceal-local-active-set-1"
_FEATURES = 24
_SAMPLE = 40000


class Classifier:
    """Which cluster an environment belongs to: the largest of linear scores of a few principal components.

    :ivar transform: [K, D], :ivar mean: [D], :ivar weights: [D, C], :ivar offsets: [C]:
        ``cluster = argmax((rows @ transform - mean) @ weights + offsets)``. The nearest centre of k-means and linear
        discriminant analysis are both of this form.
    """

    def __init__(self, transform: np.ndarray, mean: np.ndarray, weights: np.ndarray, offsets: np.ndarray) -> None:
        self.transform, self.mean, self.weights, self.offsets = transform, mean, weights, offsets

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """[N] int64 cluster of each row [N, K]."""
        return np.argmax((rows @ self.transform - self.mean) @ self.weights + self.offsets, axis=1)

    @classmethod
    def from_centres(cls, transform: np.ndarray, mean: np.ndarray, centres: np.ndarray) -> Classifier:
        """Nearest centre: ``|x - c|^2`` is smallest where ``x.c - c.c / 2`` is largest."""
        return cls(transform, mean, centres.T.copy(), -0.5 * (centres**2).sum(axis=1))


class LocalActiveSet(ActiveSet):
    """The global active set and those of the clusters; grades by them.

    :param sets: element -> the global set.
    :param clusters: element -> the sets of its clusters.
    :param classifiers: element -> :class:`Classifier`.
    :param definition: "minimum" over the clusters (no assignment needed) or the environment's "own" cluster.
    :param switch: None: always local. Else the local grade counts only in clusters with less than ``switch`` times
        their equal share of the environments, the global grade elsewhere.
    :param names: element -> name of each cluster.
    """

    def __init__(
        self,
        sets: dict[str, ElementActiveSet],
        clusters: dict[str, list[ElementActiveSet]],
        classifiers: dict[str, Classifier],
        kind: str = "linear",
        *,
        definition: str = "minimum",
        switch: float | None = None,
        names: dict[str, list[str]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(sets, kind, **options)
        if definition not in DEFINITIONS:
            raise AceError(f"definition = {definition!r} is unknown: choose {' or '.join(DEFINITIONS)}")
        if switch is not None and not switch > 0:
            raise AceError(f"switch = {switch} must be above 0: it is a part of the equal share of environments")
        self.clusters = clusters
        self.classifiers = classifiers
        self.definition = definition
        self.switch = switch
        self.names = names or {el: [str(i) for i in range(len(c))] for el, c in clusters.items()}

    def __repr__(self) -> str:
        parts = ", ".join(f"{el} {len(c)} clusters" for el, c in self.clusters.items())
        return f"<LocalActiveSet {self.kind}, {self.definition}: {parts}>"

    @property
    def inverses(self) -> dict[str, np.ndarray]:
        """None of its own: who looks for one inverse per element must call :meth:`grade` instead."""
        raise AttributeError("a local active set has no single inverse per element: use grade() or global_set()")

    @property
    def tolerance_reached(self) -> float:
        """Largest gamma of all environments that the sets were built from, in any of them."""
        parts = [s.tolerance_reached for sets in self.clusters.values() for s in sets]
        return max([super().tolerance_reached, *parts])

    def with_definition(self, definition: str, switch: float | None = None) -> LocalActiveSet:
        """The same sets, graded in another way."""
        return LocalActiveSet(
            self.sets, self.clusters, self.classifiers, self.kind, definition=definition, switch=switch,
            names=self.names, tolerance=self.tolerance, floor=self.floor, extra=self.extra,
        )  # fmt: skip

    def global_set(self) -> ActiveSet:
        """The global set alone, e.g. to write the ``.asi`` that ML-PACE reads."""
        return ActiveSet(self.sets, self.kind, tolerance=self.tolerance, floor=self.floor, extra=self.extra)

    def under_represented(self, element: str) -> np.ndarray:
        """[C] bool, the clusters where the switch rule uses the local grade (all without a rule)."""
        counts = np.array([s.n_environments for s in self.clusters[element]])
        if self.switch is None:
            return np.ones(len(counts), dtype=bool)
        return counts < self.switch * counts.sum() / len(counts)

    def grade(self, element: str, rows: np.ndarray) -> np.ndarray:
        """As :meth:`ActiveSet.grade`, by the definition and switch rule of this set."""
        everywhere = super().grade(element, rows)  # checks element and columns
        rows = np.ascontiguousarray(rows, dtype=np.float64)
        clusters = self.clusters.get(element, [])
        if not clusters:
            return everywhere
        cluster = self.classifiers[element](rows)
        local = np.full(len(rows), np.inf)
        for c, part in enumerate(clusters):
            mine = np.ones(len(rows), dtype=bool) if self.definition == "minimum" else cluster == c
            if mine.any():
                grades = ActiveSet({element: part}, self.kind).grade(element, rows[mine])
                local[mine] = np.minimum(local[mine], grades)
        return np.where(self.under_represented(element)[cluster], local, everywhere)

    def report(self) -> dict[str, Any]:
        """As :meth:`ActiveSet.report`, and the clusters of each element."""
        report = super().report()
        report["local"] = {
            "definition": self.definition,
            "switch": self.switch,
            "clusters": {
                el: [
                    {
                        "name": name,
                        "environments": s.n_environments,
                        "rank": s.rank,
                        "log_volume": s.log_volume,
                        "max_gamma": float(s.tolerance_reached) if np.isfinite(s.tolerance_reached) else None,
                        "under_represented": bool(under),
                        "active_environments": s.environments.tolist(),
                    }
                    for name, s, under in zip(self.names[el], parts, self.under_represented(el))
                ]
                for el, parts in self.clusters.items()
            },
        }
        return report

    def save(self, path: str | Path) -> None:
        """Write everything into one ``.npz`` of plain arrays. ML-PACE cannot read it: see :meth:`global_set`."""
        arrays: dict[str, np.ndarray] = {"meta": np.frombuffer(_meta(self.report()), dtype=np.uint8)}
        for el, s in self.sets.items():
            arrays[f"global/{el}"] = s.inverse
        for el, parts in self.clusters.items():
            classifier = self.classifiers[el]
            for name in ("transform", "mean", "weights", "offsets"):
                arrays[f"classifier/{el}/{name}"] = getattr(classifier, name)
            for c, s in enumerate(parts):
                arrays[f"cluster/{el}/{c}"] = s.inverse
        with open_whole(path, "wb") as handle:
            np.savez(handle, **arrays)


def _meta(report: dict[str, Any]) -> bytes:
    return json.dumps({"format": _FORMAT, **report}, allow_nan=False).encode()


def is_local_file(path: str | Path) -> bool:
    """Whether a file was written by :meth:`LocalActiveSet.save`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "meta.npy" in archive.namelist()
    # zipfile raises many types (NotImplementedError for a later version of zip); the reader says what is wrong
    except Exception:
        return False


def load_local(path: str | Path, potential: Any = None, kind: str | None = None) -> LocalActiveSet:
    """Read what :meth:`LocalActiveSet.save` wrote (``ActiveSet.load`` calls this for such files)."""
    arrays = read_arrays(path).arrays
    with facts_of(path):
        report = read_json(arrays["meta"].tobytes(), str(path))
        if report.pop("format") != _FORMAT:
            raise ValueError("unknown format")
        local = report.pop("local")
        sets = {el: _element(arrays, f"global/{el}", facts, path) for el, facts in report["elements"].items()}
        clusters = {
            el: [_element(arrays, f"cluster/{el}/{c}", facts, path) for c, facts in enumerate(parts)]
            for el, parts in local["clusters"].items()
        }
        classifiers = {el: _classifier(arrays, el, len(sets[el].inverse), len(clusters[el])) for el in clusters}
        names = {el: [str(facts["name"]) for facts in parts] for el, parts in local["clusters"].items()}
        switch = None if local["switch"] is None else float(local["switch"])
        tolerance, floor = (float("nan") if report[k] is None else float(report[k]) for k in ("tolerance", "floor"))
        definition, found = str(local["definition"]), str(report["kind"])
    if kind is not None and kind != found:
        raise AceError(f"{path} holds a {found} active set, but a {kind} one is asked for")
    standard = {"kind", "tolerance", "tolerance_reached", "converged", "floor", "elements"}
    result = LocalActiveSet(
        sets, clusters, classifiers, found, definition=definition, switch=switch,
        names=names,
        tolerance=tolerance, floor=floor,
        extra={key: value for key, value in report.items() if key not in standard},
    )  # fmt: skip
    if potential is not None:
        result.check(potential, str(path))
    return result


def _element(arrays: dict[str, np.ndarray], name: str, facts: dict[str, Any], path: str | Path) -> ElementActiveSet:
    return element_from_report(check_inverse(arrays[name], f"{path}: the array {name}"), facts)


def _classifier(arrays: dict[str, np.ndarray], element: str, n_functions: int, n_clusters: int) -> Classifier:
    parts = [arrays[f"classifier/{element}/{name}"] for name in ("transform", "mean", "weights", "offsets")]
    dimensions = parts[1].size
    shapes = [(n_functions, dimensions), (dimensions,), (dimensions, n_clusters), (n_clusters,)]
    for part, shape in zip(parts, shapes):
        if part.shape != shape or part.dtype.kind != "f":
            raise ValueError(f"the classifier of {element} must have numbers of the shapes {shapes}")
        if not np.isfinite(part).all():
            raise NotFiniteError(f"the classifier of {element} holds NaN or infinity: rebuild the active set")
    return Classifier(*parts)


def local_file_of(asi: str | Path) -> Path:
    """Where the local set that goes with an ``.asi`` lies: beside it, so that one deck names both."""
    return Path(f"{asi}.local")


def load_with_local(asi: str | Path, potential: Any = None) -> ActiveSet:
    """The active set of an ``.asi``; the local one if it lies beside it (:func:`local_file_of`).

    :raises AceError: the global part of the local set is not what the ``.asi`` holds.
    """
    active_set = ActiveSet.load(asi, potential=potential)
    path = local_file_of(asi)
    if isinstance(active_set, LocalActiveSet) or not path.is_file():
        return active_set
    local = load_local(path, potential)
    same = local.elements == active_set.elements and all(
        np.array_equal(local.sets[el].inverse, active_set.sets[el].inverse) for el in active_set.sets
    )
    if local.kind != active_set.kind or not same:
        raise AceError(f"{path} belongs to another active set than {asi}: remove it, or write both anew")
    return local


register_format(is_local_file, load_local)
