"""Copper as in Lysogorskiy et al., Phys. Rev. Mater. 7, 043801 (2023), from the one set of it that is public.

Cu-II is at hand, Cu-III, ten times as large and wider, is not. So structures of Cu-II up to a limit of the energy take
the roles of Cu-II/train and Cu-II/test, and those above it the role of Cu-III.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import setting

from .study import Form

ROLES = ("train", "test", "wide")
#: functions of ranks 1 to 5, cut at the number wanted (754 in all)
SERIES = {"nradmax_by_orders": [15, 6, 4, 3, 2], "lmax_by_orders": [0, 4, 3, 2, 1]}
REMARK = (
    "Cu-III of the paper is not public. Structures of Cu-II within `energy_limit` of the lowest energy take the roles "
    "of Cu-II/train and Cu-II/test; those above it take that of Cu-III."
)


class CopperForm(Form):
    """How Cu-II is split, and what is fitted."""

    train: int = setting(300, "Structures that are learnt.", ge=2)
    test: int = setting(100, "Structures of the same kind that are graded.", ge=1)
    wide: int = setting(300, "Structures above the limit that are graded.", ge=1)
    energy_limit: float = setting(0.4, "Above the lowest energy, of what may be learnt.", unit="eV/atom", gt=0)
    cutoff: float = setting(7.0, "Of the potential.", unit="A", gt=0)


def basis(functions: int, cutoff: float, densities: int = 1) -> dict:
    """Description of the basis; with two densities the embedding of Finnis and Sinclair."""
    fs = [1.0, 1.0] if densities == 1 else [1.0, 1.0, 1.0, 0.5]
    return {
        "elements": ["Cu"], "cutoff": cutoff, **SERIES, "number_of_functions_per_element": functions,
        "fs_parameters": fs,
    }  # fmt: skip


def split(frames: Sequence[Atoms], form: CopperForm, seed: int) -> tuple[list[Atoms], list[Atoms]]:
    """What is learnt, and everything that is graded, with the role of each in info ``group``.

    :raises AceError: too few structures below or above the limit
    """
    energy = np.array([atoms.get_potential_energy() / len(atoms) for atoms in frames])
    low = energy - energy.min() <= form.energy_limit
    rng = np.random.default_rng(seed)
    near, far = (rng.permutation(np.flatnonzero(part)) for part in (low, ~low))
    if len(near) < form.train + 1 or not len(far):
        raise AceError(
            f"energy_limit {form.energy_limit}: {len(near)} structures are below it and {len(far)} above it, but "
            f"{form.train} are to be learnt and some of both kinds graded; change energy_limit or train"
        )
    chosen = {
        "train": near[: form.train],
        "test": near[form.train : form.train + form.test],
        "wide": far[: form.wide],
    }
    parts = {}
    for role, indices in chosen.items():
        parts[role] = [frames[k].copy() for k in sorted(indices)]
        for atoms, k in zip(parts[role], sorted(indices)):
            atoms.calc = frames[k].calc
            atoms.info["group"] = role
    return parts["train"], [atoms for role in ROLES for atoms in parts[role]]
