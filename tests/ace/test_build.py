"""Building a basis: numbers of functions, independence, span, order, and what bad descriptions say."""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from dataclasses import replace
from itertools import groupby
from operator import itemgetter

import numpy as np
import pytest
from ase.build import bulk

from aiida_aceal.ace import AceError, AceModel, AcePotential
from aiida_aceal.ace.build import build_potential
from aiida_aceal.ace.coupling import coupling_terms
from aiida_aceal.ace.independent import (
    angular_functions,
    candidate_lints,
    count_invariants,
    independent_lints,
    invariant_samples,
)
from aiida_aceal.ace.potential import RADIAL_TYPES
from aiida_aceal.ace.radial import cutoff_warnings, radial_basis

DESCRIBED = ("alcuni_mixed_ndens", "alni_lin", "cu_cheblin_nd3", "cu_fs", "cu_large", "cu_lin", "cu_zbl")
COPPER = {"elements": ["Cu"], "cutoff": 6.0, "nradmax_by_orders": [4, 2, 1], "lmax_by_orders": [0, 2, 1]}


def monomials(functions, index=None):
    """Coefficients of functions over the distinct monomials of A_{mu n l m}, one row per function."""
    index = {} if index is None else index
    rows = []
    for mus, ns, ls, lint in functions:
        row = defaultdict(float)
        ms, weights = coupling_terms(ls, lint)
        for m, w in zip(ms.tolist(), weights):
            # a kept combination stands for itself and its conjugate
            half = [(m, w)] if not any(m) else [(m, w / 2), ([-x for x in m], w / 2)]
            for combination, weight in half:
                row[index.setdefault(tuple(sorted(zip(mus, ns, ls, combination))), len(index))] += weight
        rows.append(row)
    dense = np.zeros((len(rows), len(index)))
    for i, row in enumerate(rows):
        dense[i, list(row)] = list(row.values())
    return dense


def plain(functions):
    return [(f.mus, f.ns, f.ls, f.lint) for f in functions]


def by_factors(functions):
    return {key: list(group) for key, group in groupby(functions, key=itemgetter(0, 1, 2))}


def rank_of(matrix):
    values = np.linalg.svd(matrix, compute_uv=False)
    return int((values > 1e-9 * values.max(initial=0)).sum())


@pytest.mark.parametrize(
    ("rank", "equal", "counts"),
    [
        (2, True, [1, 2, 3, 4]),
        (3, True, [1, 2, 5, 8, 14, 20, 30]),
        (4, True, [1, 3, 9, 23, 51]),
        (5, True, [1, 3, 13, 45]),
        (6, True, [1, 4, 22]),
        (3, False, [1, 4, 11, 23, 42, 69, 106]),
        (4, False, [1, 10, 55, 204, 585]),
        (5, False, [1, 26, 327, 2212]),
    ],
)
def test_numbers_of_the_format_description(rank, equal, counts):
    groups = (rank,) if equal else (1,) * rank
    assert [len(angular_functions(groups, lmax)) for lmax in range(len(counts))] == counts


@pytest.mark.parametrize(
    ("ls", "runs"),
    [
        ((1, 1, 1, 1), (4,)),
        ((2, 2, 2, 2), (2, 2)),
        ((1, 1, 2, 2), (2, 2)),
        ((1, 2, 2, 3), (1, 2, 1)),
        ((2, 2, 2, 2, 2), (3, 2)),
        ((1, 1, 1, 2, 3), (2, 1, 1, 1)),
        ((1, 1, 1, 1, 1, 1), (3, 3)),
        ((1, 1, 1, 1, 2, 2), (4, 2)),
        ((2, 2, 2, 2, 2, 2), (6,)),
        ((1,) * 8, (5, 3)),
        ((0, 0, 1, 1, 1, 1, 2, 2), (2, 4, 1, 1)),
    ],
)
def test_kept_couplings_are_independent_and_complete(ls, runs):
    """Rank of the symmetrised coupling tensors of all candidates = of the kept = the number from SO(3) characters."""
    tags = tuple(k for k, run in enumerate(runs) for _ in range(run))
    everything = monomials([((0,) * len(ls), tags, ls, lint) for lint in candidate_lints(ls)])
    kept = monomials([((0,) * len(ls), tags, ls, lint) for lint in independent_lints(ls, runs)])
    starts = np.cumsum((0, *runs))[:-1]
    expected = count_invariants(tuple((ls[s], k) for s, k in zip(starts, runs)))
    assert rank_of(everything) == rank_of(kept) == len(kept) == expected


