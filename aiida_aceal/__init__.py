"""Active learning of atomic cluster expansion (ACE) potentials in AiiDA."""

from pathlib import Path as _Path

from aiida_aceal.kernel_cache import ensure_cache as _ensure_cache

__version__ = "0.1.0"

_ensure_cache(_Path(__file__).parent)
