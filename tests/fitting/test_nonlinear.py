"""Nonlinear fits: exact gradients and Gauss-Newton matrices, minimisers, ladder, upfit, early stopping."""

from dataclasses import replace

import numpy as np
import pytest

from aiida_aceal.ace import AceError, AceModel
from aiida_aceal.ace.embedding import embed2
from aiida_aceal.fitting import FitSettings, fit, fit_nonlinear
from aiida_aceal.fitting.job import prepare
from aiida_aceal.fitting.metrics import predict
from aiida_aceal.fitting.optimize import Objective, StopRule, minimise
from aiida_aceal.fitting.problem import Problem
from aiida_aceal.fitting.report import format_report
from aiida_aceal.fitting.split import split_by_origin


@pytest.fixture(scope="module")
def case(small_potential, random_structures, label):
    """A two-density potential of two elements (or one), data labelled by another one, and a `Problem` of them."""

    def factory(elements=("Al", "Ni"), count=6, settings=None, radial=True, free_reference=True, scale=0.05, **kwargs):
        pot = small_potential(elements=elements, n_density=2, scale=scale, **kwargs)
        data = label(random_structures(count, elements), small_potential(elements=elements, scale=0.05, seed=7))
        given = {"weights": {"virial": 0.1, "kappa": 0.4}, "reference_energies": "none", "threads": 2}
        job = prepare(pot, data, FitSettings.read({**given, **(settings or {})}), None)
        return pot, job, Problem(job, radial, free_reference)

    return factory


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("m", [0.5, 0.8, 1.0, 1.7])
def test_embedding_and_its_derivatives(kind, m):
    from aiida_aceal.ace.embedding import embed

    for rho in (-3.0, -0.4, -1e-3, 2e-7, 1e-3, 0.7, 5.0):
        f, df, ddf = embed2(kind, m, rho)
        assert (f, df) == pytest.approx(embed(kind, m, rho), rel=1e-12)
        h = 1e-4 * abs(rho)
        assert df == pytest.approx((embed2(kind, m, rho + h)[0] - embed2(kind, m, rho - h)[0]) / (2 * h), rel=1e-5)
        numeric = (embed2(kind, m, rho + h)[1] - embed2(kind, m, rho - h)[1]) / (2 * h)
        assert ddf == pytest.approx(numeric, rel=1e-4, abs=1e-9)


def test_loss_is_that_of_the_evaluator(case):
    """Energies, forces and virials of the fit kernels against the engine, in the loss as stated."""
    pot, job, problem = case()
    got = problem.evaluate(problem.pack(pot), gradient=False)
    p = predict(AceModel(pot), job.train, {})
    loss = job.weights.energy @ p.energy_errors() ** 2
    loss += sum(w @ (e**2).sum(1) for w, e in zip(job.weights.forces, p.force_errors()))
    loss += job.weights.virial @ np.array([(e**2).sum() for e in p.virial_errors()])
    assert got.loss == pytest.approx(loss, rel=1e-9)
    assert got.energy_rmse == pytest.approx(p.metrics()["energy"]["rmse"], rel=1e-9)
    assert got.force_rmse == pytest.approx(p.metrics()["forces"]["rmse"], rel=1e-9)


@pytest.mark.parametrize("embedding", ["FinnisSinclairShiftedScaled", "FinnisSinclair"])
@pytest.mark.parametrize("part", ["coefficients", "radial", "reference"])
def test_gradient_against_finite_differences(case, embedding, part):
    pot, job, problem = case()
    species = {el: replace(s, embedding=embedding) for el, s in pot.species.items()}
    job = replace(job, potential=replace(pot, species=species), model=AceModel(replace(pot, species=species)))
    problem = Problem(job, True, True)
    theta = problem.pack(job.potential, np.array([0.1, -0.2]))
    ev = problem.evaluate(theta)
    rng = np.random.default_rng(0)
    n_c, n_r = problem.n_coefficients, problem.n_radial
    mask = np.zeros(len(theta))
    parts = {"coefficients": slice(0, n_c), "radial": slice(n_c, n_c + n_r), "reference": slice(n_c + n_r, None)}
    mask[parts[part]] = 1.0
    # the square root of FinnisSinclair is strongly curved near zero
    h, tolerance = (1e-5, 2e-6) if embedding.endswith("Scaled") else (1e-6, 1e-4)
    for _ in range(3):
        v = rng.normal(size=len(theta)) * mask
        numeric = (problem.evaluate(theta + h * v, False).loss - problem.evaluate(theta - h * v, False).loss) / (2 * h)
        assert v @ ev.gradient == pytest.approx(numeric, rel=tolerance, abs=1e-12)


