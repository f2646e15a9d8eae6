"""Potential files from outside: what is wrong is refused with its place, at once."""

import re

import numpy as np
import pytest
from ase import Atoms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiida_aceal.ace import AceError, AcePotential, CTildePotential, build_potential
from aiida_aceal.ace.neighbors import build_neighbors
from aiida_aceal.ace.yace import parse_yace, to_ctilde

DESCRIPTION = {"elements": ["Cu", "Zn"], "cutoff": 5.0, "nradmax_by_orders": [2, 1, 1], "lmax_by_orders": [0, 1, 1]}
POTENTIAL = build_potential(DESCRIPTION)
TEXT = POTENTIAL.to_yaml()
YACE = to_ctilde(POTENTIAL).to_yace()


def changed(old: str, new: str) -> str:
    assert re.search(old, TEXT), old
    return re.sub(old, new, TEXT, count=1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            r"nr: \[1\]",
            "nr: [1.7]",
            r"speciesblock 'Cu', function nr=\[1\.7\] nl=\[0\]: nr: expected an integer from 1",
        ),
        (r"nr: \[1\]", "nr: 1", "nr: expected a list, found 1"),
        (r"c: \[0\]", "c: [1e308]", r"c: 1e\+308 lies outside"),
        (r"c: \[0\]", "c: [[0]]", "c: expected a finite number"),
        (r"c: \[0\]", "c: [true]", "c: expected a finite number, found True"),
        (r", c: \[0\]", "", "lacks c"),
        (r"c: \[0\]", "c: [.inf]", r"line \d+ .*: '\.inf' is not a finite number"),
        (r"c: \[0\]", 'c: [0], skip: "false"', "skip: expected true or false, found 'false'"),
        (r"c: \[0\]", "c: [0], colour: red", r"a function: unknown keys \['colour'\]"),
        (
            r"(      - \{type: Cu Cu, nr: \[1\].*\n)",
            r"\1\1",
            r"function Cu Cu nr=\[1\] nl=\[0\] lint=\[\] occurs twice",
        ),
        (r"(    rcutij: 5\n)", r"\1\1", r"line \d+ \(species\): the key 'rcutij' occurs twice"),
        ("rcutij: 5", "rcutij: 500", r"speciesblock 'Cu': rcut: a cutoff of 500 A gives .* 4e\+07 neighbours"),
        ("rcutij: 5", "rcutij: [5]", r"rcutij: expected a finite number, found \[5\]"),
        ("lmaxi: 1", "lmaxi: 100000", "lmaxi: expected an integer from 0 to 10000, found 100000"),
        ("lmaxi: 1", "lmaxi: 9000", "lmax=9000, at most 30 is allowed"),
        ("nradbaseij: 2", "nradbaseij: 9000", "shape"),
        ("ndensityi: 1", "ndensityi: 1.5", "ndensityi: expected an integer"),
        ("parameters: .*", "parameters: {a: 1}", "parameters: expected a finite number"),
        (r"nbody:\n", "nbody: 3\n    other:\n", "unknown keys|nbody: expected a list"),
        ("DeltaSplineBins: .*", "DeltaSplineBins: 0", "DeltaSplineBins must be larger than 0"),
        ("global:\n.*\n", "global: [1]\n", "global: a mapping is expected"),
        ("^", "metadata: [1]\n", "metadata: a mapping is expected"),
        ("^", "metadata: {reference_energy_Cu: low}\n", "reference_energy_Cu: expected a finite number"),
        ("^", "colour: red\n", r"the file: unknown keys \['colour'\]"),
        ("speciesblock: Cu Zn", "speciesblock: [Cu, Zn]", "no 'speciesblock' name"),
        ("speciesblock: Cu\n", "speciesblock: Qq\n", "'Qq' is not a chemical element"),
        ("inner_cutoff_type: distance", "inner_cutoff_type: [1]", "inner_cutoff_type: expected text"),
        ("core-repulsion: .*", "core-repulsion: [1]", "core-repulsion has two numbers"),
    ],
)
def test_potentials_are_refused_with_their_place(old, new, message):
    with pytest.raises(AceError, match=message):
        AcePotential.from_yaml(changed(old, new), "p.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("elements: .*", "elements: Cu", "elements: expected a list"),
        ("elements: .*", "elements: [Cu, Cu]", "an element occurs twice"),
        ("E0: .*", "E0: [.nan, 0]", "not a finite number"),
        ("deltaSplineBins: .*", "deltaSplineBins: 0", "deltaSplineBins: 0 lies outside"),
        ("rcut: 5", "rcut: 500", "a cutoff of 500 A"),
        ("lmax: 1", "lmax: 1.5", "lmax: expected an integer"),
        ("ctildes: .*]", "ctildes: [[1], 2]}", "ctildes|is not valid YAML"),
        ("ndensity: 1", "ndensity: x", "ndensity"),
    ],
)
def test_ctilde_potentials_are_refused_with_their_place(old, new, message):
    assert re.search(old, YACE), old
    with pytest.raises(AceError, match=message):
        parse_yace(re.sub(old, new, YACE, count=1), "p.yace")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"nradmax_by_orders": [2, 2], "lmax_by_orders": [0, 100_000]},
            r"order 2 ask for about 3\.0e\+05 functions or more; .*lmax 30",
        ),
        ({"nradmax_by_orders": [15, 5000], "lmax_by_orders": [0, 1]}, r"order 2 ask for about .*e\+07 functions"),
        (
            {"nradmax_by_orders": [1] * 12, "lmax_by_orders": [0] + [9] * 11},
            r"lmax=9 of order 5 asks for couplings of about 3e\+08 combinations of m",
        ),
        ({"cutoff": 500}, "a cutoff of 500 A gives an atom of a metal about"),
        ({"bonds": {"ALL": {"nradmax": 100_000}}}, "radial coefficients, at most"),
    ],
)
def test_descriptions_that_would_never_end(change, message):
    with pytest.raises(AceError, match=message):
        build_potential({**DESCRIPTION, **change, "elements": ["Cu"]})


def test_flat_cells_are_refused_with_an_estimate():
    atoms = Atoms("Cu", positions=[[0, 0, 0]], cell=[0.01, 0.01, 3.0], pbc=True)
    with pytest.raises(AceError, match=r"1 atoms in a cell of 0\.0003 A\^3 have about \de\+0\d images within 6 A"):
        build_neighbors(atoms, 6.0)


JUNK = st.sampled_from([*'[]{},:~x\n"', "-1", "1e999", ".nan", "1.5", "  ", "&a", "*a"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.booleans(), st.integers(0, 10**6), st.integers(0, 12), JUNK)
def test_damaged_potentials_are_refused_or_finite(old_format, place, length, junk):
    text = TEXT if old_format else YACE
    place %= len(text)
    text = text[:place] + junk + text[place + length :]
    try:
        pot = AcePotential.from_yaml(text) if old_format else parse_yace(text)
    except AceError:
        return
    if isinstance(pot, CTildePotential):
        assert all(np.isfinite(f.ctildes).all() for fs in pot.functions.values() for f in fs)
    else:
        assert all(np.isfinite(c) for fs in pot.blocks.values() for f in fs for c in f.coefficients)
    assert all(np.isfinite(bond.radcoefficients).all() and np.isfinite(bond.rcut) for bond in pot.bonds.values())
