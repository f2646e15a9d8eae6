"""Finding structures the potential does not know: first structures, filters, active exploration, pools, local cuts."""

from .initial import generate, kinds, read_files

__all__ = ["generate", "kinds", "read_files"]
