"""The reference set of `viability`: exploded candidates are refused, spreads follow sizes, energies compositions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.ace import AceError, AceModel, build_potential
from aiida_aceal.common.configurations import read_configurations, write_configurations
from aiida_aceal.fitting import fit_linear
from aiida_aceal.selection import select
from aiida_aceal.selection.reference import ReferenceStatistics, spread_by_size
from aiida_aceal.uncertainty import build_active_set

BASIS = {
    "elements": ["Cu"], "cutoff": 5.0, "nradmax_by_orders": [6, 3], "lmax_by_orders": [0, 2],
    "core-repulsion": [100.0, 5.0], "r_in": 1.8, "delta_in": 0.3,
}  # fmt: skip


@pytest.fixture(scope="module")
def copper():
    """(potential, active set, training set, 10 good and 90 exploded candidates)."""
    rng = np.random.default_rng(0)

    def shaken(amplitude: float, repeat=(1, 1, 1), strain: float = 0.0, shape: float = 0.0) -> Atoms:
        atoms = bulk("Cu", cubic=True) * repeat
        tetragonal = np.diag([1 + shape, 1 - shape / 2, 1 - shape / 2])
        atoms.set_cell(atoms.cell @ tetragonal * rng.uniform(1 - strain, 1 + strain), scale_atoms=True)
        atoms.positions += rng.normal(0.0, amplitude, atoms.positions.shape)
        return atoms

    train = []
    for k in range(40):
        atoms = shaken(rng.uniform(0.03, 0.15), (1, 1, 1) if k < 30 else (2, 1, 1), 0.03)
        work = atoms.copy()
        work.calc = EMT()
        atoms.calc = SinglePointCalculator(
            atoms, energy=work.get_potential_energy(), forces=work.get_forces(), stress=work.get_stress()
        )
        train.append(atoms)
    candidates = [shaken(0.06, shape=0.15) for _ in range(10)] + [shaken(0.5) for _ in range(90)]
    potential = fit_linear(build_potential(BASIS), train, {"threads": 1}).potential
    return potential, build_active_set(AceModel(potential, threads=1), train), train, candidates


def test_exploded_candidates_are_refused(copper):
    """Measured by the training set none is taken; measured by the pool nearly all that is taken is exploded."""
    potential, active_set, train, candidates = copper
    model = AceModel(potential, threads=1)
    common = {"model": model, "active_set": active_set, "duplicate_distance": 0}
    taken = []
    for seed in range(5):
        chosen = select("viability", candidates, 100, seed, reference=train, **common)
        taken += chosen.indices
    assert len(taken) >= 5
    assert all(index < 10 for index in taken)
    assert chosen.report()["reference"]["n_structures"] == 40
    assert any("40 reference structures" in note for note in chosen.report()["notes"])
    by_itself = select("viability", candidates, 100, reference=candidates, **common).indices
    assert sum(index >= 10 for index in by_itself) > 0.9 * len(by_itself) > 0
    with pytest.raises(AceError, match=r"give the training set .*\{U, sU, E, sE\}"):
        select("viability", candidates, 100, **common)


def test_on_the_command_line(copper, tmp_path):
    """``--reference`` takes several files; without it ``viability`` is refused with the remedy."""
    potential, active_set, train, candidates = copper
    (tmp_path / "pot.yaml").write_text(potential.to_yaml())
    active_set.save(tmp_path / "pot.asi")
    write_configurations(tmp_path / "pool.extxyz", candidates)
    write_configurations(tmp_path / "a.extxyz", train[:25])
    write_configurations(tmp_path / "b.extxyz", train[25:])
    words = ["select", "pot.yaml", "pot.asi", "pool.extxyz", "--strategy", "viability", "--count", "100", "-o", "s.xyz"]

    def run(*more):
        script = Path(sys.executable).parent / "aceal-worker"
        return subprocess.run([str(script), *words, *more], cwd=tmp_path, capture_output=True, text=True, timeout=300)

    refused = run()
    assert refused.returncode != 0
    assert "--reference" in refused.stderr
    done = run("--reference", "a.extxyz", "--reference", "b.extxyz", "--report", "r.json", "--duplicate-distance", "0")
    assert done.returncode == 0, done.stderr
    assert "40 reference structures" in done.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    model = AceModel(potential, threads=1)
    expected = select(
        "viability", candidates, 100, model=model, active_set=active_set, duplicate_distance=0, reference=train
    )
    assert [entry["index"] for entry in report["selected"]] == expected.indices
    assert len(read_configurations(tmp_path / "s.xyz")) == len(expected.indices) > 0


def test_spread_of_a_mean():
    """Independent atoms: s_1 / sqrt(N), also at sizes that were not there; whole structures: the same at all sizes."""
    rng = np.random.default_rng(1)
    n = rng.choice([2, 8, 54, 128], 4000)
    s0, s1 = spread_by_size(rng.normal(size=4000) * 0.3 / np.sqrt(n), n)
    assert s1 == pytest.approx(0.3, rel=0.05)
    assert s0 < 0.01
    s0, s1 = spread_by_size(rng.normal(size=4000) * 0.05, n)
    assert s0 == pytest.approx(0.05, rel=0.05)
    assert s1 < 0.05
    s0, s1 = spread_by_size(rng.normal(size=4000) * np.sqrt(0.03**2 + 0.2**2 / n), n)
    assert (s0, s1) == (pytest.approx(0.03, rel=0.15), pytest.approx(0.2, rel=0.1))
    # one size: all of it is that of a mean
    assert spread_by_size(np.array([0.1, -0.1, 0.1, -0.1]), np.full(4, 16)) == (0.0, pytest.approx(0.4))


def test_one_size_and_composition_is_mean_and_standard_deviation():
    rng = np.random.default_rng(2)
    cells = [bulk("Cu", cubic=True) for _ in range(30)]
    u, e = rng.uniform(0.5, 1.0, 30), rng.normal(-3.0, 0.1, 30)
    found = ReferenceStatistics.of(cells, u, e, ("Cu",), {"Cu": -1.5})
    assert (found.U, found.sU) == (pytest.approx(u.mean()), pytest.approx(u.std()))
    assert found.mean_energy(cells[:1])[0] == pytest.approx(e.mean())
    assert found.energy_spread(np.array([4]))[0] == pytest.approx(e.std(), rel=1e-6)
    assert found.energy_spread(np.array([64]))[0] == pytest.approx(e.std() / 4, rel=1e-3)


def alloy(n_ni: int) -> Atoms:
    atoms = bulk("Al", cubic=True)
    atoms.symbols[:n_ni] = "Ni"
    return atoms


def test_energies_follow_the_composition():
    """Al-rich and Ni-rich cells differ by electronvolts; neither that nor the reference energies are a spread."""
    rng = np.random.default_rng(3)
    cells = [alloy(k % 5) for k in range(50)]
    x = np.array([k % 5 for k in range(50)]) / 4
    e = -3.5 - 2.0 * x + rng.normal(0.0, 0.02, 50)
    found = ReferenceStatistics.of(cells, np.ones(50), e, ("Al", "Ni"), {"Al": -1.0, "Ni": 0.3})
    np.testing.assert_allclose(found.mean_energy([alloy(1), alloy(4)]), [-4.0, -5.5], atol=0.02)
    assert found.energy_spread(np.array([4]))[0] == pytest.approx(0.02, rel=0.2)
    assert found.foreign_compositions([alloy(2)]) == 0


def test_compositions_beyond_the_reference():
    """Of one composition nothing is learnt about others: there the reference energies of the potential count."""
    cells = [alloy(1) for _ in range(10)]
    e = np.linspace(-4.1, -3.9, 10)
    found = ReferenceStatistics.of(cells, np.ones(10), e, ("Al", "Ni"), {"Al": -1.0, "Ni": -5.0})
    np.testing.assert_allclose(found.mean_energy([alloy(1), alloy(2)]), [-4.0, -5.0], atol=1e-9)
    assert found.foreign_compositions([alloy(1), alloy(2), alloy(0)]) == 2


def test_given_numbers():
    numbers = {"U": 1.0, "sU": 0.5, "E": -3.0, "sE": 0.1}
    flat = ReferenceStatistics.from_numbers(numbers)
    np.testing.assert_allclose(flat.energy_spread(np.array([1, 100])), 0.1)
    scaled = ReferenceStatistics.from_numbers({**numbers, "atoms": 4})
    np.testing.assert_allclose(scaled.energy_spread(np.array([1, 4, 100])), [0.2, 0.1, 0.02])
    with pytest.raises(AceError, match="lacks E, sE"):
        ReferenceStatistics.from_numbers({"U": 1.0, "sU": 0.5})
    with pytest.raises(AceError, match="does not know sigma"):
        ReferenceStatistics.from_numbers({**numbers, "sigma": 1.0})
    with pytest.raises(AceError, match="spread must be positive"):
        ReferenceStatistics.from_numbers({**numbers, "sE": 0.0})
    with pytest.raises(AceError, match="at least 2"):
        ReferenceStatistics.of([alloy(0)], np.ones(1), np.ones(1), ("Al", "Ni"), {})
