"""Ensembles: one evaluation for all members, indicators, thresholds, files, randomisation."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_aceal.ace import AceError, AceModel
from aiida_aceal.fitting import Ensemble, fit_ensemble
from aiida_aceal.fitting.labels import collect_labels
from aiida_aceal.fitting.members import MemberModel, same_basis
from aiida_aceal.fitting.thresholds import NOTES, ensemble_thresholds, iqr_threshold


@pytest.fixture(scope="module")
def members(small_potential):
    """Factory: potentials of one basis with random coefficients."""

    def factory(count=4, elements=("Al", "Ni"), n_density=2):
        first = small_potential(elements=elements, n_density=n_density)
        others = [small_potential(elements=elements, n_density=n_density, seed=k) for k in range(1, count)]
        return [first, *(first.with_coefficients({e: o.coefficients(e) for e in elements}) for o in others)]

    return factory


@pytest.mark.parametrize("core", [None, "distance", "density", "zbl"])
def test_shared_evaluation_is_that_of_each_member(members, random_structures, core):
    potentials = members()
    if core is not None:
        r = {"distance": (2.5, 0.4), "density": (0.0, 0.0), "zbl": (2.4, 0.5)}[core]
        bonds = {
            pair: replace(b, inner_cutoff_type=core, r_in=r[0], delta_in=r[1],
                          core_repulsion=(1.0, 1.0) if core == "zbl" else (2.0, 0.5))
            for pair, b in potentials[0].bonds.items()
        }  # fmt: skip
        species = {el: replace(s, rho_core_cut=1.5, drho_core_cut=1.4) for el, s in potentials[0].species.items()}
        potentials = [replace(p, bonds=bonds, species=species) for p in potentials]
    structures = [*random_structures(3, ("Al", "Ni"), n=6), Atoms("AlNi", [[0, 0, 0], [2.0, 0, 0]]), Atoms("Al")]
    model = MemberModel(potentials, threads=2)
    for atoms, (energies, forces) in zip(structures, model.evaluate_batch(structures)):
        for m, p in enumerate(potentials):
            single = AceModel(p).evaluate(atoms, stress=False)
            assert energies[m] == pytest.approx(single.energy, rel=1e-10, abs=1e-12)
            np.testing.assert_allclose(forces[m], single.forces, rtol=1e-9, atol=1e-11)
    energies, forces = model.evaluate(structures[0], forces=False)
    assert forces is None
    assert energies[1] == pytest.approx(AceModel(potentials[1]).evaluate(structures[0]).energy, rel=1e-10)


def test_indicators_are_as_defined(members, random_structures):
    potentials = [p.with_reference_energies({"Al": 0.1 * k, "Ni": -0.2}) for k, p in enumerate(members())]
    structures = random_structures(4, ("Al", "Ni"), n=5)
    ensemble = Ensemble(potentials)
    dE, dF = ensemble.indicators(structures)
    for k, atoms in enumerate(structures):
        results = [AceModel(p).evaluate(atoms, stress=False) for p in potentials]
        free = [sum(p.reference_energies[s] for s in atoms.symbols) for p in potentials]
        E = np.array([r.energy for r in results]) + free
        F = np.array([r.forces for r in results])
        assert dE[k] == pytest.approx(np.abs(E - E.mean()).max() / 5)
        assert dF[k] == pytest.approx(max(np.linalg.norm(f - F.mean(0), axis=1).max() for f in F))
    np.testing.assert_allclose(ensemble.indicator(structures), dF)
    np.testing.assert_allclose(Ensemble(potentials, use="energy").indicator(structures), dE)


def test_members_of_different_radial_functions(members, random_structures):
    """Strong members share nothing, and give the same numbers in the same shape."""
    potentials = members(3)
    rng = np.random.default_rng(0)
    strong = [
        p.with_radial_coefficients(
            {("Al", "Ni"): p.bonds["Al", "Ni"].radcoefficients + 0.1 * rng.normal(size=(3, 3, 4))}
        )
        for p in potentials
    ]
    assert same_basis(potentials)
    assert not same_basis(strong)
    structures = random_structures(2, ("Al", "Ni"))
    got = Ensemble(strong).predict(structures)
    assert not Ensemble(strong).shared
    expected = AceModel(strong[2]).evaluate(structures[1])
    assert got.energies[1, 2] == pytest.approx(expected.energy)
    np.testing.assert_allclose(got.forces[1][2], expected.forces)


def test_no_disagreement_by_symmetry(members):
    """A perfect crystal has no forces whatever the coefficients: dF is blind there, dE is not."""
    ensemble = Ensemble(members())
    dE, dF = ensemble.indicators([bulk("Al", cubic=True)])
    assert dF[0] < 1e-10
    assert dE[0] > 1e-3


def test_iqr_rule():
    errors = np.array([1.0, 2.0, 3.0, 4.0, 100.0])  # Q1 = 2, Q3 = 4: e* = 7
    assert iqr_threshold(errors, np.array([0.1, 0.5, 0.2, 0.3, 9.0])) == 0.5


def test_energies_right_by_luck():
    """An energy error passes zero: members that are far apart do not become certain by it, and forces keep the rule."""
    rng = np.random.default_rng(0)
    dE = np.concatenate([rng.uniform(0.001, 0.01, 60), [0.25, 0.3]])
    errors = np.concatenate([rng.uniform(0.0, 1.0, 60) * dE[:60], [0.001, 0.2]])
    assert iqr_threshold(errors, dE) == 0.25
    limits, notes = ensemble_thresholds(errors, dE, errors, dE, np.zeros(62, dtype=bool))
    assert limits["energy"] == dE[:60].max()
    assert limits["forces"] == 0.25
    assert notes == []


@pytest.fixture(scope="module")
def mostly_crystals(random_structures, label, small_potential):
    """60 perfect crystals of small cells, whose forces vanish by symmetry, and 14 structures without symmetry."""
    true = small_potential(scale=0.05)
    crystals = [bulk("Cu", a=3.4 + 0.01 * k, cubic=bool(k % 2)) for k in range(60)]
    return true, label(crystals, true), label(random_structures(14), true, noise=0.05)


def test_vanishing_forces_are_left_out(mostly_crystals):
    """Perfect crystals are no evidence that forces are right: the threshold of dF is that of the other structures."""
    true, crystals, others = mostly_crystals
    rng = np.random.default_rng(7)
    for atoms in crystals:  # as read from a file with five decimals
        atoms.positions = atoms.positions.round(5)
    spread = [
        true.with_coefficients({"Cu": true.coefficients("Cu") * (1 + 0.05 * rng.normal(size=(1, 1)))}) for _ in range(4)
    ]
    alone, both = Ensemble(spread), Ensemble(spread)
    expected = alone.set_thresholds(collect_labels(others, ("Cu",)))
    assert alone.report[NOTES] == []
    found = both.set_thresholds(collect_labels([*crystals, *others], ("Cu",)))
    assert found == pytest.approx(expected)
    assert found["forces"] > 1e-2
    assert "leave out 60 of 74 structures whose forces vanish by symmetry" in both.report[NOTES][0]


def test_too_few_with_forces(mostly_crystals, tmp_path):
    """No threshold instead of one that calls everything uncertain; the members are kept, and the file says why."""
    true, crystals, others = mostly_crystals
    train = [*crystals, *others[:3]]
    with pytest.raises(AceError, match=r"only 3 structures .* do not vanish by symmetry, at least 5 .* add structures"):
        Ensemble([true, true]).set_thresholds(collect_labels(train, ("Cu",)))
    ensemble = fit_ensemble(true, train, {"threads": 1, "reference_energies": "none"}, {"members": 3})
    assert set(ensemble.thresholds) == {"energy"}
    ensemble.save(tmp_path / "a.zip")
    notes = Ensemble.load(tmp_path / "a.zip").report[NOTES]
    assert any("no threshold of dF" in note for note in notes)
    assert any("that of all 63 structures" in note for note in notes)


def test_thresholds(members, random_structures, label):
    potentials = members()
    data = label(random_structures(12, ("Al", "Ni")), potentials[0])
    data[3].calc.results["energy"] += 50.0
    labels = collect_labels(data, ("Al", "Ni"))
    ensemble = Ensemble(potentials)
    ensemble.set_thresholds(labels)
    dE, dF = ensemble.indicators(data)
    assert ensemble.thresholds["energy"] in dE
    assert ensemble.thresholds["forces"] in dF


def test_file_round_trip(members, random_structures, tmp_path):
    ensemble = Ensemble(members(3), "weak", "energy", {"energy": 0.1, "forces": 0.2}, {"seed": 3})
    ensemble.save(tmp_path / "a.zip")
    again = Ensemble.load(tmp_path / "a.zip")
    assert (again.method, again.use, again.thresholds, again.report) == (
        "weak",
        "energy",
        ensemble.thresholds,
        {"seed": 3},
    )
    structures = random_structures(2, ("Al", "Ni"))
    np.testing.assert_array_equal(again.predict(structures).energies, ensemble.predict(structures).energies)
    again.save(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist()[0] == "ensemble.json"


def test_bad_files_and_members(members, tmp_path, small_potential):
    with pytest.raises(AceError, match=r"none\.zip: no such file"):
        Ensemble.load(tmp_path / "none.zip")
    (tmp_path / "text.zip").write_text("no")
    with pytest.raises(AceError, match="not a readable archive"):
        Ensemble.load(tmp_path / "text.zip")
    with pytest.raises(AceError, match="at least two"):
        Ensemble(members(1))
    with pytest.raises(AceError, match="same elements"):
        Ensemble([small_potential(("Al",)), small_potential(("Cu",))])
    with pytest.raises(AceError, match="indicator 'gamma'"):
        Ensemble(members(2), use="gamma")


@pytest.mark.parametrize("method", ["subsample", "weights", "posterior"])
def test_linear_ensembles(small_potential, random_structures, label, method):
    true = small_potential(scale=0.05)
    train = label(random_structures(40), true, {"Cu": -1.0}, noise=0.05)
    settings = {"reference_energies": "joint", "seed": 2}
    ensemble = fit_ensemble(true, train, settings, {"members": 6, "method": method})
    assert len(ensemble) == 6
    assert ensemble.shared
    assert ensemble.method == method
    assert set(ensemble.thresholds) == {"energy", "forces"}
    # members disagree far more on what the training set does not hold than on it
    _, inside = ensemble.indicators(random_structures(10, seed=21))
    _, outside = ensemble.indicators([Atoms("Cu3", [[0, 0, 0], [1.45, 0, 0], [0, 1.5, 0]])])
    assert outside[0] > 2.0 * np.median(inside)
    # the same seed gives the same members, whatever the number of threads
    one = fit_ensemble(true, train, {**settings, "threads": 1}, {"members": 6, "method": method})
    for a, b in zip(ensemble.potentials, one.potentials):
        np.testing.assert_allclose(a.coefficients("Cu"), b.coefficients("Cu"), rtol=1e-5, atol=1e-7)
    other = fit_ensemble(true, train, {**settings, "seed": 3}, {"members": 6, "method": method})
    assert np.abs(other.potentials[0].coefficients("Cu") - ensemble.potentials[0].coefficients("Cu")).max() > 1e-6


def test_subsample_is_a_fit_to_the_subset(small_potential, random_structures, label):
    """The one-pass members are those of separate fits to the same structures."""
    from aiida_aceal.fitting import fit_linear

    true = small_potential(scale=0.05)
    train = label(random_structures(10), true, noise=0.05)
    settings = {"reference_energies": "none", "seed": 5}
    ensemble = fit_ensemble(true, train, settings, {"members": 2, "method": "subsample", "fraction": 0.6})
    rng = np.random.default_rng(np.random.SeedSequence(5).spawn(2)[1])
    chosen = [train[k] for k in sorted(rng.permutation(10)[:6])]
    alone = fit_linear(true, chosen, settings).potential
    np.testing.assert_allclose(
        ensemble.potentials[1].coefficients("Cu"), alone.coefficients("Cu"), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("method", ["weak", "strong"])
def test_nonlinear_ensembles(small_potential, random_structures, label, method):
    true = small_potential(n_density=2, scale=0.3, seed=3)
    train = label(random_structures(20), true)
    settings = {"method": "nonlinear", "nonlinear": {"evaluations": 60}, "reference_energies": "none"}
    ensemble = fit_ensemble(true, train, settings, {"members": 3, "method": method})
    assert ensemble.shared == (method == "weak")
    spread = np.std([p.coefficients("Cu") for p in ensemble.potentials], axis=0)
    assert (spread > 0).all()
    p = ensemble.predict(train)
    labels = np.array([a.calc.results["energy"] for a in train])
    assert np.abs(p.energies.mean(1) - labels).mean() < 0.3 * np.abs(labels - labels.mean()).mean()


@pytest.fixture(scope="module")
def nonlinear_case(small_potential, random_structures, label):
    """A blank two-density basis, training structures, settings, and the fit of them."""
    from aiida_aceal.fitting import fit

    true = small_potential(n_density=2, scale=0.3, seed=3)
    basis = true.with_coefficients({"Cu": np.zeros((2, true.n_functions["Cu"]))})
    basis = basis.with_radial_coefficients({("Cu", "Cu"): small_potential(seed=9).bonds["Cu", "Cu"].radcoefficients})
    train = label(random_structures(20), true, noise=0.02)
    settings = {"method": "nonlinear", "nonlinear": {"evaluations": 120}, "reference_energies": "none"}
    return basis, train, settings, fit(basis, train, settings)


def radial(potential):
    return potential.bonds["Cu", "Cu"].radcoefficients


def test_weak_members_keep_the_optimised_radial_functions(nonlinear_case):
    """App. B: optimised once, then fixed; also where the potential is blank, and then optimised first."""
    basis, train, settings, fitted = nonlinear_case
    assert np.abs(radial(fitted.potential) - radial(basis)).max() > 1e-3
    wanted = {"members": 3, "method": "weak"}
    for start, how in ((fitted.potential, "given"), (basis, "optimised")):
        ensemble = fit_ensemble(start, train, settings, wanted)
        assert ensemble.report["radial_functions"] == how
        for potential in ensemble.potentials:
            np.testing.assert_allclose(radial(potential), radial(fitted.potential), rtol=1e-10)


@pytest.mark.parametrize("method", ["weak", "strong"])
def test_members_are_as_good_as_the_potential_or_the_report_says_so(nonlinear_case, caplog, method):
    from aiida_aceal.fitting.metrics import predict

    _, train, settings, fitted = nonlinear_case
    wanted = {"members": 2, "method": method, "effort": 6}
    ensemble = fit_ensemble(fitted.potential, train, settings, wanted)
    ours = ensemble.report["potential"]["force_rmse"]
    labels = collect_labels(train, ("Cu",))
    for potential, found in zip(ensemble.potentials, ensemble.report["fits"]):
        errors = predict(AceModel(potential), labels, {}).metrics()
        assert errors["forces"]["rmse"] == pytest.approx(found["force_rmse"], rel=1e-6)
        assert not found["as_good"] or found["force_rmse"] < 1.25 * ours
    assert bool(ensemble.report["warnings"]) == (not all(f["as_good"] for f in ensemble.report["fits"]))
    hurried = {**settings, "nonlinear": {"evaluations": 3}}
    poor = fit_ensemble(fitted.potential, train, hurried, {**wanted, "effort": 1})
    assert not any(f["as_good"] for f in poor.report["fits"])
    assert "2 of 2 members of the ensemble are not as good as the potential" in poor.report["warnings"][0]
    assert poor.report["warnings"][0] in caplog.text
    assert all(
        good["force_rmse"] < bad["force_rmse"] for good, bad in zip(ensemble.report["fits"], poor.report["fits"])
    )


def test_methods_must_fit_the_model(small_potential, random_structures, label):
    true = small_potential()
    train = label(random_structures(3), true)
    with pytest.raises(AceError, match="weak does not go with method: linear; use subsample"):
        fit_ensemble(true, train, {}, {"method": "weak"})
    with pytest.raises(AceError, match="subsample does not go with method: nonlinear"):
        fit_ensemble(true, train, {"method": "nonlinear"}, {"method": "subsample"})
    with pytest.raises(AceError, match="unknown key 'member'; did you mean 'members'"):
        fit_ensemble(true, train, {}, {"member": 3})
    with pytest.raises(AceError, match=r"set regularization\.method"):
        fit_ensemble(true, train, {"regularization": {"method": "none"}}, {"method": "posterior"})
