"""Bases that are odd rather than wrong: what a fit and an active set say of them."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.ace import AceError, AceModel, build_potential
from aiida_aceal.fitting import fit, format_report
from aiida_aceal.uncertainty import build_active_set


@pytest.fixture(scope="module")
def alloys():
    frames = []
    for seed in range(6):
        atoms = bulk("Al", cubic=True) * (2, 1, 1)
        atoms.symbols[:3] = "Ni"
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    return frames


SMALL = {"elements": ["Al", "Ni"], "cutoff": 5.0, "nradmax_by_orders": [3], "lmax_by_orders": [0]}


@pytest.mark.filterwarnings("ignore:radbase ChebLinear")
@pytest.mark.parametrize("method", ["linear", "nonlinear"])
def test_jump_at_the_cutoff_is_reported(alloys, method, caplog):
    settings = {"method": method, "nonlinear": {"evaluations": 5}, "threads": 1}
    result = fit(build_potential({**SMALL, "radbase": "ChebLinear"}), alloys, settings)
    assert any("ChebLinear of Al-Al, Al-Ni, Ni-Ni is not zero" in line for line in result.report["warnings"])
    assert "warning: radbase ChebLinear" in format_report(result.report)
    assert "ChebLinear" in caplog.text
    assert not any("ChebLinear" in line for line in fit(build_potential(SMALL), alloys, settings).report["warnings"])


def test_functions_of_rank_one_alone(alloys):
    """No angular part at all: the fit is that of the pair functions, and predictions are its design matrix."""
    result = fit(build_potential(SMALL), alloys, {"threads": 1})
    model = AceModel(result.potential, threads=1)
    coefficients = np.concatenate([result.potential.coefficients(el)[0] for el in ("Al", "Ni")])
    for atoms in alloys:
        system = model.linear_system(atoms)
        forces = (system.forces @ coefficients).reshape(-1, 3)
        assert forces == pytest.approx(model.evaluate(atoms).forces, abs=1e-9)


def test_element_without_functions_is_named(alloys):
    description = {key: SMALL[key] for key in ("elements", "cutoff")}
    orders = {"nradmax_by_orders": [3], "lmax_by_orders": [0]}
    potential = build_potential({**description, "functions": {"Al": orders}})
    for attempt in (
        lambda: fit(potential, alloys, {"threads": 1}),
        lambda: build_active_set(AceModel(potential, threads=1), alloys),
    ):
        with pytest.raises(AceError, match="no function with Ni as central atom"):
            attempt()
