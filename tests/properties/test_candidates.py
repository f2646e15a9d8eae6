"""Structures of properties as candidates: graded, in the window, none of them a test; and what serves as a test."""

import json

import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.calculators.emt import EMT
from click.testing import CliRunner

from aiida_aceal.common.configurations import configuration_hash, read_configurations, write_configurations
from aiida_aceal.common.settings import check
from aiida_aceal.properties import Engine, Fixed, Relaxer, common_structures, property_structures
from aiida_aceal.properties.candidates import PropertyPoolSettings, property_pool
from aiida_aceal.properties.names import property_bounds
from aiida_aceal.properties.settings import RelaxationSettings, ValidateSettings
from aiida_aceal.worker.main import main
from aiida_aceal.workflows.sections import check_section

SMALL = {"properties": "eos,elastic,vacancy", "eos": {"points": 5}, "defects": {"cell_length": 7.0}}


@pytest.fixture
def explore(copper_files, tmp_path):
    def run(**changes):
        plan = {
            "mode": "properties", "potential": str(copper_files / "pot.yaml"),
            "active_set": str(copper_files / "set.asi"),
            "structures": str(copper_files / "cu.extxyz"), "output": str(tmp_path / "found.extxyz"),
            "report": str(tmp_path / "report.json"), **SMALL, **changes,
        }  # fmt: skip
        (tmp_path / "settings.yaml").write_text(yaml.safe_dump(plan))
        result = CliRunner().invoke(main, ["explore", str(tmp_path / "settings.yaml")])
        assert result.exit_code == 0, result.output
        size = (tmp_path / "found.extxyz").stat().st_size
        found = read_configurations(tmp_path / "found.extxyz") if size else []
        return found, json.loads((tmp_path / "report.json").read_text()), result.output

    return run


def test_what_extrapolates_is_a_candidate_unless_it_serves_as_a_test(explore, tmp_path):
    everything, report, _ = explore(gamma_lo=0.0, gamma_hi=1e9)
    assert report["status"] == "completed"
    assert not report["failed"]
    assert {atoms.info["property"] for atoms in everything} == {"eos", "elastic", "vacancy"}
    assert {atoms.info["kind"] for atoms in everything} == {"property"}
    gamma = np.array([atoms.info["gamma_max"] for atoms in everything])
    assert gamma.max() == pytest.approx(report["max_gamma"])
    assert all(atoms.arrays["gamma"].max() == pytest.approx(g) for atoms, g in zip(everything, gamma))

    steps = np.unique(np.round(gamma, 6))  # equal by symmetry: above or below together
    middle = float(steps[len(steps) // 2 - 1 : len(steps) // 2 + 1].mean())
    above, report, _ = explore(gamma_lo=middle, gamma_hi=1e9)
    assert [atoms.info["source"] for atoms in above] == [
        a.info["source"] for a in everything if a.info["gamma_max"] > middle
    ]

    write_configurations(tmp_path / "test.extxyz", above[:2])
    left, report, output = explore(gamma_lo=middle, gamma_hi=1e9, tests=[str(tmp_path / "test.extxyz")])
    assert {configuration_hash(a) for a in left} == {configuration_hash(a) for a in above[2:]}
    assert report["dropped"]["serves_as_test"] >= 2
    assert "2 of 2" not in output
    assert "structures are left out: they serve as tests" in output


def test_what_the_potential_cannot_relax_is_taken_as_it_is():
    """Three steps are not enough for anything; no structure is lost."""
    settings = PropertyPoolSettings(**SMALL)
    short = Relaxer(Engine(EMT, "emt"), RelaxationSettings(max_steps=1, fmax=1e-9))
    said = []
    frames, failed = property_pool(settings, [bulk("Cu", a=3.5)], short, said.append)
    assert not failed
    assert all(atoms.info["unrelaxed"] and "error" not in atoms.info for atoms in frames)
    same, _ = property_structures(settings, [bulk("Cu", a=3.5)], Fixed())
    assert [configuration_hash(a) for a in frames] == [configuration_hash(a) for a in same]
    assert "not all can be relaxed: eos, elastic, vacancy" in said
    # what cannot be had at all has its reason, the rest goes on
    frames, failed = property_pool(settings.replace(properties="antisite,elastic"), [bulk("Cu")], Relaxer(Engine(EMT)))
    assert list(failed) == ["antisite"]
    assert {atoms.info["property"] for atoms in frames} == {"elastic"}


def test_structures_that_serve_as_tests_whatever_the_potential():
    names = "eos,elastic,vacancy,pairs,md"
    given = [bulk("Cu", a=3.6)]
    settings = ValidateSettings(properties=names, defects={"cell_length": 7.0}, pairs={"points": 12})
    found = common_structures(settings, given)
    cases = {(a.info["property"], a.info["case"].split("/")[1]) for a in found if a.info["property"] == "pairs"}
    assert cases == {("pairs", "dimer")}  # the crystal will stand at the lattice of the reference
    assert {a.info["property"] for a in found} == {"eos", "pairs"}
    everything = common_structures(settings.replace(lattice="given"), given)
    assert {a.info["property"] for a in everything} == {"eos", "elastic", "vacancy", "pairs"}
    assert common_structures(settings.replace(lattice="given", properties="md"), given) == []


@pytest.mark.parametrize(
    ("value", "bounds"),
    [({"elastic": "5 %"}, {"elastic": 0.05}), ({"eos": "0.5%", "phonon": 0.1}, {"eos": 0.005, "phonon": 0.1})],
)
def test_bounds(value, bounds):
    assert property_bounds(value) == pytest.approx(bounds)
    assert check_section("gate", {"properties": value}) is None


@pytest.mark.parametrize("value", [{"elastic": "five"}, {"elastic": "-5 %"}, {"elastic": 0}, {"elastc": "5 %"}])
def test_bounds_that_are_refused(value):
    message = check_section("gate", {"properties": value})
    assert message.startswith("gate.properties: must be properties with their bounds, such as {elastic: 5 %}")
    with pytest.raises(ValueError, match=r"such as 5 %|did you mean 'elastic'"):
        property_bounds(value)
    assert "enabled: false" in check_section("gate", {"properties": {"eos": 0.1}, "enabled": False})


def test_dynamics_are_not_explored_here():
    assert "names among" in check(PropertyPoolSettings, {"properties": "eos,md"})
