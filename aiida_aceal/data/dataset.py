"""Many configurations of different sizes in one node: flat arrays, optional labels, an identity for each.

One node per set and not one ``StructureData`` per frame, because a frame costs 24 ms and 4 kB of data base as a node of
its own, and nothing here. Arrays are flat over all atoms with ``offsets``, so that reading 10 000 frames takes 0.1 s.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from aiida.common.exceptions import ValidationError
from aiida.orm import ArrayData
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.data import chemical_symbols

from aiida_aceal.common.atomic import open_whole
from aiida_aceal.common.configurations import check_configuration, configuration_hash, format_extxyz, get_labels
from aiida_aceal.data.hashing import StoredHashCaching

_INFOS = "infos.json"
_EXTRA = "atom_"
#: info entries that are made anew by every node
_OWN_KEYS = ("aceal_hash",)


class ConfigurationsData(ArrayData):
    """Configurations with optional labels, for training sets, candidates, pools and test sets.

    Arrays (n configurations, N atoms in all; ``offsets[i]:offsets[i + 1]`` are the atoms of configuration i):

    =============  ==========  ====================================================================
    ``offsets``    [n + 1]     int64
    ``numbers``    [N]         int32, atomic numbers
    ``positions``  [N, 3]      Angstrom
    ``cells``      [n, 3, 3]   Angstrom, rows are the cell vectors
    ``pbc``        [n, 3]      bool
    ``hashes``     [n]         content hash (see :func:`aiida_aceal.common.configurations.configuration_hash`)
    ``energies``   [n]         eV, NaN where there is none; the array exists if any configuration has one
    ``forces``     [N, 3]      eV/Angstrom, likewise
    ``stresses``   [n, 6]      eV/Angstrom^3, order xx, yy, zz, yz, xz, xy, likewise
    ``atom_NAME``  [N] [N, k]  any other numbers per atom, e.g. ``atom_gamma``; NaN where there are none
    =============  ==========  ====================================================================

    What is known about each configuration (source, reason, score, ...) is a list of dictionaries in the repository
    file ``infos.json``, not in the data base. Queryable attributes: ``n_configurations``, ``n_atoms``, ``elements``,
    ``n_energy``, ``n_forces``, ``n_stress``, ``has_energy``, ``has_forces``, ``has_stress`` (all of them have),
    ``min_atoms``, ``max_atoms``, ``source``, ``gamma_max``.
    """

    _CLS_NODE_CACHING = StoredHashCaching

    # --- construction ------------------------------------------------------------------------------------------

    @classmethod
    def from_atoms(
        cls, configurations: Iterable[Atoms], source: str | None = None, infos: Sequence[dict] | None = None
    ) -> ConfigurationsData:
        """Unstored node of the given configurations.

        :param configurations: at least one; labels are taken from a calculator that holds results, nothing is computed.
        :param source: where they come from; stored for the node and in the info of each that names no source itself.
        :param infos: further entries for the info of each configuration, one dictionary each.
        :raises AceError: a number is not finite or an array has the wrong shape.
        :raises ValueError: no configurations, or ``infos`` of another length.
        """
        atoms_list = list(configurations)
        if not atoms_list:
            raise ValueError("a ConfigurationsData needs at least one configuration")
        if infos is not None and len(infos) != len(atoms_list):
            raise ValueError(f"{len(infos)} infos were given for {len(atoms_list)} configurations")
        sizes = [len(atoms) for atoms in atoms_list]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        n, total = len(atoms_list), int(offsets[-1])
        labels: dict[str, np.ndarray] = {
            "energies": np.full(n, np.nan),
            "forces": np.full((total, 3), np.nan),
            "stresses": np.full((n, 6), np.nan),
        }
        extras: dict[str, np.ndarray] = {}
        kinds: dict[str, str] = {}
        all_infos = []
        for i, atoms in enumerate(atoms_list):
            check_configuration(atoms, f"configuration {i}" + (f" of {source}" if source else ""))
            rows = slice(int(offsets[i]), int(offsets[i + 1]))
            energy, forces, stress = get_labels(atoms)
            if energy is not None:
                labels["energies"][i] = energy
            if forces is not None:
                labels["forces"][rows] = forces
            if stress is not None:
                labels["stresses"][i] = stress
            for name, values in _per_atom(atoms):
                if name not in extras:
                    extras[name] = np.full((total, *values.shape[1:]), np.nan)
                    kinds[name] = values.dtype.kind
                if extras[name].shape[1:] != values.shape[1:]:
                    raise ValueError(f"array '{name}' has another width in configuration {i} than before")
                extras[name][rows] = values
            info = {k: v for k, v in atoms.info.items() if k not in _OWN_KEYS}
            if source is not None:
                info.setdefault("source", source)
            all_infos.append({**info, **(infos[i] if infos is not None else {})})
        arrays = {
            "offsets": offsets,
            "numbers": np.concatenate([a.numbers for a in atoms_list]).astype(np.int32),
            "positions": np.concatenate([a.positions for a in atoms_list]),
            "cells": np.array([np.asarray(a.cell) for a in atoms_list]),
            "pbc": np.array([a.pbc for a in atoms_list], dtype=bool),
            "hashes": np.array([configuration_hash(a) for a in atoms_list], dtype="S32"),
        }
        return cls._from_arrays(arrays, labels, extras, kinds, all_infos, source)

    @classmethod
    def _from_arrays(cls, arrays, labels, extras, kinds, infos, source) -> ConfigurationsData:
        node = cls()
        for name, values in arrays.items():
            node.set_array(name, values)
        offsets, sizes = arrays["offsets"], np.diff(arrays["offsets"])
        has = {name: _labelled(labels[name], name, offsets) for name in labels}
        for name, values in labels.items():
            if has[name].any():
                node.set_array(name, values)
        for name, values in extras.items():
            node.set_array(_EXTRA + name, values)
        text = json.dumps([_plain(info) for info in infos], sort_keys=True)
        node.base.repository.put_object_from_filelike(io.BytesIO(text.encode()), _INFOS)
        attributes: dict[str, Any] = {
            "n_configurations": len(sizes),
            "n_atoms": int(offsets[-1]),
            "elements": sorted(chemical_symbols[z] for z in np.unique(arrays["numbers"])),
            "min_atoms": int(sizes.min()),
            "max_atoms": int(sizes.max()),
            "source": source,
            "extra_kinds": kinds,
        }
        for name, short in (("energies", "energy"), ("forces", "forces"), ("stresses", "stress")):
            attributes[f"n_{short}"] = int(has[name].sum())
            attributes[f"has_{short}"] = bool(has[name].all())
        if "gamma" in extras and np.isfinite(extras["gamma"]).any():
            attributes["gamma_max"] = float(np.nanmax(extras["gamma"]))
        node.base.attributes.set_many(attributes)
        return node

    @classmethod
    def merge(
        cls, nodes: Sequence[ConfigurationsData], skip_duplicates: bool = True, source: str | None = None
    ) -> ConfigurationsData:
        """Unstored node with the configurations of all ``nodes`` in order.

        With ``skip_duplicates`` a configuration whose hash was seen before is left out; a labelled copy takes the
        place of an unlabelled one.
        """
        if not nodes:
            raise ValueError("nothing to merge")
        chosen: dict[str, Atoms] = {}
        plain: list[Atoms] = []
        for node in nodes:
            if not skip_duplicates:
                plain.extend(node.iter_atoms())
                continue
            for atoms in node.iter_atoms():
                key = atoms.info["aceal_hash"]
                if key not in chosen or (get_labels(chosen[key])[0] is None and get_labels(atoms)[0] is not None):
                    chosen[key] = atoms
        return cls.from_atoms(chosen.values() if skip_duplicates else plain, source=source)

    def extend(self, other: ConfigurationsData) -> ConfigurationsData:
        """Unstored node: these configurations and those of ``other`` that are not among them."""
        return type(self).merge([self, other], source=self.source)

    def select(self, indices: Sequence[int], source: str | None = None) -> ConfigurationsData:
        """Unstored node with the configurations of the given indices, in that order."""
        return type(self).from_atoms(self.to_atoms(indices), source=source or self.source)

    # --- content -----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self.base.attributes.get("n_configurations"))

    def __bool__(self) -> bool:
        return True  # a node is a node, whatever its length

    def __getitem__(self, index: int | slice) -> Atoms | ConfigurationsData:
        """One configuration as ``ase.Atoms``, or a slice as an unstored node."""
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        return self.to_atoms([index])[0]

    def to_atoms(self, indices: Iterable[int] | None = None) -> list[Atoms]:
        """Configurations as ``ase.Atoms``: labels stored, identity in ``info['aceal_hash']``."""
        return list(self.iter_atoms(indices))

    def iter_atoms(self, indices: Iterable[int] | None = None) -> Iterator[Atoms]:
        """As :meth:`to_atoms`, one at a time."""
        arrays = self.arrays
        offsets, infos = arrays["offsets"], self.infos
        kinds = self.base.attributes.get("extra_kinds", {})
        n = len(self)
        for i in range(n) if indices is None else indices:
            if not -n <= i < n:
                raise IndexError(f"configuration {i} of {n}")
            i = int(i) % n
            rows = slice(int(offsets[i]), int(offsets[i + 1]))
            atoms = Atoms(
                numbers=arrays["numbers"][rows],
                positions=arrays["positions"][rows],
                cell=arrays["cells"][i],
                pbc=arrays["pbc"][i],
            )
            atoms.info.update(infos[i])
            atoms.info["aceal_hash"] = arrays["hashes"][i].decode()
            for name, kind in kinds.items():
                values = arrays[_EXTRA + name][rows]
                if np.isnan(values).all():
                    continue
                if kind in "iub" and np.isfinite(values).all():
                    values = values.astype(bool if kind == "b" else np.int64)
                if name == "fixed":
                    atoms.set_constraint(FixAtoms(np.flatnonzero(values)))
                else:
                    atoms.set_array(name, values)
            results = {}
            if "energies" in arrays and np.isfinite(arrays["energies"][i]):
                results["energy"] = float(arrays["energies"][i])
            if "forces" in arrays and np.isfinite(arrays["forces"][rows]).all():
                results["forces"] = arrays["forces"][rows].copy()
            if "stresses" in arrays and np.isfinite(arrays["stresses"][i]).all():
                results["stress"] = arrays["stresses"][i].copy()
            if results:
                atoms.calc = SinglePointCalculator(atoms, **results)
            yield atoms

    @property
    def infos(self) -> list[dict]:
        """What is known about each configuration: source, reason, score, ..."""
        return json.loads(self.base.repository.get_object_content(_INFOS))

    @property
    def hashes(self) -> list[str]:
        """Content hash of each configuration."""
        return [h.decode() for h in self.get_array("hashes")]

    @property
    def sizes(self) -> np.ndarray:
        """Number of atoms of each configuration, int64 [n]."""
        return np.diff(self.get_array("offsets"))

    @property
    def elements(self) -> list[str]:
        """Chemical elements that occur, sorted."""
        return list(self.base.attributes.get("elements"))

    @property
    def source(self) -> str | None:
        """Where the set comes from."""
        return self.base.attributes.get("source")

    @property
    def gamma_max(self) -> np.ndarray | None:
        """Largest per-atom gamma of each configuration, [n]; ``None`` if no gamma is stored."""
        if _EXTRA + "gamma" not in self.get_arraynames():
            return None
        gamma, offsets = self.get_array(_EXTRA + "gamma"), self.get_array("offsets")
        return np.maximum.reduceat(np.where(np.isnan(gamma), -np.inf, gamma), offsets[:-1])

    def has_labels(self, *names: str) -> bool:
        """Whether every configuration has each of the labels ``energy``, ``forces``, ``stress`` named."""
        return all(self.base.attributes.get(f"has_{name}") for name in names)

    # --- files -------------------------------------------------------------------------------------------------

    def write_extxyz(self, target: str | Path | TextIO, indices: Iterable[int] | None = None) -> None:
        """Write extended XYZ, numbers exact, to a path or an open text file."""
        if isinstance(target, (str, Path)):
            with open_whole(target) as handle:
                self.write_extxyz(handle, indices)
            return
        for atoms in self.iter_atoms(indices):
            target.write(format_extxyz(atoms))

    def _prepare_extxyz(self, main_file_name: str = "") -> tuple[bytes, dict]:
        """Text for ``verdi data ... export``."""
        buffer = io.StringIO()
        self.write_extxyz(buffer)
        return buffer.getvalue().encode(), {}

    def _validate(self) -> None:
        super()._validate()
        names = set(self.get_arraynames())
        missing = {"offsets", "numbers", "positions", "cells", "pbc", "hashes"} - names
        if missing or _INFOS not in self.base.repository.list_object_names():
            raise ValidationError(f"incomplete ConfigurationsData, use from_atoms; missing: {sorted(missing)}")
        offsets, n, total = self.get_array("offsets"), len(self), int(self.base.attributes.get("n_atoms"))
        if offsets.shape != (n + 1,) or offsets[0] != 0 or offsets[-1] != total or np.any(np.diff(offsets) < 1):
            raise ValidationError("offsets do not fit the number of configurations and atoms")
        shapes = {"numbers": (total,), "positions": (total, 3), "cells": (n, 3, 3), "pbc": (n, 3), "hashes": (n,)}
        shapes.update({"energies": (n,), "forces": (total, 3), "stresses": (n, 6)})
        for name, shape in shapes.items():
            if name in names and self.get_shape(name) != shape:
                raise ValidationError(f"array '{name}' has shape {self.get_shape(name)}, expected {shape}")
        for name in ("positions", "cells"):
            if not np.isfinite(self.get_array(name)).all():
                raise ValidationError(f"array '{name}' holds numbers that are not finite")
        if len(self.infos) != n:
            raise ValidationError(f"{len(self.infos)} infos for {n} configurations")


def _per_atom(atoms: Atoms) -> Iterator[tuple[str, np.ndarray]]:
    """Numbers per atom beyond numbers and positions; fixed atoms as the array ``fixed``."""
    for name, values in atoms.arrays.items():
        if name not in ("numbers", "positions", "fixed") and values.dtype.kind in "fiub":
            yield name, values
    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            fixed[constraint.index] = True
    if fixed.any():
        yield "fixed", fixed


def _labelled(values: np.ndarray, name: str, offsets: np.ndarray) -> np.ndarray:
    """Which configurations have the label, bool [n]."""
    finite = np.isfinite(values) if values.ndim == 1 else np.isfinite(values).all(axis=1)
    return np.logical_and.reduceat(finite, offsets[:-1]) if name == "forces" else finite


def _plain(value: Any) -> Any:
    """JSON-ready copy of what stands in an info dictionary."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