def test_gradient_of_forces_alone(case):
    """kappa = 1: every number comes from the derivative of forces."""
    pot, _, problem = case(settings={"weights": {"kappa": 1.0}}, elements=("Cu",))
    theta = problem.pack(pot)
    ev = problem.evaluate(theta)
    v = np.random.default_rng(1).normal(size=len(theta))
    h = 1e-5
    numeric = (problem.evaluate(theta + h * v, False).loss - problem.evaluate(theta - h * v, False).loss) / (2 * h)
    assert v @ ev.gradient == pytest.approx(numeric, rel=2e-6)


def test_gauss_newton_matrix(case):
    """v^T J^T W J v is the square of the change of all weighted predictions along v."""
    _, job, problem = case()
    theta = problem.pack(job.potential, np.array([0.1, -0.2]))
    H = problem.gauss_newton(theta)

    def rows(x):
        pot, reference = problem.unpack(x)
        p = predict(AceModel(pot), job.train, reference)
        out = [np.sqrt(job.weights.energy) * p.energy_errors()]
        out += [(np.sqrt(w)[:, None] * e).ravel() for w, e in zip(job.weights.forces, p.force_errors())]
        out += [np.sqrt(w) * e for w, e in zip(job.weights.virial, p.virial_errors())]
        return np.concatenate(out)

    job.reference = {"Al": 0.0, "Ni": 0.0}
    rng = np.random.default_rng(2)
    n_c, n_r = problem.n_coefficients, problem.n_radial
    for part in (slice(None), slice(0, n_c), slice(n_c, n_c + n_r), slice(n_c + n_r, None)):
        v = np.zeros(len(theta))
        v[part] = rng.normal(size=len(v[part]))
        h = 1e-5
        change = (rows(theta + h * v) - rows(theta - h * v)) / (2 * h)
        assert v @ H @ v == pytest.approx(change @ change, rel=1e-5)
    np.testing.assert_allclose(H, H.T, rtol=1e-10, atol=1e-12 * np.abs(H).max())


def test_radial_coefficients_may_stay(case):
    pot, _, problem = case(radial=False, free_reference=False)
    assert problem.n_parameters == sum(P * K for P, K in problem.shapes)
    _, _, full = case()
    a = problem.evaluate(problem.pack(pot))
    b = full.evaluate(full.pack(pot))
    np.testing.assert_allclose(a.gradient, b.gradient[: problem.n_parameters], rtol=1e-10)
    np.testing.assert_allclose(
        problem.gauss_newton(problem.pack(pot)),
        full.gauss_newton(full.pack(pot))[: problem.n_parameters, : problem.n_parameters],
        rtol=1e-9,
        atol=1e-12,
    )


def test_memory_and_threads_do_not_change_anything(case):
    pot, _, problem = case(count=60)
    _, _, tight = case(count=60, settings={"threads": 1})
    for chunk in tight.chunks:  # as where memory does not allow them
        chunk.bonds = None
    assert len(problem.chunks) > 1
    assert all(c.bonds is not None for c in problem.chunks)
    assert all(c.bonds is None for c in tight.chunks)
    a, b = problem.evaluate(problem.pack(pot)), tight.evaluate(tight.pack(pot))
    assert a.loss == pytest.approx(b.loss, rel=1e-13)
    np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-10, atol=1e-13 * np.abs(a.gradient).max())
    np.testing.assert_allclose(problem.gauss_newton(problem.pack(pot)), tight.gauss_newton(tight.pack(pot)), rtol=1e-12)


@pytest.mark.parametrize("method", ["lbfgs", "gauss_newton"])
def test_minimisers_find_a_known_potential(small_potential, random_structures, label, method):
    """Labels made by a Finnis-Sinclair ACE are fitted to a thousandth of what the linear fit leaves."""
    true = small_potential(n_density=2, scale=0.3, seed=3)
    data = label(random_structures(40), true)
    settings = {"reference_energies": "none", "nonlinear": {"optimizer": method, "evaluations": 250, "tolerance": 0.0}}
    start = true.with_coefficients({"Cu": np.zeros((2, true.n_functions["Cu"]))})
    linear = fit(start, data, {"reference_energies": "none"})
    result = fit(start, data, {**settings, "method": "nonlinear"})
    for kind in ("energy", "forces"):
        assert result.metrics["train"][kind]["rmse"] < 0.02 * linear.metrics["train"][kind]["rmse"]
    rounds = result.report["rounds"]
    losses = [r["loss"] for r in rounds]
    assert losses == sorted(losses, reverse=True)
    assert rounds[-1]["evaluations"] <= 250 + 12
    assert result.report["start"] == "linear"


