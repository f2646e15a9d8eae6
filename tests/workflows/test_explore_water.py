"""Walkers of molecules in a cell that is not orthogonal: water, labelled by GFN1-xTB."""

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.ace import AceModel, build_potential
from aiida_aceal.fitting import fit_linear
from aiida_aceal.uncertainty import build_active_set

pytestmark = pytest.mark.long


def box(rng) -> Atoms:
    """Eight water molecules in a skewed cell of liquid density, turned and stretched at random."""
    cell = 6.2 * np.array([[1.0, 0.0, 0.0], [0.3, 0.95, 0.0], [0.1, -0.2, 1.08]])
    atoms = Atoms(cell=cell, pbc=True)
    for site in np.ndindex(2, 2, 2):
        one = molecule("H2O")
        one.rotate(rng.uniform(0, 360), rng.normal(size=3), center="COM")
        one.rattle(0.03, rng=rng)
        one.translate((np.array(site) + 0.25) / 2 @ cell)
        atoms += one
    return atoms


@pytest.fixture(scope="module")
def water(aiida_profile):
    pytest.importorskip("tblite")
    from tblite.ase import TBLite

    rng = np.random.default_rng(4)
    structures = []
    for _ in range(12):
        atoms = box(rng)
        atoms.calc = TBLite(method="GFN1-xTB", verbosity=0)
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        structures.append(atoms)
    basis = build_potential(
        {"elements": ["H", "O"], "cutoff": 4.0, "nradmax_by_orders": [6, 2], "lmax_by_orders": [0, 2]}
    )
    potential = fit_linear(basis, structures, {"repulsion": "auto"}).potential
    model = AceModel(potential)
    return structures, model, build_active_set(model, structures)


def test_walkers_of_water_in_a_skewed_cell(water, codes, tmp_path):
    from aiida_aceal.data.active_set import ActiveSetData
    from aiida_aceal.data.dataset import ConfigurationsData
    from aiida_aceal.data.potential import AcePotentialData

    structures, model, active_set = water
    potential = AcePotentialData(potential=model.potential)
    active_set.save(tmp_path / "water.asi")
    outputs, node = run_get_node(
        WorkflowFactory("aceal.explore.md"),
        code=codes["aceal-lmp"],
        potential=potential,
        active_set=ActiveSetData(file=str(tmp_path / "water.asi"), potential=potential),
        configurations=ConfigurationsData.from_atoms(structures[:2], source="start"),
        settings={
            "steps": 20,
            "gamma_interval": 5,
            "timestep_ps": 0.0005,
            "temperature_K": 300.0,
            "gamma_lo": 0.01,
            "gamma_hi": 1e9,
        },
        seed=orm.Int(5),
    )
    assert node.is_finished_ok, node.exit_message
    report = outputs["report"].get_dict()
    assert report["n_walkers"] == 2
    assert report["n_failed"] == 0
    assert report["steps_reached"] == 20
    frames = outputs["candidates"].to_atoms()
    assert {atoms.info["walker"] for atoms in frames} == {"walker_000", "walker_001"}
    model.active_set = active_set
    for atoms in frames:
        assert atoms.get_chemical_formula() == "H16O8"
        assert atoms.cell.angles() == pytest.approx(structures[0].cell.angles(), abs=1e-6)
        assert atoms.arrays["gamma"] == pytest.approx(model.evaluate(atoms, gamma=True).gamma, rel=1e-5)
    # molecules keep their bonds in this short run: each H has exactly one O
    last = frames[-1]
    hydrogen, oxygen = (np.flatnonzero(last.symbols == el) for el in ("H", "O"))
    for k in hydrogen:
        assert (last.get_distances(k, oxygen, mic=True) < 1.4).sum() == 1