@pytest.mark.parametrize("rank", range(1, 9))
def test_high_ranks_have_all_invariants_but_at_rank_seven(rank):
    """Powers of one vector and one scalar: one invariant for every even number of vectors."""
    found = angular_functions((rank,), 1)
    expected = rank // 2 + 1 if rank > 1 else 1
    if rank == 7:
        # (0,0,0,0,0,1,1) couples only with L1234 = 0, L123456 = 1, which the engines refuse
        assert [ls for ls, _ in found] == [(0,) * 7, (0,) * 3 + (1,) * 4, (0,) + (1,) * 6]
        assert all(lint[3] == lint[4] for _, lint in found)
    else:
        assert len(found) == expected


def test_samples_agree_with_the_coupling_coefficients():
    rng = np.random.default_rng(3)
    ls = (1, 2, 2, 1, 2)
    factors = [rng.standard_normal((2 * l + 1, 4)) + 1j * rng.standard_normal((2 * l + 1, 4)) for l in ls]
    # a_{l,-m} = (-1)^m conj a_{lm}, as for the A of real structures
    for l, a in zip(ls, factors):
        for m in range(l + 1):
            a[l - m] = (-1) ** m * np.conj(a[l + m])
        a[l] = a[l].real
    for lint in candidate_lints(ls):
        ms, weights = coupling_terms(ls, lint)
        direct = sum(
            w * np.prod([a[l + x] for l, a, x in zip(ls, factors, m)], axis=0).real for m, w in zip(ms, weights)
        )
        np.testing.assert_allclose(invariant_samples(ls, (lint,), factors)[0].real, direct, atol=1e-12)


@pytest.mark.parametrize("case", DESCRIBED)
def test_reference_basis_of_the_same_description(reference_case, case):
    """Same numbers, blocks, radial sizes and order, and the same span in every (mu, n, l)."""
    folder = reference_case(case)
    config = ast.literal_eval(json.loads((folder / "info.json").read_text())["config"])
    ours, theirs = build_potential(config), AcePotential.read(folder / "pot.yaml")
    assert list(ours.blocks) == list(theirs.blocks)
    assert ours.species == theirs.species
    assert not ours.is_fitted
    for pair, bond in theirs.bonds.items():
        mine = ours.bonds[pair]
        assert mine.radcoefficients.shape == bond.radcoefficients.shape
        for key in vars(bond):
            if key != "radcoefficients":
                assert getattr(mine, key) == getattr(bond, key), key
    for el in theirs.elements:
        a, b = plain(ours.functions(el)), plain(theirs.functions(el))
        assert [f[:3] for f in a] == [f[:3] for f in b]
        a, b = by_factors(a), by_factors(b)
        for key in b:
            index = {}
            theirs_rows = monomials(b[key], index)
            mine_rows = monomials(a[key], index)
            theirs_rows = np.pad(theirs_rows, ((0, 0), (0, mine_rows.shape[1] - theirs_rows.shape[1])))
            mix, *_ = np.linalg.lstsq(mine_rows.T, theirs_rows.T, rcond=None)
            assert np.abs(mine_rows.T @ mix - theirs_rows.T).max() < 1e-9
            assert np.linalg.cond(mix) < 1e6


@pytest.mark.parametrize(
    ("case", "orders", "lmax"),
    [
        ("fit_cu_large_lin", [15, 5, 4, 3, 3, 2, 1], [0, 3, 2, 2, 1, 1, 1]),
        ("fit_cu_small_fs2", [10, 3, 3, 2], [0, 2, 2, 1]),
        ("pub_Cu-I", [15, 3, 2, 2, 1], [0, 2, 2, 1, 1]),
        ("pub_Cu-III", [15, 3, 2, 1], [0, 2, 2, 1]),
    ],
)
def test_published_bases(reference_case, case, orders, lmax):
    theirs = AcePotential.read(reference_case(case) / "pot.yaml")
    ours = build_potential(
        {"elements": "Cu", "cutoff": theirs.cutoff, "nradmax_by_orders": orders, "lmax_by_orders": lmax}
    )
    index = {}
    b, a = monomials(plain(theirs.functions("Cu")), index), monomials(plain(ours.functions("Cu")), index)
    assert len(a) == len(b)
    b = np.pad(b, ((0, 0), (0, a.shape[1] - b.shape[1])))
    mix, *_ = np.linalg.lstsq(a.T, b.T, rcond=None)
    assert np.abs(a.T @ mix - b.T).max() < 1e-9


