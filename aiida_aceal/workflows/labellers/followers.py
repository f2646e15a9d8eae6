"""WorkChains of DFT plugins that follow a campaign's choice of caching for the calculations they submit.

The plugins are optional, so each class is made when it is first asked for.
"""

from __future__ import annotations

from typing import Any

from aiida.plugins import WorkflowFactory

from aiida_aceal.workflows.caching import FollowsCaching

#: name of the class, that of its base -> entry point of the base
BASES = {"VaspWorkChain": "vasp.vasp", "PwBaseWorkChain": "quantumespresso.pw.base"}


def __getattr__(name: str) -> Any:
    if name not in BASES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    base = WorkflowFactory(BASES[name])
    made = type(name, (FollowsCaching, base), {"__module__": __name__, "__doc__": f"{BASES[name]}, cached as chosen."})
    globals()[name] = made
    return made


def follower_of(entry_point: str) -> type:
    """The class that stands for an entry point of a plugin.

    :raises aiida.common.exceptions.EntryPointError: the plugin is not installed
    """
    name = next(key for key, value in BASES.items() if value == entry_point)
    return globals().get(name) or __getattr__(name)
