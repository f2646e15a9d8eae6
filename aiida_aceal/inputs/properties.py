"""Section `validate` of input files: which properties of which phases, and how each is computed."""

from __future__ import annotations

import warnings
from typing import Any

from pydantic import Field

from aiida_aceal.common.settings import Settings, setting
from aiida_aceal.properties.settings import ValidateSettings


class ValidateSection(ValidateSettings):
    """Which properties of which phases, and how each is computed."""

    heading = "Section `validate`"

    structure: tuple[dict[str, Any], ...] = setting(
        (), "The crystal, then further phases: {bulk: Cu, crystal: fcc, a: 3.6} or {file: FILE}, with a `name` if you "
        "like [default: the crystal that ASE knows of the element]."
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

        validate: ValidateSection = Field(
            default_factory=ValidateSection, description="The properties, and how each is computed."
        )
