"""The exceptions under their former name."""

from aiida_aceal.common.errors import AceError, NotFiniteError

__all__ = ["AceError", "NotFiniteError"]
