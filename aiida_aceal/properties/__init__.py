"""Properties of materials as people know them: equation of state, elastic constants, phonons, defects, surfaces, MD.

Each property is two pure steps: structures to be computed, and numbers from those structures with labels. What lies
between, an ACE, an ASE calculator or jobs of AiiDA, is exchangeable. Needs the extra ``properties``. Imports no AiiDA.
"""

from .compare import compare_properties, comparison_lines, intervals_that_hold, is_principal, worst_row
from .engine import Engine, Fixed, Relaxer
from .lattice import common_structures, eos_structures, reference_lattices
from .run import compute_properties, property_numbers, property_structures
from .settings import PropertiesSettings

__all__ = [
    "Engine", "Fixed", "PropertiesSettings", "Relaxer", "common_structures", "compare_properties", "comparison_lines",
    "compute_properties", "eos_structures", "intervals_that_hold", "is_principal", "property_numbers",
    "property_structures", "reference_lattices", "worst_row",
]  # fmt: skip