def test_multicomponent_functions_are_independent():
    pot = build_potential(
        {
            "elements": ["Ni", "Al", "Cu"],
            "cutoff": 5.0,
            "functions": {
                "ALL": {"nradmax_by_orders": [2, 2, 1, 1], "lmax_by_orders": [0, 1, 1, 1]},
                "Al": {"nradmax_by_orders": [3, 2, 2, 2], "lmax_by_orders": [0, 2, 2, 1]},
            },
        }
    )
    assert pot.elements == ("Al", "Cu", "Ni")
    for el in pot.elements:
        matrix = monomials(plain(pot.functions(el)))
        assert rank_of(matrix) == len(matrix) == pot.n_functions[el]
    # the set of elements names the block, and every function belongs to exactly one
    for name, functions in pot.blocks.items():
        assert all({f.mu0, *f.mus} == set(name.split()) for f in functions)
    assert pot.n_functions["Al"] > pot.n_functions["Ni"] == pot.n_functions["Cu"]


def test_written_basis_reads_back_equal():
    pot = build_potential({**COPPER, "elements": ["Cu", "Al"], "embedding": "sqrt", "metadata": {"origin": "test"}})
    again = AcePotential.from_yaml(pot.to_yaml())
    assert again.to_yaml() == pot.to_yaml()
    assert again.n_functions == pot.n_functions
    assert again.metadata["origin"] == "test"
    np.testing.assert_array_equal(pot.bonds["Al", "Cu"].radcoefficients[:, 1], np.eye(2, 4))


def test_flat_and_sectioned_forms_agree():
    flat = build_potential({**COPPER, "radbase": "ChebPow", "radparameters": [2.0], "ndensity": 2, "r_in": 1.0,
                            "delta_in": 0.3, "core-repulsion": [10.0, 2.0]})  # fmt: skip
    sections = build_potential(
        {
            "deltaSplineBins": 0.001,
            "elements": ["Cu"],
            "embeddings": {"ALL": {"npot": "FinnisSinclairShiftedScaled", "fs_parameters": [1, 1, 1, 0.5]}},
            "bonds": {"ALL": {"rcut": 6.0, "radbase": "SBessel", "radparameters": [2.0], "core_repulsion": [10, 2]},
                      "UNARY": {"radbase": "ChebPow"}, "Cu": {"r_in": 1.0, "delta_in": 0.3}},
            "functions": {"UNARY": {"nradmax_by_orders": [4, 2, 1], "lmax_by_orders": [0, 2, 1]}},
        }
    )  # fmt: skip
    assert flat.to_yaml() == sections.to_yaml()


def test_specific_keywords_win_key_by_key():
    pot = build_potential(
        {
            "elements": ["Al", "Ni"],
            "bonds": {"ALL": {"rcut": 5.0, "dcut": 0.5}, "BINARY": {"rcut": 4.5}, "NiAl": {"radparameters": [3.0]}},
            "functions": {
                "ALL": {"nradmax_by_orders": [3, 1], "lmax_by_orders": [0, 1]},
                "BINARY": {"nradmax_by_orders": [2, 1]},
                "AlNi": {"lmax_by_orders": [0, 2]},
            },
        }
    )
    assert (pot.bonds["Al", "Al"].rcut, pot.bonds["Al", "Ni"].rcut) == (5.0, 4.5)
    assert pot.bonds["Al", "Ni"].radparameters == pot.bonds["Ni", "Al"].radparameters == (3.0,)
    assert pot.bonds["Ni", "Al"].dcut == 0.5
    # one block per central atom: only the one with Al in its middle reaches l = 2
    assert {l for f in pot.blocks["Al Ni"] for l in f.ls} == {0, 1, 2}
    assert {l for f in pot.blocks["Ni Al"] for l in f.ls} == {0, 1}
    assert [f.ns for f in pot.blocks["Al Ni"] if f.rank == 1] == [(1,), (2,)]
    assert pot.bonds["Ni", "Al"].lmax == 2  # radial data are shared by both orders of a pair


def test_function_limit_keeps_the_smallest_power_ranks():
    two = {**COPPER, "elements": ["Al", "Cu"]}
    full, cut = build_potential(two), build_potential({**two, "number_of_functions_per_element": 20})
    assert cut.n_functions == {"Al": 20, "Cu": 20}

    def power(f):
        return f.rank + sum(f.ns) + sum(f.ls)

    for name, functions in cut.blocks.items():
        assert len(functions) == 10  # four blocks share 40 functions
        dropped = [f for f in full.blocks[name] if f not in functions]
        assert max(map(power, functions)) <= min(map(power, dropped))
        assert list(functions) == [f for f in full.blocks[name] if f in functions]
    orders = {key: two.pop(key) for key in ("nradmax_by_orders", "lmax_by_orders")}
    two["functions"] = {"number_of_functions_per_element": 20, "ALL": orders}
    assert build_potential(two).to_yaml() == cut.to_yaml()
    large = {**COPPER, "number_of_functions_per_element": 10**6}
    assert build_potential(large).to_yaml() == build_potential(COPPER).to_yaml()
    with pytest.raises(AceError, match="at least 2"):
        build_potential({**COPPER, "elements": ["Al", "Cu"], "number_of_functions_per_element": 1})


