"""ACE engine: potentials in pacemaker's formats, their exact and fast evaluation. Knows nothing of the rest.

Names are loaded when first used, so that reading a potential does not load the compiled kernels.
"""

from importlib import import_module

from aiida_aceal.common.errors import AceError

_WHERE = {
    "AceArrays": "model",
    "AceCalculator": "calculator",
    "AceModel": "model",
    "AcePotential": "potential",
    "AceResult": "model",
    "BasisFunction": "potential",
    "Bond": "potential",
    "CTildePotential": "yace",
    "LinearSystem": "design",
    "ProjectionRows": "model",
    "Species": "potential",
    "Tangent": "derivatives",
    "build_potential": "build",
}

__all__ = ["AceError", *_WHERE]


def __getattr__(name: str):
    if name in _WHERE:
        return getattr(import_module(f".{_WHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
