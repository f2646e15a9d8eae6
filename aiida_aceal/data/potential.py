"""An ACE potential as a node: one B-basis ``.yaml`` with queryable attributes."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
from aiida.common.exceptions import ValidationError
from aiida.orm import SinglefileData

from aiida_aceal.ace import AceError, AcePotential
from aiida_aceal.data.hashing import StoredHashCaching


def basis_hash(potential: AcePotential) -> str:
    """Identity of what the projections depend on: elements, radial functions and the ordered functions (16 hex).

    A linear active set fits every potential of the same basis, whatever its coefficients.
    """
    digest = hashlib.sha256()
    for (a, b), bond in sorted(potential.bonds.items()):
        words = (a, b, bond.radbase, bond.cutoff_function, bond.inner_cutoff_type)
        numbers = (*bond.radparameters, bond.rcut, bond.dcut, bond.r_in, bond.delta_in)
        digest.update(repr((words, numbers, bond.radcoefficients.shape)).encode())
        digest.update(np.ascontiguousarray(bond.radcoefficients, dtype="<f8").tobytes())
    for element in potential.elements:
        for function in potential.functions(element):
            digest.update(repr((element, function.mus, function.ns, function.ls, function.lint)).encode())
    return digest.hexdigest()[:16]


def potential_hash(potential: AcePotential) -> str:
    """Identity of everything the energy depends on: basis, embedding, core repulsion, coefficients (16 hex)."""
    digest = hashlib.sha256(basis_hash(potential).encode())
    for element in potential.elements:
        digest.update(repr(potential.species[element]).encode())
        digest.update(np.ascontiguousarray(potential.coefficients(element), dtype="<f8").tobytes())
    for pair, bond in sorted(potential.bonds.items()):
        digest.update(repr((pair, bond.core_repulsion)).encode())
    return digest.hexdigest()[:16]


class AcePotentialData(SinglefileData):
    """One potential in pacemaker's B-basis ``.yaml`` format.

    ``AcePotentialData(potential=AcePotential)`` or ``AcePotentialData(file=path or open file)``.

    Attributes: ``elements``, ``n_functions`` and ``n_densities`` (per element), ``cutoff`` (Angstrom), ``embedding``
    (per element), ``radial_type``, ``max_rank``, ``is_fitted``, ``reference_energies`` (eV), ``basis_hash``,
    ``potential_hash``.
    """

    _CLS_NODE_CACHING = StoredHashCaching

    DEFAULT_FILENAME = "potential.yaml"

    def __init__(
        self,
        potential: AcePotential | None = None,
        file: str | Path | BinaryIO | TextIO | None = None,
        filename: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Make an unstored node.

        :param potential: the potential as an object; not together with ``file``.
        :param file: path of a ``.yaml``, or an open file with its text.
        :raises AceError: the text is no B-basis potential; the message says where.
        """
        if potential is not None and file is not None:
            raise ValueError("give either `potential` or `file`, not both")
        if potential is not None:
            file = io.BytesIO(potential.to_yaml().encode())
        super().__init__(file=file, filename=filename, **kwargs)

    def set_file(self, file: str | Path | BinaryIO | TextIO, filename: str | None = None, **kwargs: Any) -> None:
        """Store the text of a potential after parsing it."""
        if isinstance(file, (str, Path)):
            path = Path(file).resolve()
            if not path.is_file():
                raise AceError(f"{path}: no such file")
            if path.suffix == ".yace":
                raise AceError(
                    f"{path}: a C-tilde potential cannot be refitted or graded; give the B-basis .yaml it was made from"
                )
            source, content = str(path), path.read_bytes()
        else:
            source, content = getattr(file, "name", "potential"), file.read()
            content = content.encode() if isinstance(content, str) else content
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise AceError(f"{source}: not a text file ({error}); give a pacemaker .yaml") from None
        potential = AcePotential.from_yaml(text, source=str(source))
        super().set_file(io.BytesIO(content), filename=filename or self.DEFAULT_FILENAME)
        self.base.attributes.set_many(_describe(potential))

    @property
    def content(self) -> str:
        """Text of the ``.yaml``."""
        return self.get_content(mode="r")

    def get_potential(self) -> AcePotential:
        """The potential as an object of the engine."""
        return AcePotential.from_yaml(self.content, source=f"{type(self).__name__}<{self.pk or self.uuid}>")

    def get_yace(self) -> str:
        """Text of the C-tilde ``.yace`` for ``pair_style pace``."""
        from aiida_aceal.ace.yace import potential_to_yace

        return potential_to_yace(self.get_potential().with_equal_densities())

    def get_lammps(self) -> str:
        """Text of a B-basis ``.yaml`` that ML-PACE evaluates rightly: all elements have as many densities."""
        return self.get_potential().with_equal_densities().to_yaml()

    @property
    def elements(self) -> list[str]:
        """Elements, sorted."""
        return list(self.base.attributes.get("elements"))

    @property
    def n_functions(self) -> dict[str, int]:
        """Number of functions of each element."""
        return dict(self.base.attributes.get("n_functions"))

    @property
    def n_densities(self) -> dict[str, int]:
        """Number of densities of each element."""
        return dict(self.base.attributes.get("n_densities"))

    @property
    def cutoff(self) -> float:
        """Largest cutoff, Angstrom."""
        return self.base.attributes.get("cutoff")

    @property
    def embedding(self) -> dict[str, str]:
        """Embedding function of each element."""
        return dict(self.base.attributes.get("embedding"))

    @property
    def radial_type(self) -> list[str]:
        """Radial basis types in use."""
        return list(self.base.attributes.get("radial_type"))

    @property
    def is_fitted(self) -> bool:
        """Whether any coefficient differs from zero."""
        return self.base.attributes.get("is_fitted")

    @property
    def reference_energies(self) -> dict[str, float]:
        """Energies of the free atoms, eV; empty if none are noted."""
        return dict(self.base.attributes.get("reference_energies"))

    def _prepare_yaml(self, main_file_name: str = "") -> tuple[bytes, dict]:
        return self.content.encode(), {}

    def _prepare_lammps(self, main_file_name: str = "") -> tuple[bytes, dict]:
        return self.get_lammps().encode(), {}

    def _prepare_yace(self, main_file_name: str = "") -> tuple[bytes, dict]:
        return self.get_yace().encode(), {}

    def _validate(self) -> None:
        super()._validate()
        if "basis_hash" not in self.base.attributes.all:
            raise ValidationError("no potential was set: use AcePotentialData(potential=...) or (file=...)")


def _describe(potential: AcePotential) -> dict[str, Any]:
    functions = [f for element in potential.elements for f in potential.functions(element)]
    return {
        "elements": sorted(potential.elements),
        "n_functions": potential.n_functions,
        "n_densities": potential.n_densities,
        "cutoff": float(potential.cutoff),
        "embedding": {element: potential.species[element].embedding for element in potential.elements},
        "radial_type": sorted({bond.radbase for bond in potential.bonds.values()}),
        "max_rank": max((f.rank for f in functions), default=0),
        "is_fitted": bool(potential.is_fitted),
        "reference_energies": potential.reference_energies,
        "basis_hash": basis_hash(potential),
        "potential_hash": potential_hash(potential),
    }