def test_preconditioned_beats_plain_steps(case):
    """The same number of evaluations from the same start: the Gauss-Newton metric is what makes it converge."""
    from scipy.optimize import minimize

    pot, _, problem = case(count=30, elements=("Cu",), free_reference=False)
    theta = problem.pack(pot)

    def objective():
        return Objective(problem, np.zeros(len(theta)), theta)

    best, trace = minimise(objective(), theta, StopRule(80, 0.0), refresh=25)
    plain = minimize(
        lambda x: (lambda e: (e.loss, e.gradient))(problem.evaluate(x)), theta, jac=True, method="L-BFGS-B",
        options={"maxfun": 80},
    )  # fmt: skip
    assert problem.evaluate(best, False).loss < 0.2 * plain.fun
    assert trace.rounds[0]["loss"] > trace.rounds[-1]["loss"]


def test_upfit_goes_on_and_linear_starts_afresh(small_potential, random_structures, label):
    true = small_potential(n_density=2, scale=0.3, seed=3)
    data = label(random_structures(30), true, {"Cu": -2.0})
    settings = {"method": "nonlinear", "nonlinear": {"evaluations": 100, "tolerance": 0.0}}
    blank = true.with_coefficients({"Cu": np.zeros((2, true.n_functions["Cu"]))})
    first = fit(blank, data, settings)
    assert first.potential.reference_energies.keys() == {"Cu"}
    again = fit(first.potential, data, settings)
    assert again.report["start"] == "potential"
    ends, begins = first.report["rounds"][-1], again.report["rounds"][0]  # penalties are those of the new start
    assert begins["loss"] - begins["penalty"] == pytest.approx(ends["loss"] - ends["penalty"], rel=5e-3)
    more = fit(first.potential, data + label(random_structures(5, seed=11, n=8), true, {"Cu": -2.0}), settings)
    assert more.report["rounds"][-1]["loss"] < 0.5 * more.report["rounds"][0]["loss"]
    fresh = fit(first.potential, data, {**settings, "nonlinear": {**settings["nonlinear"], "start": "linear"}})
    assert fresh.report["start"] == "linear"
    assert fresh.report["rounds"][0]["loss"] > 2.0 * again.report["rounds"][0]["loss"]


def test_ladder_grows_the_basis(small_potential, random_structures, label):
    true = small_potential(n_density=2, scale=0.3, seed=3)
    data = label(random_structures(30), true)
    blank = true.with_coefficients({"Cu": np.zeros((2, true.n_functions["Cu"]))})
    options = {"ladder": [4, 9], "evaluations": 120, "tolerance": 1e-3}
    result = fit_nonlinear(blank, data, {"reference_energies": "none", "nonlinear": options})
    assert result.report["ladder"] == [4, 9]
    assert result.potential.n_functions == true.n_functions
    assert result.potential.functions("Cu")[0].mus == true.functions("Cu")[0].mus
    assert all(any(f.coefficients) for f in result.potential.functions("Cu"))
    losses = [r["loss"] for r in result.report["rounds"]]
    assert losses[-1] == min(losses)
    with pytest.raises(AceError, match="ascending"):
        FitSettings.read({"nonlinear": {"ladder": [9, 4]}})


def test_early_stopping_keeps_the_best(small_potential, random_structures, label):
    """Few noisy labels and many rounds: the validation loss turns up, and the parameters before are kept."""
    true = small_potential(n_density=2, scale=0.1, seed=3)
    train = [_named(a, "noisy") for a in label(random_structures(3, n=2), true, noise=0.3)]
    held = [_named(a, f"clean {k}") for k, a in enumerate(label(random_structures(20, seed=5), true))]
    options = {"tolerance": 0.0, "patience": 2, "refresh": 8, "l2": 0.0, "validation_fraction": 20 / 23}
    # a seed by which the clean structures are the part that is held out
    seed = next(s for s in range(9999) if split_by_origin(train + held, 20 / 23, s)[0] == [0, 1, 2])
    settings = {"reference_energies": "none", "nonlinear": {**options, "validation_seed": seed}}
    blank = true.with_coefficients({"Cu": np.zeros((2, true.n_functions["Cu"]))})
    result = fit_nonlinear(blank, train + held, settings, validation=held)
    assert result.report["train"]["n_structures"] == 3
    assert result.report["early_stopping"] == {"n_structures": 20}
    assert "early stopping by 20 structures of the training side" in format_report(result.report)
    assert result.report["stopped"] == "validation"
    losses = [r["validation_loss"] for r in result.report["rounds"]]
    assert losses[-1] > min(losses)
    # the errors reported are those of the best round, not of the last
    m = result.metrics["validation"]
    best = 0.7 * m["energy"]["rmse"] ** 2 + 0.3 * 3 * m["forces"]["rmse"] ** 2
    assert best == pytest.approx(min(losses), rel=1e-6)


