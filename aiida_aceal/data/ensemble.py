"""An ensemble of potentials as a node: one archive with the members inside."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from aiida.common.exceptions import ValidationError
from aiida.orm import SinglefileData

from aiida_aceal.common.errors import AceError
from aiida_aceal.data.hashing import StoredHashCaching
from aiida_aceal.data.potential import AcePotentialData, basis_hash, potential_hash

if TYPE_CHECKING:
    from aiida_aceal.fitting.ensemble import Ensemble


class EnsembleData(SinglefileData):
    """Members of an ensemble with the thresholds of their indicators, in one file.

    ``EnsembleData(ensemble=Ensemble)`` or ``EnsembleData(file=path or open file)``; the file is a zip archive of
    ``ensemble.json`` and one pacemaker ``.yaml`` for each member.

    Attributes: ``elements``, ``n_members``, ``method``, ``use`` (indicator: ``forces`` or ``energy``), ``thresholds``
    (``energy`` eV/atom, ``forces`` eV/Angstrom), ``shared`` (whether members share their projections), ``basis_hash``
    (``None`` if the bases of the members differ), ``potential_hashes``, ``n_structures`` (of the training set),
    ``threshold_notes`` (what the thresholds leave out, and why one is missing).
    """

    _CLS_NODE_CACHING = StoredHashCaching

    DEFAULT_FILENAME = "ensemble.zip"

    def __init__(
        self,
        ensemble: Ensemble | None = None,
        file: str | Path | BinaryIO | None = None,
        filename: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Make an unstored node.

        :param ensemble: the ensemble as an object; not together with ``file``.
        :param file: path of an archive, or an open file with its bytes.
        :raises AceError: the file is no ensemble, or has coefficients that are not finite.
        """
        if ensemble is not None and file is not None:
            raise ValueError("give either `ensemble` or `file`, not both")
        if ensemble is None:
            super().__init__(file=file, filename=filename, **kwargs)
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / self.DEFAULT_FILENAME
            ensemble.save(path)
            super().__init__(file=path, filename=filename, **kwargs)

    def set_file(self, file: str | Path | BinaryIO, filename: str | None = None, **kwargs: Any) -> None:
        """Store an archive after reading all its members."""
        from aiida_aceal.fitting.ensemble import Ensemble

        if isinstance(file, (str, Path)):
            path = Path(file).resolve()
            if not path.is_file():
                raise AceError(f"{path}: no such file")
            content, source = path.read_bytes(), str(path)
        else:
            content, source = file.read(), str(getattr(file, "name", "ensemble"))
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / self.DEFAULT_FILENAME
            copy.write_bytes(content)
            try:
                known = _describe(Ensemble.load(copy))
            except AceError as error:
                raise type(error)(str(error).replace(str(copy), source)) from None
            super().set_file(copy, filename=filename or self.DEFAULT_FILENAME)
        self.base.attributes.set_many(known)

    def get_ensemble(self, threads: int | None = None) -> Ensemble:
        """The ensemble as an object that predicts."""
        from aiida_aceal.fitting.ensemble import Ensemble

        with self.as_path() as path:
            return Ensemble.load(path, threads)

    def get_members(self) -> list[AcePotentialData]:
        """Unstored nodes of the members, in their order."""
        return [AcePotentialData(potential=potential) for potential in self.get_ensemble().potentials]

    def check_potential(self, potential: AcePotentialData) -> str | None:
        """Why this ensemble cannot stand in for the uncertainty of ``potential``; ``None`` if it can."""
        missing = sorted(set(potential.elements) - set(self.elements))
        if missing:
            return (
                f"the ensemble does not know {', '.join(missing)} of the potential; its elements: "
                f"{', '.join(self.elements)}"
            )
        return None

    def __len__(self) -> int:
        return self.base.attributes.get("n_members")

    @property
    def elements(self) -> list[str]:
        """Elements, sorted."""
        return list(self.base.attributes.get("elements"))

    @property
    def method(self) -> str:
        """How members were randomised."""
        return self.base.attributes.get("method")

    @property
    def thresholds(self) -> dict[str, float]:
        """``energy`` (dE, eV/atom) and ``forces`` (dF, eV/Angstrom) above which a structure is uncertain."""
        return dict(self.base.attributes.get("thresholds"))

    @property
    def threshold_notes(self) -> list[str]:
        """What the thresholds leave out, and why one is missing."""
        return list(self.base.attributes.get("threshold_notes", []))

    def _prepare_zip(self, main_file_name: str = "") -> tuple[bytes, dict]:
        return self.get_content(mode="rb"), {}

    def _validate(self) -> None:
        super()._validate()
        if "n_members" not in self.base.attributes.all:
            raise ValidationError("no ensemble was given: use EnsembleData(ensemble=...) or (file=...)")


def _describe(ensemble: Ensemble) -> dict[str, Any]:
    bases = {basis_hash(potential) for potential in ensemble.potentials}
    return {
        "elements": sorted(ensemble.elements),
        "n_members": len(ensemble),
        "method": ensemble.method,
        "use": ensemble.use,
        "thresholds": {key: float(value) for key, value in ensemble.thresholds.items()},
        "shared": bool(ensemble.shared),
        "basis_hash": bases.pop() if len(bases) == 1 else None,
        "potential_hashes": [potential_hash(potential) for potential in ensemble.potentials],
        "n_structures": ensemble.report.get("n_structures"),
        "threshold_notes": list(ensemble.report.get("threshold_notes", [])),
    }
