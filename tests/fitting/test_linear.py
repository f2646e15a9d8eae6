"""Linear fits: known coefficients are found again; reports, limits and errors."""

import json

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal import fitting
from aiida_aceal.ace import AceError, AceModel, AcePotential
from aiida_aceal.fitting import FitSettings, format_report


def fit_linear(potential, *arguments, **words):
    """From other coefficients than those that made the labels: a fit returns its start where that is the better one."""
    start = {el: 1.5 * potential.coefficients(el) for el in potential.elements}
    return fitting.fit_linear(potential.with_coefficients(start), *arguments, **words)


def _compare(found, true, rtol=1e-5):
    for el in true.elements:
        a, b = found.coefficients(el)[0], true.coefficients(el)[0]
        assert np.abs(a - b).max() < rtol * np.abs(b).max()


@pytest.mark.parametrize("solver", ["qr", "normal"])
def test_known_coefficients_are_found(small_potential, random_structures, label, solver):
    true = small_potential(scale=0.05)
    data = label(random_structures(12), true)
    result = fit_linear(true.with_coefficients({"Cu": np.zeros((1, true.n_functions["Cu"]))}), data,
                        {"reference_energies": "none", "solver": solver})  # fmt: skip
    tolerance = 1e-6 if solver == "qr" else 1e-3
    assert result.metrics["train"]["energy"]["rmse"] < tolerance
    assert result.metrics["train"]["forces"]["max"] < tolerance * 100
    if solver == "qr":
        _compare(result.potential, true)


def test_two_elements_with_free_atoms(small_potential, random_structures, label):
    true = small_potential(elements=("Al", "Ni"), scale=0.05, seed=2)
    free = {"Al": -1.25, "Ni": -3.5}
    train = label(random_structures(30, ("Al", "Ni")), true, free)
    held = label(random_structures(6, ("Al", "Ni"), seed=9), true, free)
    result = fit_linear(true, train, {"reference_energies": "joint"}, validation=held)
    assert result.potential.reference_energies == pytest.approx(free, abs=1e-4)
    assert result.metrics["validation"]["energy"]["rmse"] < 1e-5
    assert result.metrics["validation"]["virial"]["rmse"] < 1e-4
    given = fit_linear(true, train, {"reference_energies": free}, validation=held)
    assert given.potential.reference_energies == free
    # pairs of unlike atoms enter both elements alike, so coefficients are not unique: forces are
    assert given.metrics["validation"]["forces"]["max"] < 1e-4
    # what the file says is what was fitted
    again = AcePotential.from_yaml(result.potential.to_yaml())
    assert again.reference_energies == pytest.approx(result.potential.reference_energies)
    e = AceModel(again).evaluate(held[0]).energy + sum(again.reference_energies[s] for s in held[0].symbols)
    assert e == pytest.approx(held[0].calc.results["energy"], abs=1e-4)


def test_reference_energies_stay_of_the_size_of_labels(small_potential, random_structures, label):
    """Constants are nearly degenerate with smooth functions of dense structures: ``fit`` must not let them run away."""
    true = small_potential(elements=("Al", "Ni"), scale=0.05, seed=2)
    train = label(random_structures(30, ("Al", "Ni")), true, {"Al": -1.25, "Ni": -3.5}, noise=0.01)
    per_atom = [a.calc.results["energy"] / len(a) for a in train]
    for settings in ({}, {"regularization": {"method": "ard"}}, {"repulsion": "auto"}):
        result = fit_linear(true, train, settings)
        for e in result.potential.reference_energies.values():
            assert abs(e) < 3.0 * max(np.abs(per_atom))


