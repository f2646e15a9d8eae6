"""Point defects against ASE run directly, voids of known crystals, compounds."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.optimize import BFGS

from aiida_aceal.properties import Engine, PropertiesSettings, compute_properties
from aiida_aceal.properties.crystal import crystal
from aiida_aceal.properties.interstitial import voids


def compute(names, given, **words):
    settings = PropertiesSettings(properties=names, defects={"cell_length": 7.0, "images": 3, **words})
    return compute_properties(settings, given, Engine(EMT, "emt"))


def relaxed(atoms):
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=0.002, steps=300)
    return atoms.get_potential_energy()


def test_vacancy_and_its_hop():
    numbers, frames = compute("vacancy", [bulk("Cu")], migration=True)
    host = next(f for f in frames if f.info["case"] == "perfect").copy()
    perfect = relaxed(host)
    hole = host.copy()
    del hole[5]
    ours = numbers["vacancy"]["Cu"]
    assert ours["formation_energy_eV"] == pytest.approx(relaxed(hole) - perfect * 31 / 32, abs=2e-3)
    # the saddle of a hop in fcc is half way, by symmetry: atom 5 is gone, a neighbour in the middle
    neighbour = int(np.argsort(host.get_distances(5, range(32), mic=True))[1])
    saddle = host.copy()
    saddle.positions[neighbour] += 0.5 * host.get_distance(neighbour, 5, mic=True, vector=True)
    mover = neighbour - (neighbour > 5)
    del saddle[5]
    from ase.constraints import FixAtoms

    saddle.set_constraint(FixAtoms([mover]))
    assert ours["migration"]["barrier_eV"] == pytest.approx(relaxed(saddle) - relaxed(hole), abs=0.01)
    assert ours["migration"]["reverse_barrier_eV"] == pytest.approx(ours["migration"]["barrier_eV"], abs=2e-3)


def test_voids_of_fcc_are_octahedral_and_tetrahedral():
    found = voids(crystal(bulk("Cu", a=4.0)))
    assert [room for _, room in found] == pytest.approx([2.0, np.sqrt(3.0)])
    bcc = voids(crystal(bulk("Fe", "bcc", a=4.0)))
    assert bcc[0][1] == pytest.approx(np.sqrt(5))


def test_interstitial():
    numbers, frames = compute("interstitial", [bulk("Cu")], max_sites=1)
    host = next(f for f in frames if f.info["case"] == "perfect").copy()
    octahedral = host.copy()
    octahedral.append("Cu")
    octahedral.positions[-1] = (host.cell[0] / 4 + host.cell[1] / 4 + host.cell[2] / 4) + 0.001
    assert len(octahedral) == 33
    ours = numbers["interstitial"]["Cu"]
    direct = relaxed(octahedral) - relaxed(host) * 33 / 32
    assert ours["formation_energy_eV"] == pytest.approx(direct, abs=0.01)
    assert ours["site"] == "Cu:1"


def test_compounds_need_their_elements():
    alloy = bulk("NiAl", "cesiumchloride", a=2.9)
    numbers, frames = compute("vacancy,antisite", [alloy, bulk("Al"), bulk("Ni")], cell_length=5.0)
    assert set(numbers["vacancy"]) == {"Al", "Ni"}
    # both antisites together: the chemical potentials cancel
    both = sum(data["formation_energy_eV"] for data in numbers["antisite"].values())
    host = next(f for f in frames if f.info["case"] == "perfect").copy()
    energies = []
    for old, new in (("Al", "Ni"), ("Ni", "Al")):
        swapped = host.copy()
        swapped.symbols[list(host.symbols).index(old)] = new
        energies.append(relaxed(swapped))
    assert both == pytest.approx(sum(energies) - 2 * relaxed(host), abs=5e-3)
    lone, _ = compute("vacancy,antisite", [alloy, bulk("Al")], cell_length=5.0)
    assert "chemical potential of Ni" in lone["vacancy"]["Ni"]["error"]
    al = numbers["vacancy"]["Al"]["formation_energy_eV"]
    assert lone["vacancy"]["Al"]["formation_energy_eV"] == pytest.approx(al, abs=1e-6)
    assert "chemical potential of Ni" in lone["antisite"]["error"]


def test_what_cannot_be_had_is_named():
    numbers, _ = compute("vacancy,antisite,elastic", [bulk("Cu")], cell_length=2.0)
    assert "raise defects.cell_length" in numbers["vacancy"]["error"]
    assert "two elements" in numbers["antisite"]["error"]
    assert numbers["elastic"]["born_stable"]
