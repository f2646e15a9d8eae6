"""Elements with different numbers of densities: the form for other engines changes no number."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from click.testing import CliRunner

from aiida_aceal.ace import AceError, AceModel, AcePotential, build_potential
from aiida_aceal.uncertainty import ActiveSet, build_active_set
from aiida_aceal.uncertainty.equal_densities import with_equal_densities
from aiida_aceal.worker.main import main


@pytest.fixture(scope="module")
def potential():
    """Al has one density, Cu two, Ni three."""
    pot = build_potential(
        {
            "elements": ["Al", "Cu", "Ni"],
            "cutoff": 4.5,
            "embeddings": {"Cu": {"ndensity": 2}, "Ni": {"ndensity": 3}},
            "bonds": {"ALL": {"r_in": 1.5, "delta_in": 0.3, "core-repulsion": [100.0, 1.0]}},
            "functions": {"ALL": {"nradmax_by_orders": [3, 2], "lmax_by_orders": [0, 1]}},
        }
    )
    rng = np.random.default_rng(3)
    return pot.with_coefficients({el: rng.normal(scale=0.1, size=pot.coefficients(el).shape) for el in pot.elements})


@pytest.fixture(scope="module")
def frames():
    result = []
    for seed in range(30):
        atoms = bulk("Cu", cubic=True, a=3.7) * (2, 1, 1)
        atoms.symbols = np.random.default_rng(seed).choice(["Al", "Cu", "Ni"], 8)
        atoms.rattle(0.25, seed=seed)
        result.append(atoms)
    return result


def test_energies_and_forces_do_not_change_by_a_bit(potential, frames):
    equal = potential.with_equal_densities()
    assert potential.n_densities == {"Al": 1, "Cu": 2, "Ni": 3}
    assert equal.n_densities == {"Al": 3, "Cu": 3, "Ni": 3}
    assert equal.species["Al"].parameters == (1.0, 1.0, 0.0, 1.0, 0.0, 1.0)
    assert equal.with_equal_densities() is equal
    read = AcePotential.from_yaml(equal.to_yaml())
    one, two = AceModel(potential, threads=1), AceModel(read, threads=1)
    for atoms in frames[:5]:
        a, b = one.evaluate(atoms), two.evaluate(atoms)
        assert a.energy == b.energy
        np.testing.assert_array_equal(a.forces, b.forces)
        np.testing.assert_array_equal(a.virial, b.virial)
    for el, rows in one.projections(frames[:5]).items():
        np.testing.assert_array_equal(rows.rows, two.projections(frames[:5])[el].rows)


def test_yace_has_equal_densities(potential, frames, tmp_path):
    potential.write(tmp_path / "pot.yace")
    tilde = AcePotential.read(tmp_path / "pot.yace")
    assert tilde.n_densities == {"Al": 3, "Cu": 3, "Ni": 3}
    for atoms in frames[:3]:
        expected = AceModel(potential, threads=1).evaluate(atoms)
        assert AceModel(tilde, threads=1).evaluate(atoms).forces == pytest.approx(expected.forces, abs=1e-11)


def test_full_active_set_of_equal_size(potential, frames, tmp_path):
    """The form that ML-PACE takes for a full set: P K rows with the same P for all elements."""
    model = AceModel(potential, threads=1)
    active = build_active_set(model, frames, "full", seed=0)
    functions = potential.n_functions
    assert [len(active.inverses[el]) for el in ("Al", "Cu", "Ni")] == [
        functions[el] * p for el, p in zip(functions, (1, 2, 3))
    ]
    equal = with_equal_densities(active, functions, potential.n_densities)
    equal.save(tmp_path / "set.asi")
    with np.load(tmp_path / "set.asi") as arrays:
        assert {el: len(arrays[el]) for el in arrays.files} == {el: 3 * k for el, k in functions.items()}
    assert equal.rank == active.rank
    assert equal.log_volume == pytest.approx(active.log_volume)
    padded = potential.with_equal_densities()
    other = AceModel(padded, threads=1)
    other.active_set = ActiveSet.load(tmp_path / "set.asi", padded)
    model.active_set = active
    for atoms in frames[:5]:
        expected = model.evaluate(atoms, gamma=True).gamma
        assert other.evaluate(atoms, gamma=True).gamma == pytest.approx(expected, rel=1e-10)
    # the same file belongs to the potential it was made for
    again = ActiveSet.load(tmp_path / "set.asi", potential)
    assert again.kind == "full"
    for el in functions:
        np.testing.assert_array_equal(again.inverses[el], active.inverses[el])
        np.testing.assert_array_equal(again.environments[el], active.environments[el])
    # linear sets need nothing
    linear = build_active_set(model, frames, "linear", seed=0)
    assert with_equal_densities(linear, functions, potential.n_densities) is linear


def test_set_of_a_potential_with_more_densities_is_refused(potential, frames, tmp_path):
    padded = potential.with_equal_densities()
    rng = np.random.default_rng(0)
    arrays = {el: rng.normal(size=(3 * k, 3 * k)) for el, k in padded.n_functions.items()}
    np.savez(tmp_path / "set", **arrays)
    (tmp_path / "set.npz").rename(tmp_path / "set.asi")
    with pytest.raises(AceError, match="set of Al was made for a potential with more densities"):
        ActiveSet.load(tmp_path / "set.asi", potential)
    assert ActiveSet.load(tmp_path / "set.asi", padded).kind == "full"


def test_reference_of_different_densities(reference_dir):
    """Numbers of LAMMPS with gamma at every step, where it is right without equal densities."""
    case = reference_dir / "cases" / "alcuni_mixed_ndens"
    equal = AcePotential.read(case / "pot.yaml").with_equal_densities()
    assert set(equal.n_densities.values()) == {2}
    model = AceModel(equal, threads=1)
    with np.load(case / "reference.npz") as data:
        names = sorted({key.split("/")[0] for key in data.files})[:6]
        for name in names:
            atoms = Atoms(
                data[f"{name}/numbers"], data[f"{name}/positions"], cell=data[f"{name}/cell"], pbc=data[f"{name}/pbc"]
            )
            assert model.evaluate(atoms).energy == pytest.approx(
                float(data[f"{name}/lammps_energy"]), rel=1e-8, abs=1e-8
            )


def test_worker_writes_what_other_engines_read(potential, frames, tmp_path):
    """One file for the potential as it is and for that of equal densities: the same grades."""
    run = CliRunner().invoke
    pot, asi, data = (str(tmp_path / name) for name in ("pot.yaml", "set.asi", "data.extxyz"))
    potential.write(pot)
    potential.with_equal_densities().write(tmp_path / "equal.yaml")
    ase.io.write(data, frames)
    result = run(main, ["active-set", pot, data, "-o", asi, "--kind", "full"])
    assert result.exit_code == 0, result.output
    assert "elements have different numbers of densities" in result.output
    with np.load(asi) as arrays:
        assert {el: len(arrays[el]) for el in arrays.files} == {el: 3 * k for el, k in potential.n_functions.items()}
    gammas = []
    for name in ("pot.yaml", "equal.yaml"):
        result = run(main, ["grade", str(tmp_path / name), asi, data, "-o", str(tmp_path / "out.extxyz")])
        assert result.exit_code == 0, result.output
        gammas.append(np.concatenate([a.arrays["gamma"] for a in ase.io.read(tmp_path / "out.extxyz", ":")]))
    assert gammas[0].max() == pytest.approx(1.0, abs=0.01)
    assert gammas[1] == pytest.approx(gammas[0], rel=1e-6)
    result = run(main, ["active-set", pot, data, "-o", asi, "--kind", "full", "--previous", asi])
    assert result.exit_code == 0, result.output
