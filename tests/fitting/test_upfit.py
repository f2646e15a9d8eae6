"""Penalty without a scale of its own; fits that start from a fitted potential; what a fit says about itself."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.ace import AceModel
from aiida_aceal.fitting import fit, fit_linear, fit_nonlinear
from aiida_aceal.fitting.job import prepare
from aiida_aceal.fitting.optimize import Objective
from aiida_aceal.fitting.penalty import LinearPart, centre, penalty
from aiida_aceal.fitting.problem import Problem
from aiida_aceal.fitting.report import format_report
from aiida_aceal.fitting.settings import FitSettings


def blank(potential):
    return potential.with_coefficients(
        {el: np.zeros((potential.n_densities[el], K)) for el, K in potential.n_functions.items()}
    )


def scaled_radial(potential, factor):
    return potential.with_radial_coefficients(
        {pair: factor * bond.radcoefficients for pair, bond in potential.bonds.items()}
    )


def predictions(potential, structures):
    results = AceModel(potential, threads=1).evaluate_batch(structures)
    free = potential.reference_energies
    energies = [r.energy + sum(free.get(s, 0.0) for s in a.symbols) for r, a in zip(results, structures)]
    return np.array(energies), np.concatenate([r.forces for r in results])


@pytest.fixture(scope="module")
def noisy(small_potential, random_structures, label):
    """A blank two-density basis, noisy training data of a potential outside of its span, and clean held-out data."""
    true = small_potential(n_density=2, scale=0.3, seed=3)
    basis = blank(scaled_radial(true, 1.0))
    return basis, label(random_structures(30), true, {"Cu": -2.0}, noise=0.02), random_structures(10, seed=9)


@pytest.mark.parametrize("factor", [30.0, 0.02])
def test_rescaled_basis_gives_the_same_potential(noisy, factor):
    """All radial functions times a factor: rank v times factor^v, which coefficients make up for."""
    basis, train, test = noisy
    options = {"optimizer": "gauss_newton", "evaluations": 15, "tolerance": 0.0}
    settings = {"nonlinear": options, "threads": 1}
    a = fit_nonlinear(basis, train, settings)
    b = fit_nonlinear(scaled_radial(basis, factor), train, settings)
    first, second = a.report["rounds"], b.report["rounds"]
    assert first[0]["penalty"] > 0.0
    assert second[0]["loss"] == pytest.approx(first[0]["loss"], rel=1e-6)
    assert second[0]["penalty"] == pytest.approx(first[0]["penalty"], rel=1e-4)
    (Ea, Fa), (Eb, Fb) = predictions(a.potential, test), predictions(b.potential, test)
    spread = np.std(Ea)
    np.testing.assert_allclose(Eb, Ea, atol=2e-3 * spread)
    np.testing.assert_allclose(Fb, Fa, atol=2e-3 * np.abs(Fa).max())


def test_start_is_not_mostly_penalty(noisy):
    """The prior of the linear fit: at its solution the penalty is the share of parameters in the data."""
    basis, train, _ = noisy
    result = fit_nonlinear(basis, train, {"nonlinear": {"evaluations": 60}})
    rounds = result.report["rounds"]
    labels = sum(1 + 3 * len(a) for a in train)
    assert rounds[0]["penalty"] < result.report["n_parameters"] / labels * rounds[0]["loss"]
    assert all(r["penalty"] < 0.3 * r["loss"] for r in rounds)


def test_penalty_and_its_gradient_follow_the_noise(noisy):
    basis, train, _ = noisy
    job = prepare(basis, train, FitSettings.read({"threads": 1}), None)
    problem, part = Problem(job, True), LinearPart.of(job)
    theta = problem.pack(basis) + 0.01 * np.random.default_rng(0).normal(size=problem.n_parameters)
    strength = penalty(job, problem, job.settings.nonlinear, part, theta, False)
    objective = Objective(problem, strength, centre(problem, theta), 4.0 * problem.evaluate(theta, False).loss)
    before = objective(theta)
    after = objective.follow_noise(theta, before)
    assert after.penalty == pytest.approx(0.25 * before.penalty)
    fresh = objective(theta)
    assert after.loss == pytest.approx(fresh.loss, rel=1e-12)
    np.testing.assert_allclose(after.gradient, fresh.gradient, rtol=1e-9, atol=1e-12 * np.abs(fresh.gradient).max())
    # the loss of the linear part is that of the linear fit as a potential
    linear, reference = part.potential(job)
    errors = fit_linear(replace(linear, blocks=blank(linear).blocks), train, {"threads": 1})
    E, F = predictions(linear.with_reference_energies(reference), train)
    want, forces = predictions(errors.potential, train)
    np.testing.assert_allclose(E, want, atol=1e-6)
    np.testing.assert_allclose(F, forces, atol=1e-6)


@pytest.fixture(scope="module")
def given(small_potential, random_structures, label):
    """A potential as other programs write it (no reference energies in the file) and labels relative to free atoms."""
    true = small_potential(n_density=2, scale=0.3, seed=3)
    return true, label(random_structures(20), true, noise=0.01), label(random_structures(10, seed=6), true, noise=0.01)


@pytest.mark.parametrize("mode", ["fit", "joint"])
def test_start_keeps_its_reference_energies(given, mode):
    true, train, held = given
    result = fit_nonlinear(true, train, {"reference_energies": mode, "nonlinear": {"evaluations": 40}}, held)
    assert result.report["rounds"][0]["energy_rmse"] < 0.01  # the noise: 0.01 eV in structures of four atoms
    if mode == "fit":
        assert result.potential.reference_energies == {"Cu": 0.0}
    start = result.report["compared"]["start"]
    for part in ("train", "validation"):
        for kind in ("energy", "forces"):
            assert result.report[part][kind]["rmse"] < 1.2 * start[part][kind]


def test_labels_with_another_zero_are_shifted_aloud(given, caplog):
    true, _, held = given
    raw = []
    for atoms in held:
        results = atoms.calc.results
        atoms = atoms.copy()
        atoms.calc = SinglePointCalculator(atoms, **{**results, "energy": results["energy"] - 7.0 * len(atoms)})
        raw.append(atoms)
    with caplog.at_level(logging.WARNING):
        result = fit_nonlinear(true, raw, {"nonlinear": {"evaluations": 10}})
    assert result.potential.reference_energies["Cu"] == pytest.approx(-7.0, abs=0.02)
    assert result.report["rounds"][0]["energy_rmse"] < 0.01
    assert any("the zero of energy of the labels differs" in line for line in result.report["warnings"])
    assert "the zero of energy of the labels differs" in caplog.text


def test_new_element_gets_its_reference_energy(small_potential, random_structures, label):
    both = small_potential(elements=("Al", "Ni"), scale=0.05)
    only = both.with_coefficients({"Ni": np.zeros((1, both.n_functions["Ni"]))}).with_reference_energies({"Al": -3.0})
    train = label(random_structures(12, ("Al",)), only, {"Al": -3.0}) + label(
        random_structures(12, ("Al", "Ni"), seed=2), only, {"Al": -3.0, "Ni": -5.0}
    )
    kept = fit_linear(only, train).potential.reference_energies
    assert kept["Al"] == -3.0
    assert kept["Ni"] == pytest.approx(-5.0, abs=0.05)


def test_a_linear_fit_of_one_density_is_never_worse_than_its_start(small_potential, random_structures, label):
    true = small_potential(scale=0.2)
    train, more = label(random_structures(20), true), label(random_structures(5, seed=4), true)
    strong = {"regularization": {"method": "ridge", "alpha": 1e3}}
    assert fit_linear(blank(true), train, strong).report["train"]["forces"]["rmse"] > 0.01
    kept = fit_linear(true, train, strong, more)
    np.testing.assert_array_equal(kept.potential.coefficients("Cu"), true.coefficients("Cu"))
    assert kept.report["train"]["forces"]["rmse"] < 1e-9
    assert any("than the potential it started from, which is kept" in line for line in kept.report["warnings"])
    # where the fit is the better one it stays, and what it is compared with stands in the report
    off = true.with_coefficients({"Cu": 1.1 * true.coefficients("Cu")})
    better = fit_linear(off, train, {}, more)
    assert better.report["train"]["forces"]["rmse"] < 0.2 * better.report["compared"]["start"]["train"]["forces"]
    assert not any("which is kept" in line for line in better.report["warnings"])


@pytest.mark.parametrize("case", ["linear", "nonlinear"])
def test_a_fit_is_never_worse_than_its_start(given, caplog, case):
    """A linear fit of the first density cannot replace a fitted potential of two; a wild penalty spoils nothing."""
    true, train, held = given
    with caplog.at_level(logging.WARNING):
        if case == "linear":
            result, which = fit(true, train, {"method": "linear"}, held), "training"
        else:
            options = {"evaluations": 30, "l2": 1e12, "early_stopping": False}
            result, which = fit(true, train, {"method": "nonlinear", "nonlinear": options}), "training"
    np.testing.assert_array_equal(result.potential.coefficients("Cu"), true.coefficients("Cu"))
    assert result.report["train"]["forces"]["rmse"] < 0.011
    line = f"the fit ended with a higher {which} loss than the potential it started from, which is kept"
    assert line in result.report["warnings"]
    assert f"warning: {line}" in format_report(result.report)
    assert line in caplog.text


def test_worse_than_the_linear_fit_is_said(small_potential, random_structures, label, caplog):
    """Linear labels, and a nonlinear first density that cannot follow them."""
    pot = small_potential(scale=0.2)
    train = label(random_structures(15), pot)
    species = {"Cu": replace(pot.species["Cu"], parameters=(1.0, 0.3))}
    with caplog.at_level(logging.WARNING):
        result = fit_nonlinear(
            blank(replace(pot, species=species)), train, {"nonlinear": {"evaluations": 5}}, train[:4]
        )
    lines = [line for line in result.report["warnings"] if "worse than the linear fit" in line]
    assert any("in forces on the training set" in line for line in lines)
    assert any("in energy on the validation set" in line for line in lines)
    assert lines[0] in caplog.text
    assert f"warning: {lines[0]}" in format_report(result.report)
    assert result.report["compared"]["linear fit"]["train"]["forces"] < result.report["train"]["forces"]["rmse"]
