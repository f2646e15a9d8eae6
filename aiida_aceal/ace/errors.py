"""The exception under its former name."""

from aiida_aceal.common.errors import AceError

__all__ = ["AceError"]
