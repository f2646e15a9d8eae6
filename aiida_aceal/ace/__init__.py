"""ACE engine: potentials in pacemaker's formats, their exact and fast evaluation. Knows nothing of the rest."""

from .errors import AceError
from .potential import AcePotential, BasisFunction, Bond, Species

__all__ = ["AceError", "AcePotential", "BasisFunction", "Bond", "Species"]
