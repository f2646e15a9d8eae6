"""A real campaign of a minute: copper, EMT, 32 atoms, short runs. Shared by tests, also by those in processes."""

from __future__ import annotations

from copy import deepcopy

from aiida_aceal.inputs.campaign import make_builder, prepare
from aiida_aceal.inputs.schema import check_campaign
from aiida_aceal.workflows.protocol import merged

CELL = {"bulk": "Cu", "crystal": "fcc", "a": 3.70, "cubic": True}
SMALL = {
    "title": "small",
    "seed": 3,
    "basis": {
        "cutoff": 5.5,
        "nradmax_by_orders": [5, 3, 2],
        "lmax_by_orders": [0, 2, 1],
        "core-repulsion": [100.0, 5.0],
        "r_in": 1.7,
        "delta_in": 0.3,
    },
    "initial": [{"kind": "rattled", "structure": CELL, "supercell": [2, 2, 2], "count": 6, "amplitude": 0.04}],
    "validation": {
        "start": [{"kind": "supercells", "structure": CELL, "sizes": [[2, 2, 2]]}],
        "temperature": [300.0, 1200.0],
        "steps": 200,
        "interval": 25,
        "timestep": 0.004,
    },
    "test": [{"kind": "rattled", "structure": CELL, "supercell": [2, 2, 2], "count": 4, "amplitude": 0.1}],
    "label": {"settings": {"calculator": "emt"}},
    "explore": {
        "md": {
            "start": [{"kind": "supercells", "structure": CELL, "sizes": [[2, 2, 2]]}],
            "settings": {
                "temperature_K": 300.0,
                "temperature_end_K": 900.0,
                "timestep_ps": 0.004,
                "steps": 400,
                "gamma_interval": 10,
            },
        }
    },
    "selection": {"count": 6},
    "window": {"gamma_lo": 1.5, "gamma_hi": 20.0, "gamma_stop": 5.0},
    "loop": {"max_generations": 8},
    "threads": 1,
}


def small(**changes) -> dict:
    """Input of the small campaign with changes laid over it."""
    return merged(deepcopy(SMALL), changes)


def builder_for(data: dict, codes: dict):
    """Builder of a campaign; ``codes``: name of the executable (or label) -> code."""
    prepared = prepare(check_campaign(data))
    find = lambda label, default, where: codes[label or default]  # noqa: E731
    make_builder(prepared, find, store=False)
    return make_builder(prepared, find, store=True)
