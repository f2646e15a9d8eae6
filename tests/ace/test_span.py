"""The evaluated basis: other couplings and other orders of the factors span the space of the reference basis."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from itertools import groupby
from operator import attrgetter

import numpy as np
import pytest
from ase import Atoms

from aiida_aceal.ace import AceModel, AcePotential, build_potential
from aiida_aceal.ace.independent import candidate_lints, invariant_samples


def structures(elements, seed=7, count=6):
    """Random clusters of 12 atoms, no two closer than 2 Angstrom."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        points = [np.zeros(3)]
        while len(points) < 12:
            x = rng.uniform(-4, 4, 3)
            if min(np.linalg.norm(x - p) for p in points) > 2.0:
                points.append(x)
        found.append(Atoms(rng.choice(elements, 12), points))
    return found


def recoupled(pot, rng):
    """The same (mu, n, l) with shuffled factors and the last instead of the first independent couplings."""
    blocks = {}
    for name, functions in pot.blocks.items():
        new = []
        for _, group in groupby(functions, key=attrgetter("mus", "ns", "ls")):
            group = list(group)
            first = group[0]
            if first.rank in (1, 7):  # rank 7: the order decides which couplings the engines accept
                new += group
                continue
            order = rng.permutation(first.rank)
            mus, ns, ls = (tuple(x[i] for i in order) for x in (first.mus, first.ns, first.ls))
            variables = {}
            samples = 3 * len(group) + 20
            factors = [
                variables.setdefault(key, rng.standard_normal((2 * key[2] + 1, samples))) for key in zip(mus, ns, ls)
            ]
            lints = candidate_lints(ls)[::-1]
            values = invariant_samples(ls, lints, factors)
            kept = []
            for i in range(len(lints)):
                if np.linalg.matrix_rank(values[[*kept, i]], tol=1e-8 * np.abs(values).max()) == len(kept) + 1:
                    kept.append(i)
            assert len(kept) == len(group)
            new += [replace(first, mus=mus, ns=ns, ls=ls, lint=lints[i]) for i in kept]
        blocks[name] = tuple(new)
    return replace(pot, blocks=blocks)


def columns_by_factors(pot, element):
    groups = {}
    for k, f in enumerate(pot.functions(element)):
        groups.setdefault(tuple(sorted(zip(f.mus, f.ns, f.ls))), []).append(k)
    return groups


def assert_same_span(one, two, atoms_list):
    """Within each (mu, n, l), the projections of each basis are linear combinations of the other's."""
    rows = [AceModel(pot, threads=1).projections(atoms_list) for pot in (one, two)]
    for el in one.elements:
        a, b = rows[0][el].rows, rows[1][el].rows
        ca, cb = columns_by_factors(one, el), columns_by_factors(two, el)
        assert set(ca) == set(cb)
        for key in ca:
            x, y = a[:, ca[key]], b[:, cb[key]]
            for left, right in ((x, y), (y, x)):
                scale = np.abs(left).max(axis=0)
                mix, *_ = np.linalg.lstsq(left / scale, right, rcond=None)
                assert np.abs((left / scale) @ mix - right).max() < 1e-9 * np.abs(right).max()


@pytest.mark.parametrize("case", ["cu_lin", "cu_cheblin_nd3", "alni_lin", "alcuni_mixed_ndens", "cu_large"])
def test_span_of_the_reference_basis(reference_case, case):
    folder = reference_case(case)
    reference = AcePotential.read(folder / "pot.yaml")
    config = ast.literal_eval(json.loads((folder / "info.json").read_text())["config"])
    ours = build_potential(config).with_radial_coefficients(
        {pair: bond.radcoefficients for pair, bond in reference.bonds.items()}
    )
    atoms_list = structures(reference.elements)
    if case != "cu_large":
        assert_same_span(reference, ours, atoms_list)
    assert_same_span(reference, recoupled(ours, np.random.default_rng(11)), atoms_list)


def test_span_of_other_couplings():
    pot = build_potential(
        {
            "elements": ["Al", "Ni"],
            "cutoff": 6.0,
            "functions": {
                "ALL": {"nradmax_by_orders": [2, 2, 2, 1, 1], "lmax_by_orders": [0, 3, 2, 2, 1]},
                "Al": {"nradmax_by_orders": [2, 2, 2, 2, 1, 1], "lmax_by_orders": [0, 3, 3, 2, 2, 2]},
            },
        }
    )
    assert_same_span(pot, recoupled(pot, np.random.default_rng(3)), structures(pot.elements, seed=1))


def test_full_basis_is_linearly_independent_on_atoms():
    """No function of the built basis is a combination of the others: the projections have full rank."""
    pot = build_potential(
        {"elements": ["Cu"], "cutoff": 6.0, "nradmax_by_orders": [4, 3, 2, 1], "lmax_by_orders": [0, 2, 2, 1]}
    )
    rows = AceModel(pot, threads=1).projections(structures(["Cu"], count=25))["Cu"].rows
    assert rows.shape[0] > 3 * rows.shape[1]
    values = np.linalg.svd(rows / np.linalg.norm(rows, axis=0), compute_uv=False)
    assert values[-1] > 1e-7 * values[0]
