"""An active set as a node: the ``.asi`` that ML-PACE reads, and what is known about it."""

from __future__ import annotations

import io
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from aiida.common.exceptions import ValidationError
from aiida.orm import SinglefileData

from aiida_aceal.ace import AceError
from aiida_aceal.common.archives import check_inverse, read_arrays
from aiida_aceal.data.hashing import StoredHashCaching
from aiida_aceal.data.potential import AcePotentialData

if TYPE_CHECKING:
    from aiida_aceal.uncertainty import ActiveSet

_REPORT = "report.json"
_ENVIRONMENTS = "environments.json"
_LOCAL = "local.npz"


class ActiveSetData(SinglefileData):
    """Inverse active sets, one square matrix per element, in the ``.asi`` format (``numpy.savez``, not compressed).

    ``ActiveSetData(file=path or open file, report=dict, potential=AcePotentialData, structures=hashes)``

    Attributes: ``elements``, ``sizes`` (rows per element), ``kind`` (``linear`` or ``full``); as far as the report
    has them ``rank``, ``log_volume``, ``max_gamma``, ``n_environments``, ``floor_rows`` per element and
    ``tolerance``, ``tolerance_reached``, ``converged``; ``basis_hash`` and ``potential_hash`` of the potential it was
    made for. The whole report and the list of environments are files in the repository.

    A local active set (one for each cluster of environments) is kept whole in :attr:`local_filename` beside the
    ``.asi`` of its global part, with the attribute ``local``: definition, switch, number of clusters per element.
    """

    _CLS_NODE_CACHING = StoredHashCaching

    DEFAULT_FILENAME = "active_set.asi"

    def __init__(
        self,
        file: str | Path | BinaryIO | None = None,
        report: Mapping[str, Any] | None = None,
        potential: AcePotentialData | None = None,
        structures: Sequence[str] | None = None,
        filename: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Make an unstored node.

        :param file: path of an ``.asi`` or of the file of a local active set, or an open binary file.
        :param report: what the builder reported (``ActiveSet.report()``); default: what the file says of itself.
        :param potential: the potential it was made for; its elements and sizes are checked.
        :param structures: content hash of each structure that the report counts, so that the environments can be
            found again in the graph; default: the identifiers in the report.
        :raises AceError: no such file, no ``.asi``, or it does not fit the potential.
        """
        super().__init__(**kwargs)
        if file is None:
            return
        self.set_file(file, filename=filename)
        if potential is not None:
            self._set_potential(potential)
        report = dict(report) if report is not None else _own_report(self, potential)
        for name, content in ((_REPORT, report), (_ENVIRONMENTS, _environments(report, structures))):
            text = json.dumps(_plain(content)).encode()
            self.base.repository.put_object_from_filelike(io.BytesIO(text), name)
        self.base.attributes.set_many(_digest(report, self.elements))

    @classmethod
    def from_active_set(
        cls, active_set: Any, potential: AcePotentialData, structures: Sequence[str] | None = None
    ) -> ActiveSetData:
        """Unstored node of an ``ActiveSet`` in memory."""
        from aiida_aceal.uncertainty.equal_densities import with_equal_densities

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / cls.DEFAULT_FILENAME
            equal = with_equal_densities(active_set, potential.n_functions, potential.n_densities)
            equal.save(path)
            return cls(file=path, report=active_set.report(), potential=potential, structures=structures)

    def set_file(self, file: str | Path | BinaryIO, filename: str | None = None, **kwargs: Any) -> None:
        """Store an ``.asi`` after checking that its arrays are what ML-PACE can read."""
        if isinstance(file, (str, Path)):
            path = Path(file).resolve()
            if not path.is_file():
                raise AceError(f"{path}: no such file")
            source, content = str(path), path.read_bytes()
        else:
            source, content = str(getattr(file, "name", "active set")), file.read()
        whole, facts, content = _global_part(content)
        sizes = _check_asi(content, source)
        super().set_file(io.BytesIO(content), filename=filename or self.DEFAULT_FILENAME)
        self.base.attributes.set_many({"elements": sorted(sizes), "sizes": sizes})
        if whole is not None:
            self.base.repository.put_object_from_filelike(io.BytesIO(whole), _LOCAL)
            self.base.attributes.set("local", facts)

    def _set_potential(self, potential: AcePotentialData) -> None:
        self.base.attributes.set_many(
            {
                "kind": _match(self.elements, self.sizes, potential),
                "basis_hash": potential.base.attributes.get("basis_hash"),
                "potential_hash": potential.base.attributes.get("potential_hash"),
            }
        )

    def check_potential(self, potential: AcePotentialData) -> str | None:
        """Why this active set does not belong to ``potential``; ``None`` if it does.

        A linear set fits every potential of the same basis; a full one only the coefficients it was made with.
        """
        known = self.base.attributes.all
        if "basis_hash" not in known:
            try:
                _match(self.elements, self.sizes, potential)
            except AceError as error:
                return str(error)
            return None
        if known["basis_hash"] != potential.base.attributes.get("basis_hash"):
            sizes = ", ".join(f"{el} {n}" for el, n in self.sizes.items())
            functions = ", ".join(f"{el} {n}" for el, n in potential.n_functions.items())
            return (
                f"the active set was made for another potential (its rows: {sizes}; functions of this potential: "
                f"{functions}; the bases differ): build an active set for this potential"
            )
        if self.kind == "full" and known["potential_hash"] != potential.base.attributes.get("potential_hash"):
            return (
                "the full (nonlinear) active set was made with other coefficients: build it anew for this potential, "
                "or use the linear one"
            )
        return None

    @property
    def content(self) -> bytes:
        """Bytes of the ``.asi``."""
        return self.get_content(mode="rb")

    @contextmanager
    def as_file(self) -> Iterator[Path]:
        """The ``.asi`` as a file for the duration of the context."""
        with self.as_path() as path:
            yield path

    @property
    def local(self) -> dict[str, Any] | None:
        """``definition``, ``switch`` and ``clusters`` (number per element) of a local active set, else ``None``."""
        return self.base.attributes.get("local", None)

    @property
    def local_filename(self) -> str | None:
        """Repository file with the whole local active set; ``None`` if there is the global one only."""
        return _LOCAL if self.local is not None else None

    @property
    def grading_filename(self) -> str:
        """Repository file that our own programs grade by: the local set where there is one, else the ``.asi``."""
        return self.local_filename or self.filename

    def get_active_set(self, potential: AcePotentialData | None = None) -> ActiveSet:
        """The active set in memory, local or not."""
        from aiida_aceal.uncertainty import ActiveSet

        engine = None if potential is None else potential.get_potential()
        with self.base.repository.as_path(self.grading_filename) as path:
            return ActiveSet.load(path, potential=engine)

    def get_inverses(self) -> dict[str, np.ndarray]:
        """Inverse active set of each element, [M, M]: rows functions, columns environments."""
        arrays = read_arrays(self.content, f"{type(self).__name__}<{self.pk or self.uuid}>").arrays
        return {name: arrays[name] for name in self.elements}

    @property
    def elements(self) -> list[str]:
        """Elements, sorted."""
        return list(self.base.attributes.get("elements"))

    @property
    def sizes(self) -> dict[str, int]:
        """Rows (= columns) per element."""
        return dict(self.base.attributes.get("sizes"))

    @property
    def kind(self) -> str:
        """``linear`` (rows B) or ``full`` (rows dE/dc)."""
        return self.base.attributes.get("kind")

    @property
    def rank(self) -> dict[str, int]:
        """Numerical rank per element; less than the size if the data do not span the basis."""
        return dict(self.base.attributes.get("rank", {}))

    @property
    def log_volume(self) -> dict[str, float]:
        """log |det A| per element."""
        return dict(self.base.attributes.get("log_volume", {}))

    @property
    def report(self) -> dict[str, Any]:
        """Everything the builder reported."""
        return json.loads(self.base.repository.get_object_content(_REPORT))

    @property
    def environments(self) -> dict[str, list]:
        """element -> list of [content hash of the configuration, index of the atom], as far as known."""
        return json.loads(self.base.repository.get_object_content(_ENVIRONMENTS))

    def _prepare_asi(self, main_file_name: str = "") -> tuple[bytes, dict]:
        return self.content, {}

    def _validate(self) -> None:
        # not SinglefileData._validate: that one allows a single file
        super(SinglefileData, self)._validate()
        names = self.base.repository.list_object_names()
        if "sizes" not in self.base.attributes.all or self.filename not in names:
            raise ValidationError("no active set was given: use ActiveSetData(file=...)")
        if "kind" not in self.base.attributes.all:
            self.base.attributes.set("kind", "linear")


def _match(elements: Sequence[str], sizes: Mapping[str, int], potential: AcePotentialData) -> str:
    """Kind of the set if its elements and sizes fit the potential; raises AceError if they do not."""
    functions, densities = potential.n_functions, potential.n_densities
    if list(elements) != potential.elements:
        raise AceError(
            f"the active set is for {', '.join(elements)}, the potential for {', '.join(potential.elements)}"
        )
    kinds = set()
    most = max(densities.values())
    for element, size in sizes.items():
        linear, full = functions[element], functions[element] * densities[element]
        if size not in (linear, full, functions[element] * most):
            raise AceError(
                f"the active set has {size} rows for {element}, but the potential has {linear} functions "
                f"and {densities[element]} densities: it belongs to another potential"
            )
        # with one density both have the same size, and the other elements decide
        if linear != full or size != linear:
            kinds.add("linear" if size == linear else "full")
    if len(kinds) > 1:
        raise AceError("the active set mixes linear and full sizes: it belongs to another potential")
    return kinds.pop() if kinds else "linear"


def _check_asi(content: bytes, source: str) -> dict[str, int]:
    """Size per element; raises AceError unless C-ordered float64 squares without compression, all finite."""
    arrays, _, packed = read_arrays(content, source)
    if not arrays:
        raise AceError(f"{source}: the .asi file holds no element")
    for name, values in arrays.items():
        if values.ndim != 2 or values.shape[0] != values.shape[1] or values.dtype != np.float64:
            raise AceError(f"{source}: the array of {name} is {values.dtype} {values.shape}, expected a float64 square")
        if not values.flags.c_contiguous and values.shape[0] > 1:
            raise AceError(f"{source}: the array of {name} is in Fortran order, which ML-PACE reads as its transpose")
        check_inverse(values, f"{source}: the array of {name}")
    if packed:
        raise AceError(f"{source}: compressed, which ML-PACE cannot read; write it with numpy.savez")
    return {name: int(values.shape[0]) for name, values in arrays.items()}


def _own_report(node: ActiveSetData, potential: AcePotentialData | None) -> dict[str, Any]:
    """What the file says of itself; nothing but sizes and volume if another code wrote it."""
    return node.get_active_set(potential).report()


def _global_part(content: bytes) -> tuple[bytes | None, dict[str, Any], bytes]:
    """A local active set: (content, facts, ``.asi`` of its global part); else (None, no facts, content)."""
    from aiida_aceal.uncertainty.local import is_local_file, load_local

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _LOCAL
        path.write_bytes(content)
        if not is_local_file(path):
            return None, {}, content
        local = load_local(path)
        local.global_set().save(path.with_suffix(".asi"))
        clusters = {element: len(parts) for element, parts in local.clusters.items()}
        facts = {"definition": local.definition, "switch": local.switch, "clusters": clusters}
        return content, facts, path.with_suffix(".asi").read_bytes()


def _environments(report: Mapping[str, Any], structures: Sequence[str] | None) -> dict[str, list]:
    """element -> [[content hash or None, atom], ...] of the active rows."""
    result = {}
    for element, facts in dict(report.get("elements") or {}).items():
        places = facts.get("active_environments") or []
        names = list(facts.get("identifiers") or [])
        names += [""] * (len(places) - len(names))
        rows = []
        for (structure, atom), name in zip(places, names):
            if structures is not None and 0 <= structure < len(structures):
                name = structures[structure]
            rows.append([name or None, int(atom)])
        result[element] = rows
    return result


def _digest(report: Mapping[str, Any], elements: Sequence[str]) -> dict[str, Any]:
    """The queryable part of a report."""
    result: dict[str, Any] = {}
    facts = dict(report.get("elements") or {})
    names = {"rank": "rank", "log_volume": "log_volume", "max_gamma": "max_gamma", "floor_rows": "floor_rows"}
    for name, key in {**names, "n_environments": "environments"}.items():
        found = {element: _number(facts[element][key]) for element in elements if key in facts.get(element, {})}
        if found:
            result[name] = found
    for name in ("tolerance", "tolerance_reached"):
        if name in report:
            result[name] = _number(report[name])
    if isinstance(report.get("converged"), bool):
        result["converged"] = report["converged"]
    if report.get("kind") in ("linear", "full"):
        result["kind"] = report["kind"]
    return result


def _number(value: Any) -> Any:
    """Number for the data base, which knows no nan or inf."""
    if isinstance(value, (np.generic, float, int)):
        value = value.item() if isinstance(value, np.generic) else value
        return value if math.isfinite(value) else None
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    return value.item() if isinstance(value, np.generic) else value
