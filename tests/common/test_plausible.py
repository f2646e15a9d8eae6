"""What is refused, or said, of dynamics and first structures before anything runs."""

import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.plausible import check_start, first_on_top, on_top, unusual
from aiida_aceal.inputs.dynamics import Share, share
from aiida_aceal.labels.calculators import CalculatorSpec, calculator_spec, check_abilities
from aiida_aceal.lammps.deck import MDSettings


def test_atoms_on_top_of_each_other_are_named():
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    assert on_top(atoms) is None
    atoms.positions[5] = atoms.positions[2] + [0.2, 0, 0]
    assert on_top(atoms) in ("atoms 2 and 5 (Cu-Cu) are 0.2 A apart", "atoms 5 and 2 (Cu-Cu) are 0.2 A apart")
    atoms.info["source"] = "mine.cif#0"
    text = first_on_top([bulk("Cu"), atoms], "initial")
    assert text.startswith("initial, structure 1 (mine.cif#0): atoms ")
    assert text.endswith("on top of each other; mend or remove it")
    assert on_top(molecule("H2O")) is None
    assert on_top(Atoms("Cu", cell=[0.5, 9, 9], pbc=True)).endswith("are 0.5 A apart")  # its own image
    assert on_top(Atoms("Cu")) is None


def test_npt_needs_a_periodic_cell():
    water = molecule("H2O")
    assert check_start({"ensemble": "nvt"}, [water]) is None
    text = check_start({"ensemble": "npt"}, [bulk("Cu"), water])
    assert text.startswith("configurations, structure 1 (H2O) is not periodic in three directions")
    assert check_start({"ensemble": "nvt", "schedule": [{}, {"ensemble": "npt"}]}, [water]) is not None
    assert check_start({"ensemble": "npt"}, [bulk("Cu")]) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"timestep_ps": 2.0}, "timestep_ps: must be a number (ps) above 0 and at most 0.02, found 2.0"),
        ({"temperature_K": 300000.0}, "temperature_K: must be a number (K) above 0 and at most 50000, found 300000.0"),
        ({"temperature_K": -5.0}, "temperature_K: must be a number (K) above 0 and at most 50000, found -5.0"),
    ],
)
def test_what_cannot_be_meant_is_refused(values, words):
    with pytest.raises(AceError) as caught:
        MDSettings.read({"steps": 10, **values})
    assert words in str(caught.value)


def test_what_is_seldom_meant_is_said():
    copper, water = [bulk("Cu")], [molecule("H2O")]
    assert unusual({"timestep_ps": 0.002, "temperature_K": 3000.0}, copper) == []
    assert unusual({}, water) == []
    assert unusual({"timestep_ps": 0.002}, water) == [
        "timestep_ps 0.002 is long for structures with hydrogen (usual: up to 0.001); runs may explode"
    ]
    assert unusual({"timestep_ps": 0.001, "schedule": [{}, {"temperature_end_K": 20000.0}]}, copper) == [
        "temperature 20000 K is unusual (usual: up to 10000 K)"
    ]


@pytest.mark.parametrize(
    ("wanted", "cores", "threads", "found"),
    [
        ({"md": 2}, 2, None, {"md": Share(2, 1)}),
        ({"md": 1}, 2, None, {"md": Share(1, 2)}),
        ({"md": 4}, 2, None, {"md": Share(2, 1)}),
        ({"md": 3}, 8, None, {"md": Share(3, 2)}),
        ({"md": 4}, 8, 4, {"md": Share(2, 4)}),
        ({"md": 4}, 2, 4, {"md": Share(1, 4)}),
        ({"a": 1, "b": 4}, 4, None, {"a": Share(1, 1), "b": Share(3, 1)}),
        ({"a": 1, "b": 1}, 1, None, {"a": Share(1, 1), "b": Share(1, 1)}),
        ({}, 4, None, {}),
    ],
)
def test_cores_are_shared(wanted, cores, threads, found):
    assert share(wanted, cores, threads) == found


def test_walkers_times_cores_stay_within_the_machine():
    rng = np.random.default_rng(0)
    for _ in range(300):
        wanted = {f"e{k}": int(rng.integers(1, 9)) for k in range(rng.integers(1, 4))}
        cores = int(rng.integers(len(wanted), 65))
        found = share(wanted, cores)
        assert sum(part.walkers * part.threads for part in found.values()) <= cores
        assert all(1 <= part.walkers <= wanted[name] for name, part in found.items())


def test_calculators_that_cannot_are_found_out():
    check_abilities(calculator_spec("emt"), ["Cu", "Al"])
    with pytest.raises(AceError, match="calculator 'emt' cannot label Si, W; it knows Ag, Al"):
        check_abilities(calculator_spec("emt"), ["Cu", "Si", "W"])
    check_abilities(calculator_spec("lj"), ["Xe"])


def test_methods_of_tblite():
    pytest.importorskip("tblite")
    check_abilities(calculator_spec("tblite"), ["Si", "H"])
    with pytest.raises(AceError, match=r"kwargs\.method: must be one of GFN1-xTB, GFN2-xTB, IPEA1-xTB, found 'GFN2'"):
        check_abilities(calculator_spec("tblite", {"method": "GFN2"}), ["Si"])
    with pytest.raises(AceError, match="calculator 'xtb' cannot label U"):
        check_abilities(calculator_spec("xtb"), ["U"])


class Needs:
    """A calculator that starts a program."""

    def __init__(self, command):
        self.command = command


def test_missing_executables():
    check_abilities(CalculatorSpec("mine", f"{__name__}:Needs", {"command": f"{sys.executable} -c pass"}), ["Cu"])
    with pytest.raises(AceError, match=r"calculator 'mine' needs the executable 'no-such\.x', which is not found"):
        check_abilities(CalculatorSpec("mine", f"{__name__}:Needs", {"command": "no-such.x < in"}), ["Cu"])
