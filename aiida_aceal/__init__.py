"""Active learning of atomic cluster expansion (ACE) potentials in AiiDA."""

__version__ = "0.1.0"
