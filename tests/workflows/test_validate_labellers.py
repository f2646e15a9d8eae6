"""``aceal.validate`` asks any labeller: VASP (aiida-vasp with a stand-in for the program) and the real pw.x."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from ase.units import GPa

from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.properties import Engine, PropertiesSettings, compute_properties

sys.path.insert(0, str(Path(__file__).parents[1] / "quantumespresso"))
from test_label_quantumespresso import pseudo_family, pw_code  # noqa: F401 (fixtures)

pytestmark = pytest.mark.long


def fitted(element, labels):
    from aiida_aceal.ace import build_potential
    from aiida_aceal.fitting import fit_linear

    basis = build_potential(
        {"elements": [element], "cutoff": 5.0, "nradmax_by_orders": [5, 2], "lmax_by_orders": [0, 1]}
    )
    return AcePotentialData(potential=fit_linear(basis, labels).potential)


def rattled(atoms, count=8):
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(count):
        work = atoms.copy()
        work.set_cell(work.cell @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
        work.positions += rng.normal(0, 0.03, work.positions.shape)
        frames.append(work)
    return frames


@pytest.fixture
def validate(aceal_worker_code, job_metadata):
    def run(potential, atoms, labeller, settings):
        options = job_metadata()["options"]
        return run_get_node(
            WorkflowFactory("aceal.validate"),
            potential=potential,
            structure=ConfigurationsData.from_atoms([atoms], source="test"),
            settings={"lattice": "given", **settings},
            worker={"code": aceal_worker_code, "options": options},
            labeller={"options": orm.Dict(options), **labeller},
        )[1]

    return run


@pytest.mark.timeout(900)
def test_vasp(validate, fake_vasp_code, fake_potcar_family):
    """The stand-in computes with EMT: numbers are those of EMT itself. Runs it cannot make, and says so."""
    labeller = {
        "entry_point": orm.Str("aceal.label.vasp"), "code": fake_vasp_code,
        "settings": orm.Dict({"potential_family": fake_potcar_family, "max_concurrent": 3}),
    }  # fmt: skip
    potential = fitted("Cu", Engine(EMT).label(rattled(bulk("Cu", cubic=True))))
    md = {"cell_length": 5.0, "steps": 30, "equilibration": 5, "interval": 5, "npt": False}
    node = validate(potential, bulk("Cu", a=3.59), labeller, {"properties": "elastic,md", "md": md})
    assert node.is_finished_ok, node.exit_message
    found = node.outputs.numbers["elastic"].get_dict()
    settings = PropertiesSettings(properties="elastic", relax_start=False)
    direct, _ = compute_properties(settings, [bulk("Cu", a=3.59)], Engine(EMT))
    expected = direct["elastic"]["independent_GPa"]
    assert found["reference"]["independent_GPa"] == pytest.approx(expected, rel=1e-3)
    assert found["potential"]["independent_GPa"] != pytest.approx(expected, rel=1e-3)
    labels = [one for one in node.called_descendants if one.process_label == "VaspWorkChain"]
    assert len(labels) == len(node.outputs.structures) == node.outputs.summary["n_labelled"]
    assert "aceal.label.vasp labels single points" in node.outputs.summary["properties"]["md"]["reference_error"]
    assert node.outputs.numbers["md"]["potential"]["atoms"] > 0


@pytest.mark.timeout(900)
def test_quantum_espresso(validate, pw_code, pseudo_family):  # noqa: F811
    """Silicon by the real pw.x: the equation of state is that of the energies in its outputs."""
    settings = {
        "pseudo_family": pseudo_family, "kpoints_distance": 0.5, "max_concurrent": 2,
        "parameters": {"SYSTEM": {"ecutwfc": 16}, "ELECTRONS": {"conv_thr": 1e-9}},
    }  # fmt: skip
    labeller = {
        "entry_point": orm.Str("aceal.label.quantumespresso"), "code": pw_code, "settings": orm.Dict(settings),
    }  # fmt: skip
    potential = fitted("Si", Engine(_tersoff).label(rattled(bulk("Si", cubic=True))))
    node = validate(potential, bulk("Si", a=5.4), labeller, {"properties": "eos", "eos": {"points": 5}})
    assert node.is_finished_ok, node.exit_message
    reference = node.outputs.numbers["eos"]["reference"]["diamond"]
    done = [one for one in node.called_descendants if one.process_label == "PwCalculation"]
    assert len(done) == 5
    pairs = [(one.outputs.output_parameters["volume"], one.outputs.output_parameters["energy"]) for one in done]
    volumes, energies = np.array(sorted(pairs)).T
    volume, _, modulus = EquationOfState(volumes / 2, energies / 2, eos="vinet").fit()
    assert reference["volume_A3_per_atom"] == pytest.approx(volume, rel=5e-3)
    assert reference["bulk_modulus_GPa"] == pytest.approx(modulus / GPa, rel=0.02)
    assert 80 < reference["bulk_modulus_GPa"] < 110  # 96 by LDA


def _tersoff():
    from ase.calculators.tersoff import Tersoff, TersoffParameters

    third = TersoffParameters(
        m=3.0, gamma=1.0, lambda3=0.0, c=100390.0, d=16.217, h=-0.59825, n=0.78734, beta=1.1e-6, lambda2=1.73222,
        B=471.18, R=2.85, D=0.15, lambda1=2.4799, A=1830.8,
    )  # fmt: skip
    return Tersoff({("Si", "Si", "Si"): third})