def test_random_start_follows_the_seed():
    description = {**COPPER, "coefs_init": "random"}
    one, same, other = (build_potential(description, seed=s).coefficients("Cu") for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one).max() > 0
    assert not np.array_equal(one, other)
    assert not np.any(build_potential(COPPER, seed=1).coefficients("Cu"))


def test_lmin_and_skipped_orders():
    wide = {**COPPER, "lmax_by_orders": [0, 2, 2]}
    all_rank3 = [f for f in build_potential(wide).functions("Cu") if f.rank == 3]
    pot = build_potential({**wide, "nradmax_by_orders": [4, 0, 1], "lmin_by_orders": [0, 0, 1]})
    assert {f.rank for f in pot.functions("Cu")} == {1, 3}
    rank3 = plain([f for f in pot.functions("Cu") if f.rank == 3])
    assert rank3 == plain([f for f in all_rank3 if min(f.ls) >= 1])
    assert rank3


def test_element_without_functions():
    pot = build_potential(
        {
            "elements": ["Al", "Ni"],
            "cutoff": 5.0,
            "functions": {"Al": {"nradmax_by_orders": [2], "lmax_by_orders": [0]}},
        }
    )
    assert pot.n_functions == {"Al": 2, "Ni": 0}
    assert AcePotential.from_yaml(pot.to_yaml()).n_functions == {"Al": 2, "Ni": 0}
    atoms = bulk("Al", cubic=True) * (2, 1, 1)
    atoms.symbols[:3] = "Ni"
    atoms.rattle(0.1, seed=1)
    # nothing is written beside the arrays: the elements without functions have no columns
    model = AceModel(pot.with_coefficients({"Al": np.array([[1.0, 2.0]]), "Ni": np.zeros((1, 0))}), threads=1)
    system = model.linear_system(atoms, virial=True)
    result = model.evaluate(atoms)
    assert system.energy @ [1.0, 2.0] == pytest.approx(result.energy, rel=1e-10)
    assert (system.forces @ [1.0, 2.0]).reshape(-1, 3) == pytest.approx(result.forces, abs=1e-10)
    gradient = model.coefficient_gradient(atoms)
    assert gradient["Al"][0] == pytest.approx(system.energy, rel=1e-10)
    with pytest.raises(AceError, match=r"no function with Ni as central atom: .* \(functions: ALL, UNARY or Ni\)"):
        pot.require_functions()


def test_radial_functions_that_jump_at_the_cutoff():
    with pytest.warns(UserWarning, match="ChebLinear of Cu-Cu is not zero at the cutoff") as caught:
        pot = build_potential({**COPPER, "radbase": "ChebLinear"})
    assert len(caught) == 1
    assert len(cutoff_warnings(pot.bonds)) == 1
    # the claim itself, of each radial type
    for name in RADIAL_TYPES:
        bond = replace(pot.bonds["Cu", "Cu"], radbase=name, radparameters=(2.0,))
        jump = float(np.abs(radial_basis(bond, np.array([bond.rcut * (1 - 1e-9)]))[0]).max())
        assert (jump > 0.1) is (name == "ChebLinear")
        assert bool(cutoff_warnings({("Cu", "Cu"): bond})) is (name == "ChebLinear")


def test_radial_type_without_formula_is_refused():
    text = build_potential(COPPER).to_yaml()
    with pytest.raises(AceError, match="'TEST_SBessel'; known: SBessel, ChebExpCos, ChebPow, ChebLinear"):
        AcePotential.from_yaml(text.replace("radbase: SBessel", "radbase: TEST_SBessel"))


