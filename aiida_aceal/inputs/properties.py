"""Section `validate` of input files: which properties of which phases, and how each is computed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import Settings, setting
from aiida_aceal.properties.settings import ValidateSettings

if TYPE_CHECKING:
    from ase import Atoms


class ValidateSection(ValidateSettings):
    """Which properties of which phases, and how each is computed."""

    heading = "Section `validate`"

    structure: tuple[dict[str, Any], ...] = setting(
        (), "The crystal, then further phases: {bulk: Cu, crystal: fcc, a: 3.6} or {file: FILE}, with a `name` if you "
        "like [default: the crystal that ASE knows of the element]."
    )  # fmt: skip

    every: int | None = setting(
        None, "In a campaign: also after every so many generations [default: at the end only].", ge=1
    )

    train_on: bool = setting(
        False, "In a campaign: whether structures of the properties may be learnt. If not, equal structures are no "
        "candidates, and `initial` and `dataset` must not have them."
    )  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """What of it is `settings` of ``aceal.validate``."""
        own = ValidateSettings.model_fields
        return {key: value for key, value in self.to_dict(given=True).items() if key in own}


with warnings.catch_warnings():
    # pydantic still has a deprecated method of this name, which nobody calls
    warnings.filterwarnings("ignore", message='Field name "validate"')

    class AsksForProperties(Settings):
        """An input that has a section `validate`."""

        validate: ValidateSection | None = setting(
            None, "Properties that are compared with the reference [default: in a campaign, none]."
        )


def crystals(structure: Sequence[Mapping[str, Any]], elements: Sequence[str], folder: Path) -> list[Atoms]:
    """The crystal and further phases of section `validate`.

    :raises AceError: none is given for a compound, files that cannot be read
    """
    from aiida_aceal.exploration.initial import base_structures

    if not structure:
        if len(elements) > 1:
            raise AceError(
                f"validate.structure: name the crystal of {', '.join(elements)} whose properties are wanted, such as "
                "[{file: crystal.cif}]"
            )
        structure = [{"bulk": elements[0]}]
    found = []
    for number, given in enumerate(structure):
        entry = dict(given)
        name = entry.pop("name", None)
        try:
            made = base_structures(entry, folder)
        except AceError as error:
            raise AceError(f"validate.structure, entry {number}: {error}") from error
        for atoms in made:
            if name is not None:
                atoms.info["name"] = str(name)
        found += made
    return found
