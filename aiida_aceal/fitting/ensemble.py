"""Ensembles: several fits of one basis whose disagreement measures the uncertainty.

Indicators per structure (Y. Lysogorskiy et al., Phys. Rev. Mater. 7, 043801 (2023), Sec. III A and App. B):
dE = max_m |E^m - <E>| per atom and dF = max_m max_i |F_i^m - <F_i>|. Thresholds: `aiida_aceal.fitting.thresholds`.
Members cannot disagree on forces that vanish by symmetry.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms

from aiida_aceal.ace import AceError, AceModel, AcePotential
from aiida_aceal.common.archives import open_archive, read_entry, read_json
from aiida_aceal.common.atomic import write_bytes

from .labels import LabelledSet
from .members import MemberModel, same_basis
from .thresholds import NOTES, ensemble_thresholds, vanishing_forces

_FORMAT = "aceal-ensemble-1"
INDICATORS = ("forces", "energy")
MAX_MEMBERS = 1000


class MemberPredictions(NamedTuple):
    """N structures, M members: ``energies`` [N, M] eV (with reference energies), ``forces``: N x [M, n, 3] eV/A."""

    energies: np.ndarray
    forces: list[np.ndarray]


@dataclass
class Ensemble:
    """Members of an ensemble, evaluated together.

    Attributes
    ----------
    potentials
        The members.
    method
        How they were randomised: ``weak``, ``strong``, ``subsample``, ``weights`` or ``posterior``.
    use
        Which indicator `indicator` gives: ``forces`` (dF, eV/Angstrom) or ``energy`` (dE, eV/atom).
    thresholds
        ``energy`` and ``forces``: indicator above which a structure is uncertain (IQR rule); empty if not set.
    report
        How the ensemble was made (JSON types).
    """

    potentials: tuple[AcePotential, ...]
    method: str = "weak"
    use: str = "forces"
    thresholds: dict[str, float] = field(default_factory=dict)
    report: dict = field(default_factory=dict)
    threads: int | None = None

    def __post_init__(self) -> None:
        self.potentials = tuple(self.potentials)
        if len(self.potentials) < 2:
            raise AceError(f"an ensemble needs at least two members, found {len(self.potentials)}")
        if len({p.elements for p in self.potentials}) > 1:
            raise AceError("the members of an ensemble must know the same elements")
        if self.use not in INDICATORS:
            raise AceError(f"indicator {self.use!r} is unknown; use one of {', '.join(INDICATORS)}")
        self.shared = same_basis(self.potentials)
        self._models: list | None = None

    def __len__(self) -> int:
        return len(self.potentials)

    @property
    def elements(self) -> tuple[str, ...]:
        return self.potentials[0].elements

    def predict(self, structures: Sequence[Atoms], forces: bool = True) -> MemberPredictions:
        """Energies and forces of all members; members that share their basis share its evaluation."""
        structures = list(structures)
        if self._models is None:
            if self.shared:
                self._models = [MemberModel(self.potentials, threads=self.threads)]
            else:
                self._models = [AceModel(p, threads=self.threads) for p in self.potentials]
        if self.shared:
            results = self._models[0].evaluate_batch(structures, forces)
            energies = np.array([e for e, _ in results]).reshape(len(structures), len(self))
            all_forces = [f for _, f in results]
        else:
            per_member = [m.evaluate_batch(structures, forces=forces, stress=False) for m in self._models]
            energies = np.array([[r.energy for r in rs] for rs in per_member]).T.reshape(len(structures), len(self))
            all_forces = [np.stack([rs[k].forces for rs in per_member]) for k in range(len(structures)) if forces]
        for k, atoms in enumerate(structures):
            for m, p in enumerate(self.potentials):
                free = p.reference_energies
                energies[k, m] += sum(free.get(s, 0.0) for s in atoms.get_chemical_symbols())
        return MemberPredictions(energies, all_forces if forces else [])

    def indicators(self, structures: Sequence[Atoms]) -> tuple[np.ndarray, np.ndarray]:
        """dE [N] (eV/atom) and dF [N] (eV/Angstrom) of each structure."""
        structures = list(structures)
        return deviations(self.predict(structures), np.array([len(a) for a in structures]))

    def indicator(self, structures: Sequence[Atoms]) -> np.ndarray:
        """The indicator named by ``use``, [N]: what selection and exploration ask for."""
        structures = list(structures)
        if self.use == "energy":
            predictions = self.predict(structures, forces=False)
            n = np.array([len(a) for a in structures])
            return np.abs(predictions.energies - predictions.energies.mean(1, keepdims=True)).max(1) / n
        return self.indicators(structures)[1]

    def set_thresholds(self, data: LabelledSet) -> dict[str, float]:
        """Thresholds of both indicators by the IQR rule on labelled (training) structures; also kept in the object.

        The error of a structure is that of the members' mean: |dE| per atom, and the largest |dF_i|. What was left out
        stands in the report, key ``threshold_notes``.

        Raises
        ------
        AceError
            No threshold for the indicator in ``use``: too few structures whose forces do not vanish by symmetry. The
            other threshold, if there is one, and the notes are kept.
        """
        predictions = self.predict(data.structures)
        dE, dF = deviations(predictions, data.n_atoms)
        largest = [np.linalg.norm(F, axis=2).max(initial=0.0) for F in predictions.forces]
        e_errors = np.abs(predictions.energies.mean(1) - data.energies) / data.n_atoms
        f_errors = np.full(len(data), np.nan)
        for k, labels in enumerate(data.forces):
            if labels is not None:
                f_errors[k] = np.linalg.norm(predictions.forces[k].mean(0) - labels, axis=1).max(initial=0.0)
        vanish = vanishing_forces(data.forces, largest)
        self.thresholds, notes = ensemble_thresholds(e_errors, dE, f_errors, dF, vanish)
        self.report[NOTES] = notes
        if self.use not in self.thresholds:
            raise AceError("ensemble: " + "; ".join(notes))
        return self.thresholds

    # --- files ------------------------------------------------------------------------------------------------------
    def save(self, path: str | Path) -> None:
        """Write a zip archive: ``ensemble.json`` and one pacemaker ``.yaml`` for each member."""
        head = {
            "format": _FORMAT, "members": len(self), "method": self.method, "use": self.use,
            "thresholds": self.thresholds, "report": self.report,
        }  # fmt: skip
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            parts = {"ensemble.json": json.dumps(head, indent=1, allow_nan=False)}
            parts |= {f"member_{k:03d}.yaml": p.to_yaml() for k, p in enumerate(self.potentials)}
            for name, text in parts.items():  # a fixed date: the same ensemble gives the same bytes
                info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, text)
        write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path, threads: int | None = None) -> Ensemble:
        """Read an archive of `save`.

        Raises
        ------
        AceError
            Missing file, or no archive of an ensemble.
        """
        with open_archive(path) as archive:
            head = read_json(read_entry(archive, "ensemble.json"), f"{path}/ensemble.json")
            if head.get("format") != _FORMAT:
                raise AceError(f"{path}: format {head.get('format')!r} is not {_FORMAT}; write the ensemble anew")
            members = head["members"]
            if not isinstance(members, int) or not 2 <= members <= MAX_MEMBERS:
                raise AceError(f"{path}: {members!r:.40} members; an ensemble has 2 to {MAX_MEMBERS}")
            names = [f"member_{k:03d}.yaml" for k in range(members)]
            texts = [read_entry(archive, name).decode("utf-8") for name in names]
            thresholds = {str(k): float(v) for k, v in head["thresholds"].items() if not isinstance(v, bool)}
            report, method, use = dict(head["report"]), str(head["method"]), str(head["use"])
        potentials = [AcePotential.from_yaml(text, f"{path}/{name}") for name, text in zip(names, texts)]
        return cls(tuple(potentials), method, use, thresholds, report, threads)


def deviations(predictions: MemberPredictions, n_atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """dE [N] (eV/atom) and dF [N] (eV/Angstrom) from the members' predictions."""
    E = predictions.energies
    dE = np.abs(E - E.mean(1, keepdims=True)).max(1) / n_atoms
    dF = np.array([np.linalg.norm(F - F.mean(0), axis=2).max() for F in predictions.forces])
    return dE, dF