def test_core_repulsion_without_effect_warns():
    with pytest.warns(UserWarning, match="no effect"):
        build_potential({**COPPER, "core-repulsion": [100.0, 5.0]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nradmax_by_order": [4, 2, 1]}, "'nradmax_by_orders'"),
        ({"bonds": {"ALL": {"rcutt": 5.0}}}, "'rcut'"),
        ({"bonds": {"BINRY": {"rcut": 5.0}}}, "'BINARY'"),
        ({"functions": {"UNRY": {}}}, "'UNARY'"),
        ({"functions": {"CuZr": {}}}, "CuZr"),
        ({"embeddings": {"ALL": {"npott": "x"}}}, "'npot'"),
        ({"embeddings": {"Zr": {"ndensity": 1}}}, "'Zr'"),
        ({"npot": "FinnisSinclare"}, "'FinnisSinclair'"),
        ({"radbase": "SBesel"}, "'SBessel'"),
        ({"radbase": "TEST_SBessel"}, "found 'TEST_SBessel'; did you mean 'SBessel'"),
        ({"elements": ["Cu", "Qq"]}, "'Qq'"),
        ({"elements": ["Cu", "Cu"]}, "twice"),
        ({"elements": []}, "no elements"),
        ({"cutoff": -1}, "cutoff: must be a positive number"),
        ({"cutoff": "far"}, "must be a positive number .A. or null, found 'far'"),
        ({"cutoff": None}, "no rcut"),
        ({"dcut": 7.0}, "larger than rcut"),
        ({"lmax_by_orders": [0, 1]}, "equally long"),
        ({"nradmax_by_orders": [4, 2.5, 1]}, "integer"),
        ({"nradmax_by_orders": 4}, "list"),
        ({"nradmax_by_orders": [0, 0, 0]}, "yields no functions"),
        ({"nradbase": 2}, "nradbase=2"),
        ({"fs_parameters": [1, 1, 1]}, "two numbers for each density, found 3"),
        ({"ndensity": 2, "fs_parameters": [1, 1]}, "4 embedding parameters"),
        ({"core-repulsion": [1.0]}, "core_repulsion: must be a list of 2 numbers"),
        ({"coefs_init": "one"}, "'zero'"),
        ({"number_of_functions_per_element": 0}, "must be a positive integer"),
        ({"potential": {}}, "section"),
    ],
)
def test_bad_descriptions(change, message):
    with pytest.raises(AceError, match=message):
        build_potential({**COPPER, **change})


def test_far_too_large_basis(monkeypatch):
    monkeypatch.setattr("aiida_aceal.ace.build.MAX_FUNCTIONS_PER_ELEMENT", 1000)
    with pytest.raises(AceError, match="at most 1000 functions"):
        build_potential({**COPPER, "nradmax_by_orders": [4, 2, 40]})


def test_missing_parts():
    for key, message in (("cutoff", "no rcut"), ("nradmax_by_orders", "no nradmax"), ("elements", "no elements")):
        with pytest.raises(AceError, match=message):
            build_potential({k: v for k, v in COPPER.items() if k != key})
    with pytest.raises(AceError, match="mapping"):
        build_potential(["Cu"])
    with pytest.raises(AceError, match="inner_cutoff_type must be the same"):
        build_potential({**COPPER, "elements": "Al Cu", "bonds": {"BINARY": {"inner_cutoff_type": "density"}}})


def test_couplings_are_those_the_engines_accept():
    """The checks of the reference engine on its input files (FORMATS 2.1)."""
    pot = build_potential(
        {**COPPER, "nradmax_by_orders": [2, 2, 2, 2, 2, 2, 2, 1], "lmax_by_orders": [0, 3, 3, 3, 2, 2, 1, 1]}
    )
    assert {f.rank for f in pot.functions("Cu")} == set(range(1, 9))
    for f in pot.functions("Cu"):
        assert len(f.lint) == max(f.rank - 2, 0)
        assert sum(f.ls) % 2 == 0
        if f.rank == 1:
            assert f.ls == (0,)
        elif f.rank == 2:
            assert f.ls[0] == f.ls[1]
        elif f.rank in (3, 5, 7):
            assert f.lint[-1] == f.ls[-1]
        if f.rank in (4, 6, 7, 8):
            assert f.lint[-1] == f.lint[-2]


def test_projection_order_is_ascending():
    pot = build_potential({**COPPER, "nradmax_by_orders": [2, 2, 2, 2], "lmax_by_orders": [0, 2, 2, 2]})
    keys = [(f.rank, f.mus, f.ns, f.ls) for f in pot.functions("Cu")]
    assert keys == sorted(keys)
    assert all(sum(f.ls) % 2 == 0 for f in pot.functions("Cu"))
    # all factors within a function ascend, so that no product is met twice
    assert all(list(zip(f.mus, f.ns, f.ls)) == sorted(zip(f.mus, f.ns, f.ls)) for f in pot.functions("Cu"))
