"""The exceptions of the numerics."""


class AceError(ValueError):
    """Bad input: the message names the file, the value and the remedy."""


class NotFiniteError(AceError):
    """Numbers that were read or computed are not finite (nan, inf)."""
