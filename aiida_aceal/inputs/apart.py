"""Training, validation and test structures of an input must not share any: errors on what was fitted say nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from ase import Atoms

from aiida_aceal.common.configurations import configuration_hash
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.words import counted


def check_apart(sets: Mapping[str, Mapping[str, Sequence[Atoms]]]) -> None:
    """Refuse structures that stand in sets of different roles.

    :param sets: role -> name of the set as the user knows it (`dataset: a.extxyz`) -> its structures
    :raises AceError: names both sets, how many structures they share, and the remedy
    """
    hashes = {
        role: {name: [configuration_hash(atoms) for atoms in found] for name, found in named.items()}
        for role, named in sets.items()
    }
    for one, other in combinations(hashes, 2):
        for first, these in hashes[one].items():
            for second, those in hashes[other].items():
                shared = set(these) & set(those)
                if shared:
                    count = sum(digest in shared for digest in those)
                    whole = "all" if count == len(those) else str(count)
                    raise AceError(
                        f"{second}: {whole} of its {counted(len(those), 'structure')} stand in {first} as well, and "
                        "errors on structures that were fitted say nothing; take them out of one of the two, or let "
                        f"the campaign take a part of the data by origin ({other}: 0.1)"
                    )


def by_file(role: str, structures: Sequence[Atoms]) -> dict[str, list[Atoms]]:
    """Structures of a role under the names of the files that they come from; the role alone for those of none."""
    found: dict[str, list[Atoms]] = {}
    for atoms in structures:
        file, mark, _ = str(atoms.info.get("source", "")).partition("#")
        found.setdefault(f"{role}: {file}" if mark else role, []).append(atoms)
    return found
