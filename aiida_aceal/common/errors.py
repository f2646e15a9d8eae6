"""The one exception type of the numerics."""


class AceError(ValueError):
    """Bad input: the message names the file, the value and the remedy."""
