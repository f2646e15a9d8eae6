"""What campaigns and comparisons do alike on the way from a checked input to a builder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from aiida_aceal.ace import AcePotential, build_potential
from aiida_aceal.common.configurations import configuration_hash, read_configurations
from aiida_aceal.common.errors import AceError


def read_sets(
    files: Mapping[str, Sequence[str]], folder: Path, energy_key: str | None, forces_key: str | None
) -> tuple[dict[str, list[Atoms]], int]:
    """Labelled configurations of each set, and how many were left out because they had been read before.

    :param files: name of the set -> its files; a configuration of two sets belongs to the one that is named first
    :raises AceError: a file that cannot be read, a configuration without energy or forces
    """
    sets: dict[str, list[Atoms]] = {name: [] for name in files}
    seen: set[str] = set()
    repeated = 0
    for name, paths in files.items():
        for path in paths:
            found = read_configurations(
                folder / path, energy_key=energy_key, forces_key=forces_key, require=("energy", "forces")
            )
            for atoms in found:
                digest = configuration_hash(atoms)
                if digest in seen:
                    repeated += 1
                else:
                    sets[name].append(atoms)
                    seen.add(digest)
    return sets, repeated


def split_at_random(configurations: Sequence[Atoms], count: int, seed: int) -> tuple[list[Atoms], list[Atoms]]:
    """The configurations without, and the ``count`` that were drawn, both in their order."""
    drawn = set(np.random.default_rng(seed).permutation(len(configurations))[:count].tolist())
    rest = [atoms for k, atoms in enumerate(configurations) if k not in drawn]
    return rest, [atoms for k, atoms in enumerate(configurations) if k in drawn]


def elements_in(configurations: Iterable[Atoms]) -> list[str]:
    """Chemical symbols, in alphabetical order."""
    return sorted({symbol for atoms in configurations for symbol in atoms.get_chemical_symbols()})


def basis_of(
    potential: str | None, description: Mapping[str, Any], elements: Sequence[str], folder: Path, seed: int = 0
) -> tuple[dict[str, Any] | None, AcePotential]:
    """Description of the basis (None if it is that of a file) and the basis.

    :param potential: file of a potential, whose basis counts
    :param description: without elements
    :raises AceError: no such file, or a description that makes no basis for all elements
    """
    if potential is not None:
        if not (folder / potential).is_file():
            raise AceError(f"potential: {potential}: no such file in {folder}")
        if Path(potential).suffix.lower() == ".yace":
            raise AceError(
                f"potential: {potential}: a .yace holds what LAMMPS evaluates (C-tilde coefficients), not the basis, "
                "which refits and active sets need; give the .yaml it was made from (pacemaker keeps it as "
                "output_potential.yaml)"
            )
        return None, AcePotential.read(folder / potential)
    whole = {"elements": list(elements), **description}
    try:
        basis = build_potential(whole, seed=seed)
        basis.require_functions()
    except AceError as error:
        raise AceError(f"basis: {error}") from error
    return whole, basis


def basis_node(description: dict[str, Any] | None, potential: AcePotential, seed: int, store: bool) -> Any:
    """Node of a basis: with its provenance if it is stored and not read from a file."""
    from aiida import orm

    from aiida_aceal.data.potential import AcePotentialData
    from aiida_aceal.workflows import functions

    if description is not None and store:
        return functions.build_basis(orm.Dict(description), orm.Int(seed))
    return AcePotentialData(potential=potential)


@contextmanager
def refusals_of_ports() -> Iterator[None]:
    """What a port of a builder refuses, as `AceError`."""
    try:
        yield
    except AceError:
        raise
    except ValueError as error:
        raise AceError(str(error).removeprefix("invalid attribute value ")) from error


def check_builder(builder: Any) -> None:
    """Check all inputs of a builder together, as at submission.

    :raises AceError: what the process refuses
    """
    problem = builder.process_class.spec().inputs.validate(dict(builder._inputs(prune=True)))
    if problem:
        raise AceError(str(getattr(problem, "message", problem)).strip())
