"""Published bases by name: the numbers of functions are those of the publication."""

from __future__ import annotations

from collections import Counter

import pytest

from aiida_aceal.ace import AceError, build_potential
from aiida_aceal.ace.presets import PRESETS

# Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023), Table 1
TABLE = {
    "Cu": (["Cu"], [15, 60, 160, 300, 144, 50, 3]),
    "Al-Ni": (["Al", "Ni"], [21, 51, 55, 21, 2]),
    "Water": (["H", "O"], [30, 108, 490, 245, 476, 50]),
    "Li": (["Li"], [15, 50, 137, 75, 30, 1]),
}


@pytest.mark.parametrize("name", TABLE)
def test_counts_of_the_table(name):
    elements, counts = TABLE[name]
    potential = build_potential({"preset": name})
    assert list(potential.elements) == elements
    for element in elements:
        found = Counter(f.rank for f in potential.functions(element))
        assert [found[rank] for rank in range(1, len(counts) + 1)] == counts
    assert {(bond.rcut, bond.radbase) for bond in potential.bonds.values()} == {(7.0, "SBessel")}
    assert list(PRESETS[name].counts) == counts


def test_presets_can_be_adapted():
    potential = build_potential({"preset": "li", "elements": "Na", "cutoff": 8.0, "embedding": "sqrt"})
    assert potential.n_functions == {"Na": 308}
    assert (potential.cutoff, potential.n_densities["Na"]) == (8.0, 2)
    bonds = {"ALL": {"rcut": 6.0, "r_in": 1.0, "delta_in": 0.2}}
    assert build_potential({"preset": "Li", "bonds": bonds}).cutoff == 6.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "Watr"}, "unknown name 'Watr'; nearest known: 'Water'; known: Cu, Al-Ni, Water, Li"),
        ({"preset": None}, "unknown name None"),
        ({"elements": ["Cu", "I"]}, "basis of 1 element .Li., but the description names 2: Cu, I"),
        ({"nradmax_by_orders": [4]}, "says which functions there are; leave out nradmax_by_orders or the preset"),
        ({"functions": {"ALL": {}}}, "leave out functions"),
        ({"number_of_functions_per_element": 9}, "leave out number_of_functions_per_element"),
    ],
)
def test_refused(change, message):
    with pytest.raises(AceError, match=message):
        build_potential({"preset": "Li", **change})