def test_energies_alone_and_virials_alone_determine_the_fit(small_potential, random_structures, label):
    true = small_potential(scale=0.05)
    K = true.n_functions["Cu"]
    data = label(random_structures(3 * K), true)
    result = fit_linear(true, data, {"weights": {"kappa": 0.0}, "reference_energies": "none"})
    assert result.metrics["train"]["energy"]["rmse"] < 1e-6
    few = label(random_structures(K // 2), true)
    result = fit_linear(
        true, few, {"weights": {"kappa": 0.0, "virial": 1.0}, "reference_energies": "none"}, validation=few
    )
    assert result.metrics["validation"]["forces"]["rmse"] < 1e-4


def test_weights_enter_as_stated(small_potential, random_structures, label):
    """The solution is the minimum of the stated loss: against numpy on the explicit rows."""
    true = small_potential(scale=0.05)
    data = label(random_structures(5, n=3), true, noise=0.2)
    settings = {"regularization": {"method": "none"}, "reference_energies": "none", "weights": {"kappa": 0.9}}
    found = fit_linear(true, data, settings).potential.coefficients("Cu")[0]
    model = AceModel(true)
    X, y = [], []
    for a in data:
        s = model.linear_system(a)
        X += [s.energy[None] / 3 * np.sqrt(0.1 / 5), s.forces * np.sqrt(0.9 / 15)]
        r = a.calc.results
        y += [np.array([r["energy"]]) / 3 * np.sqrt(0.1 / 5), r["forces"].ravel() * np.sqrt(0.9 / 15)]
    X, y = np.concatenate(X), np.concatenate(y)
    expected = np.linalg.lstsq(X, y, rcond=1e-12)[0]
    assert np.sum((X @ found - y) ** 2) == pytest.approx(np.sum((X @ expected - y) ** 2), rel=1e-8)


def test_result_does_not_depend_on_memory_or_threads(small_potential, random_structures, label):
    true = small_potential(scale=0.05)
    data = label(random_structures(200), true, noise=0.01)  # more rows than a window of 1 MiB holds
    results = [
        fit_linear(true, data, {"memory": memory, "threads": threads}).potential.coefficients("Cu")
        for memory, threads in (("1GiB", 1), ("1GiB", 2), ("1MiB", 2))
    ]
    scale = np.abs(results[0]).max()
    np.testing.assert_allclose(results[1], results[0], atol=1e-6 * scale)
    np.testing.assert_allclose(results[2], results[0], atol=1e-6 * scale)


def test_core_repulsion_is_taken_off_the_labels(small_potential, random_structures, label):
    from dataclasses import replace

    true = small_potential(scale=0.05)
    bond = replace(true.bonds["Cu", "Cu"], core_repulsion=(3.0, 0.4), r_in=2.4, delta_in=0.4,
                   inner_cutoff_type="distance")  # fmt: skip
    true = replace(true, bonds={("Cu", "Cu"): bond})
    data = label(random_structures(12), true)
    result = fit_linear(true, data, {"reference_energies": "none"})
    assert result.metrics["train"]["energy"]["rmse"] < 1e-6


def test_automatic_repulsion(small_potential, random_structures, label):
    true = small_potential(elements=("Al", "Ni"), scale=0.05)
    data = label(random_structures(10, ("Al",)) + random_structures(10, ("Al", "Ni"), seed=1), true)
    plain = fit_linear(true, data, {"reference_energies": "none"})
    result = fit_linear(true, data, {"repulsion": "auto", "reference_energies": "none"})
    # the data are untouched ...
    assert result.metrics["train"]["energy"]["rmse"] == pytest.approx(
        plain.metrics["train"]["energy"]["rmse"], abs=1e-6
    )
    from aiida_aceal.fitting.repulsion import shortest_distances

    shortest = shortest_distances(data, true.cutoff)
    for pair, bond in result.potential.bonds.items():
        assert bond.r_in == pytest.approx(shortest[tuple(sorted(pair))])
        assert bond.inner_cutoff_type == "zbl"
    brute = min(a.get_all_distances(mic=True)[np.triu_indices(4, 1)].min() for a in data if set(a.symbols) == {"Al"})
    assert shortest["Al", "Al"] <= brute + 1e-12
    # ... and two atoms pressed together repel
    from ase import Atoms

    model = AceModel(result.potential)
    close = [model.evaluate(Atoms("AlNi", [[0, 0, 0], [r, 0, 0]]), stress=False).energy for r in (0.3, 0.6, 1.0)]
    assert close[0] > close[1] > close[2] > 10.0


def test_atoms_inside_the_repulsion_are_refused(small_potential, random_structures, label):
    true = small_potential(scale=0.05)
    data = label(random_structures(6), true)
    from aiida_aceal.fitting.repulsion import with_automatic_repulsion

    wide = with_automatic_repulsion(true, data[:1])
    wide = with_automatic_repulsion(wide, data[:1])
    squeezed = data[0].copy()
    squeezed.set_cell(squeezed.cell * 0.8, scale_atoms=True)
    squeezed.calc = SinglePointCalculator(squeezed, energy=0.0, forces=np.zeros((4, 3)))
    with pytest.raises(AceError, match=r"training set, structure 1: atoms are so close.*repulsion: auto"):
        fit_linear(wide, [data[0], squeezed])
    # with automatic repulsion they are part of the data
    fit_linear(wide, [data[0], squeezed], {"repulsion": "auto"})


def test_more_densities_fit_the_first(small_potential, random_structures, label):
    true = small_potential(scale=0.05, n_density=1)
    data = label(random_structures(12), true)
    two = small_potential(scale=0.05, n_density=2, seed=5)
    result = fit_linear(two, data, {"reference_energies": "none"})
    assert result.metrics["train"]["energy"]["rmse"] < 1e-6
    assert not result.potential.coefficients("Cu")[1].any()


def test_nonlinear_first_density_is_refused(small_potential, random_structures, label):
    from dataclasses import replace

    true = small_potential(scale=0.05)
    species = {"Cu": replace(true.species["Cu"], parameters=(1.0, 0.5))}
    with pytest.raises(AceError, match=r"element Cu: the first density.*linear fit needs"):
        fit_linear(replace(true, species=species), label(random_structures(2), true))


def test_element_without_data_gets_zero(small_potential, random_structures, label):
    true = small_potential(elements=("Al", "Ni"), scale=0.05)
    data = label(random_structures(12, ("Al",)), true)
    for method in ("evidence", "ard", "ridge", "none"):
        result = fit_linear(true, data, {"regularization": {"method": method}})
        assert not result.potential.coefficients("Ni").any()
        assert set(result.potential.reference_energies) == {"Al"}


def test_one_structure_is_enough(small_potential, random_structures, label):
    """Far fewer labels than functions: finite, and the labels are met."""
    data = label(random_structures(1, n=2), small_potential(scale=0.05))
    for method in ("evidence", "ard"):
        result = fit_linear(small_potential(scale=0.0), data, {"regularization": {"method": method}})
        assert np.isfinite(result.potential.coefficients("Cu")).all()
        assert result.metrics["train"]["energy"]["rmse"] < 0.1


def test_report(small_potential, random_structures, label):
    true = small_potential(scale=0.05)
    data = label(random_structures(8), true, noise=0.01)
    data[5].calc.results["energy"] += 3.0
    data[2].calc.results["forces"][1, 1] -= 9.0
    result = fit_linear(
        true, data, {"worst": 4}, validation=data[:2], names=[f"a.xyz, structure {k}" for k in range(8)]
    )
    report = json.loads(json.dumps(result.report, allow_nan=False))
    assert report["train"]["forces"]["n"] == 8 * 12
    assert {w["index"] for w in report["worst"][:2]} == {5, 2}
    assert len(report["worst"]) == 4
    assert report["settings"]["weights"]["kappa"] == 0.3
    assert report["peak_memory_bytes"] > 1e6
    text = format_report(report)
    for needed in ("RMSE", "a.xyz, structure 5", "validation", "meV/atom", "peak memory"):
        assert needed in text
    e = result.train.energy_errors()
    assert report["train"]["energy"]["rmse"] == pytest.approx(np.sqrt(np.mean(e**2)))
    parity = result.train.parity(limit=50)
    assert parity["energy"].shape == (8, 2)
    assert parity["forces"].shape == (50, 2)


def test_parity_plot(small_potential, random_structures, label, tmp_path):
    from aiida_aceal.fitting.plots import parity_plot

    true = small_potential(scale=0.05)
    result = fit_linear(true, label(random_structures(4), true), validation=label(random_structures(2, seed=4), true))
    parity_plot(result, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_smoothness_prior_orders_functions(small_potential):
    from aiida_aceal.fitting.prior import smoothness

    pot = small_potential()
    values = smoothness(pot, FitSettings().regularization)
    fs = pot.functions("Cu")
    rank1 = [v for f, v in zip(fs, values) if f.rank == 1]
    assert rank1 == sorted(rank1)
    by_l = {f.ls[0]: v for f, v in zip(fs, values) if f.rank == 2 and f.ns == (1, 1)}
    assert by_l[0] < by_l[1] < by_l[2]
    assert (smoothness(pot, FitSettings.read({"regularization": {"prior": "flat"}}).regularization) == 1.0).all()