def test_a_validation_or_test_set_decides_nothing(small_potential, random_structures, label):
    """The same fit whatever set is only evaluated; structures for early stopping come from the training side."""
    true = small_potential(n_density=2, scale=0.1, seed=3)
    train = label(random_structures(60, n=2), true, noise=0.3)
    blank = true.with_coefficients({"Cu": np.zeros((2, true.n_functions["Cu"]))})
    settings = {"reference_energies": "none", "nonlinear": {"tolerance": 0.0, "patience": 1, "evaluations": 60}}
    alone = fit_nonlinear(blank, train, settings)
    held = fit_nonlinear(blank, train, settings, validation=label(random_structures(9, seed=5), true))
    assert held.potential.to_yaml() == alone.potential.to_yaml()
    assert held.report["validation"]["n_structures"] == 9
    assert alone.report["early_stopping"] == {"n_structures": 6}
    assert alone.report["train"]["n_structures"] == 54
    assert "validation_loss" in alone.report["rounds"][0]
    settings["nonlinear"]["early_stopping"] = False
    assert fit_nonlinear(blank, train, settings).report["train"]["n_structures"] == 60


def _named(atoms, origin):
    atoms.info["origin"] = origin
    return atoms


def test_validation_inside_the_core_is_left_out(small_potential, random_structures, label, monkeypatch):
    """With automatic repulsion a held-out structure may be denser than all training structures: no reason to fail."""
    true = small_potential(n_density=2, scale=0.2, seed=3)
    train = label(random_structures(10), true)
    dense = random_structures(2, seed=8)
    for atoms in dense:
        atoms.set_cell(atoms.cell * 0.7, scale_atoms=True)
    dense = label(dense, true)
    for some, inside in ((True, dense[:1] + train[:1]), (False, dense)):
        every = [a for a in train if a not in inside] + inside
        wanted = list(range(len(every) - 2, len(every)))
        seed = next(s for s in range(9999) if split_by_origin(every, 2 / len(every), s)[1] == wanted)
        options = {"evaluations": 10, "validation_fraction": 2 / len(every), "validation_seed": seed}
        with monkeypatch.context() as patch:
            patch.setattr("aiida_aceal.fitting.split.MIN_STOPPING", 2)
            result = fit_nonlinear(true, every, {"repulsion": "auto", "nonlinear": options})
        assert result.report["early_stopping"] == {"n_structures": 2}
        assert ("validation_loss" in result.report["rounds"][0]) == some


def test_nonlinear_first_density(small_potential, random_structures, label):
    pot = small_potential(scale=0.2)
    species = {"Cu": replace(pot.species["Cu"], parameters=(1.0, 0.5))}
    true = replace(pot, species=species)
    data = label(random_structures(20), true)
    blank = true.with_coefficients({"Cu": np.zeros((1, true.n_functions["Cu"]))})
    result = fit_nonlinear(blank, data, {"reference_energies": "none", "nonlinear": {"evaluations": 150}})
    rounds = result.report["rounds"]
    assert rounds[-1]["loss"] < 0.01 * rounds[0]["loss"]


def test_core_repulsion_is_kept_out_of_the_fit(small_potential, random_structures, label):
    true = small_potential(n_density=2, scale=0.2, seed=3)
    bond = replace(
        true.bonds["Cu", "Cu"], core_repulsion=(3.0, 0.4), r_in=2.4, delta_in=0.4, inner_cutoff_type="distance"
    )
    true = replace(true, bonds={("Cu", "Cu"): bond})
    data = label(random_structures(10), true)
    nonlinear = {"evaluations": 2, "l2": 0.0, "l2_radial": 0.0}
    result = fit_nonlinear(true, data, {"reference_energies": "none", "nonlinear": nonlinear})
    assert result.metrics["train"]["energy"]["rmse"] < 1e-6


def test_same_seed_same_fit(small_potential, random_structures, label):
    true = small_potential(n_density=2, scale=0.2, seed=3)
    data = label(random_structures(12), true)
    blank = true.with_coefficients({"Cu": np.zeros((2, true.n_functions["Cu"]))})
    settings = {"nonlinear": {"evaluations": 30}, "seed": 4}
    a, b = (fit_nonlinear(blank, data, {**settings, "threads": t}).potential.coefficients("Cu") for t in (1, 2))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * np.abs(a).max())
    c = fit_nonlinear(blank, data, {**settings, "seed": 5}).potential.coefficients("Cu")
    assert np.abs(a - c).max() > 1e-2 * np.abs(a).max()
