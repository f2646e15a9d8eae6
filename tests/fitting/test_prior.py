"""Priors and the count of rows: symmetry must not pass for precision, other compositions must stay finite."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.ace import AceModel, build_potential
from aiida_aceal.fitting import FitSettings, fit_linear
from aiida_aceal.fitting.job import prepare
from aiida_aceal.fitting.linear import design_windows, first_density_weights
from aiida_aceal.fitting.prior import composition_bound, exchanged


def emt(atoms):
    """A copy with energy and forces of EMT."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def rattled(count, seed):
    """Cubic fcc cells of copper with displaced atoms."""
    out = []
    for k in range(count):
        atoms = bulk("Cu", a=3.6, cubic=True)
        atoms.rattle(0.1, seed=seed + k)
        out.append(emt(atoms))
    return out


def crystals():
    """Crystals of copper whose forces vanish by symmetry; positions of some are rounded, as in files."""
    out = []
    for a in np.linspace(3.4, 4.0, 12):
        atoms = bulk("Cu", a=a, cubic=True) * (1, 1, 2)
        atoms.positions = np.round(atoms.positions, 6)
        out.append(emt(atoms))
    return out + [emt(bulk("Cu", "bcc", a=a, cubic=True) * (2, 1, 1)) for a in np.linspace(2.7, 3.1, 8)]


@pytest.fixture(scope="module")
def copper():
    """A basis of 164 functions."""
    return build_potential(
        {"elements": ["Cu"], "cutoff": 6.0, "nradmax_by_orders": [10, 5, 3, 2], "lmax_by_orders": [0, 3, 2, 1]}, seed=0
    )


def test_rows_that_vanish_by_symmetry_are_not_counted(copper):
    held = [a.copy() for a in crystals()[:2]]
    for atoms in held:  # forces that are not zero although symmetry says so are a misfit, and count
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.full((len(atoms), 3), 0.2))
    job = prepare(copper, [*crystals(), *rattled(4, 0), *held], FitSettings(), None)
    rows = [block for block in design_windows(job, first_density_weights(copper))]
    informs = np.concatenate([r[2] for r in rows])
    structure = np.concatenate([r[1] for r in rows])
    counted = np.bincount(structure, informs)
    assert (counted[:20] == 1).all()  # the energy
    assert (counted[20:24] == 13).all()
    assert (counted[24:] == 25).all()


@pytest.mark.parametrize("method", ["evidence", "ard"])
def test_symmetric_structures_do_not_spoil_the_evidence(copper, method):
    result = fit_linear(copper, crystals() + rattled(4, 0), {"regularization": {"method": method}}, rattled(6, 50))
    assert result.metrics["validation"]["forces"]["rmse"] < 0.01


def alloys():
    """fcc and bcc cells of four atoms, 0 to 100 % aluminium, over a range of volumes; with the fraction of Al."""
    rng = np.random.default_rng(0)
    out = []
    for n in range(5):
        for a in (3.45, 3.55, 3.65, 3.8, 4.0):
            for lattice in ("fcc", "bcc"):
                atoms = bulk("Ni", lattice, a=a if lattice == "fcc" else 0.8 * a, cubic=True)
                atoms = atoms * (1, 1, 4 // len(atoms))
                atoms.set_cell(atoms.cell * (1 + 0.035 * n), scale_atoms=True)
                atoms.symbols[:n] = "Al"
                if a in (3.65, 3.8):
                    atoms.rattle(0.04, rng=rng)
                out.append(emt(atoms))
    return out, np.array([np.mean(a.symbols == "Al") for a in out])


@pytest.mark.parametrize("method", ["evidence", "ard"])
def test_other_compositions_stay_finite(method):
    """Trained at up to one half of aluminium, the energies of alloys richer in it are no nonsense."""
    frames, x = alloys()
    train = [a for a, v in zip(frames, x) if v <= 0.5]
    rich = [a for a, v in zip(frames, x) if v > 0.5]
    basis = {
        "elements": ["Al", "Ni"],
        "cutoff": 7.0,
        "nradmax_by_orders": [10, 3, 2, 1],
        "lmax_by_orders": [0, 2, 1, 1],
    }
    held, free = (
        fit_linear(
            build_potential(basis, seed=0), train, {"regularization": {"method": method, "composition_bound": b}}, rich
        )
        for b in (10.0, None)
    )
    errors = [np.median(np.abs(r.validation.energy_errors())) for r in (held, free)]
    assert errors[0] < 0.4 < 0.8 < errors[1]
    # where there are data, nothing is given away
    assert held.metrics["train"]["energy"]["rmse"] < 1.2 * free.metrics["train"]["energy"]["rmse"]


def test_basis_of_a_publication_with_few_data():
    """Table 1 of Y. Lysogorskiy et al., Phys. Rev. Mater. 7, 043801 (2023): more functions than rows, no noise."""
    frames, x = alloys()
    train = [a for a, v in zip(frames, x) if v <= 0.5]
    rich = [a for a, v in zip(frames, x) if v > 0.5]
    result = fit_linear(build_potential({"preset": "Al-Ni"}, seed=0), train, None, rich)
    assert np.median(np.abs(result.validation.energy_errors())) < 2.0


def test_bound_is_that_of_the_energies_of_exchanged_structures(small_potential, random_structures, label):
    true = small_potential(elements=("Al", "Ni"), scale=0.05)
    data = label(random_structures(5, ("Al", "Ni")), true)
    P = composition_bound(prepare(true, data, FitSettings(), None))
    c = np.concatenate([true.coefficients(el)[0] for el in true.elements])
    model = AceModel(true)
    expected = [model.evaluate(a).energy / len(a) / 10.0 for a in exchanged(data, ["Al", "Ni"])]
    # small sets keep their rows, large ones a triangle: the sum of squares is the same
    assert np.sum((P @ c) ** 2) == pytest.approx(np.sum(np.square(expected)))
    one = prepare(true, label(random_structures(5, ("Al",)), true), FitSettings(), None)
    assert composition_bound(one) is None


def test_exchanged_structures():
    frames = [bulk("Ni", cubic=True), bulk("Ni", cubic=True)]
    frames[0].symbols[:2] = "Al"
    new = list(exchanged(frames, ["Al", "Ni"]))
    assert len(new) == 2 * 3 * 3
    assert [a.get_chemical_formula() for a in new[:9:3]] == ["Al4", "Ni4", "Al2Ni2"]
    # scaled by the covalent radii: swapping the elements of Al2Ni2 changes no length but by the strain
    assert new[6].cell.lengths()[0] / frames[0].cell.lengths()[0] == pytest.approx(0.95)
    assert new[0].cell.lengths()[0] / frames[0].cell.lengths()[0] < 0.95
    many = list(exchanged(frames * 500, ["Al", "Ni"]))
    assert len(many) == 64 * 9
