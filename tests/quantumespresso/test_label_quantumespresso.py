"""``aceal.label.quantumespresso``: with the real pw.x where there is one, its checks and units everywhere.

The real runs need aiida-quantumespresso, ``pw.x`` on the PATH (or ACEAL_PWX) and ACEAL_PSEUDOS, a folder with
``Si.pz-vbc.UPF`` (Debian: quantum-espresso-data, /usr/share/espresso/pseudo).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory
from ase import units
from ase.build import bulk

from aiida_aceal.calculations.label_functions import quantumespresso_labels
from aiida_aceal.common.configurations import get_labels
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.labellers.quantumespresso import AceLabelQuantumEspressoWorkChain as Labeller


@pytest.fixture
def pseudo_family(aiida_profile) -> str:
    pytest.importorskip("aiida_quantumespresso", reason="pip install aiida-quantumespresso")
    folder = Path(os.environ.get("ACEAL_PSEUDOS", "/usr/share/espresso/pseudo"))
    if not (folder / "Si.pz-vbc.UPF").is_file():
        pytest.skip("no Si.pz-vbc.UPF: set ACEAL_PSEUDOS to the folder with Quantum ESPRESSO's pseudopotentials")
    from aiida.plugins import DataFactory, GroupFactory

    label = "aceal-test"
    if not orm.QueryBuilder().append(orm.Group, filters={"label": label}).count():
        with (folder / "Si.pz-vbc.UPF").open("rb") as handle:
            pseudo = DataFactory("pseudo.upf")(handle, filename="Si.pz-vbc.UPF").store()
        family = GroupFactory("pseudo.family")(label=label).store()
        family.add_nodes([pseudo])
    return label


@pytest.fixture
def pw_code(localhost):
    path = os.environ.get("ACEAL_PWX") or shutil.which("pw.x")
    if path is None:
        pytest.skip("no pw.x on this machine")
    code = orm.InstalledCode(
        label="pw", computer=localhost, filepath_executable=path, default_calc_job_plugin="quantumespresso.pw"
    )
    code.with_mpi = False
    return code.store()


@pytest.fixture
def run_label(pw_code, pseudo_family, job_metadata):
    def run(frames, parameters=None, **settings):
        parameters = {"SYSTEM": {"ecutwfc": 20, **(parameters or {})}, "ELECTRONS": {"conv_thr": 1e-10}}
        return run_get_node(
            WorkflowFactory("aceal.label.quantumespresso"),
            code=pw_code,
            configurations=ConfigurationsData.from_atoms(frames, source="pool"),
            settings={
                "pseudo_family": pseudo_family,
                "parameters": parameters,
                "kpoints_distance": 0.8,
                "max_concurrent": 2,
                **settings,
            },
            options=job_metadata()["options"],
        )

    return run


def silicon(strain: float = 0.0, shift: float = 0.0):
    atoms = bulk("Si", a=5.4)
    atoms.positions[1] += (0.06, 0.02, 0.0)
    atoms.set_cell(atoms.cell * np.array([1 + strain, 1, 1]), scale_atoms=True)
    atoms.positions[1, 0] += shift
    return atoms


def test_labels_are_derivatives(run_label):
    """Signs and units of forces and stress, against finite differences of the free energy of the real pw.x."""
    step, strain = 0.01, 0.004
    frames = [silicon(), silicon(shift=step), silicon(shift=-step), silicon(strain), silicon(-strain)]
    results, node = run_label(frames, energy="free")
    assert node.is_finished_ok, node.exit_message
    energy, forces, stress = zip(*(get_labels(a) for a in results["labelled"].to_atoms()), strict=True)
    assert forces[0][1, 0] == pytest.approx(-(energy[1] - energy[2]) / (2 * step), abs=5e-3)
    assert abs(forces[0][1, 0]) > 0.1
    # plane waves: the analytic stress holds at a fixed basis, so only sign and size are compared here
    slope = (energy[3] - energy[4]) / (2 * strain) / frames[0].get_volume()
    assert stress[0][0] == pytest.approx(slope, abs=0.03)
    assert np.sign(stress[0][0]) == np.sign(slope)
    report = results["report"].get_dict()
    assert report["n_labelled"] == 5
    assert report["core_seconds"] > 0
    assert report["parameters"]["SYSTEM"]["nosym"] is True


def test_which_energy_and_failures(run_label):
    """Broad smearing tells the energies apart; a configuration that does not converge is told with its reason."""
    frames = [silicon(), silicon(shift=0.03)]
    free, _ = run_label(frames[:1], {"degauss": 0.03}, energy="free")
    extrapolated, _ = run_label(frames[:1], {"degauss": 0.03})
    shift = extrapolated["labelled"].get_array("energies") - free["labelled"].get_array("energies")
    assert 1e-4 < shift[0] < 0.5
    results, node = run_label(frames, {"nbnd": 2})
    assert node.exit_status == 310
    assert len(results["report"]["failures"]) == 2
    assert "PwBaseWorkChain" in results["report"]["failures"][0]["reason"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pseudo_family": "none"}, "no family of pseudopotentials 'none'"),
        ({"pseudo_family": None}, "pseudo_family: must be text, found None"),
    ],
)
def test_families(pseudo_family, settings, message):
    base = {"pseudo_family": pseudo_family, "parameters": {"SYSTEM": {"ecutwfc": 20}}}
    assert message in Labeller.check_settings({"settings": orm.Dict({**base, **settings})})
    assert Labeller.check_settings({"settings": orm.Dict(base)}) is None
    copper = ConfigurationsData.from_atoms([bulk("Cu")])
    inputs = {"settings": orm.Dict(base), "configurations": copper}
    assert "has no pseudopotential for Cu" in Labeller.check_settings(inputs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "`parameters.SYSTEM.ecutwfc` (Ry) is missing"),
        ({"parameters": {"SYSTEM": {"ECUTWFC": 20}}}, "write 'ecutwfc' for 'ECUTWFC'"),
        ({"parameters": {"system": {"ecutwfc": 20}}}, "not 'system'"),
        ({"parameters": {"CONTROL": {"calculation": "relax"}}}, "a label is a single point"),
        ({"kpoints_spacing": 0.1}, "did you mean 'kpoints_distance'"),
        (
            {"parameters": {"SYSTEM": {"ecutwfc": 20}}, "kpoints_distance": 0},
            "must be a positive number (1/A), found 0",
        ),
    ],
)
def test_refused_settings(aiida_profile, settings, message):
    assert message in Labeller.check_settings({"settings": orm.Dict({"pseudo_family": "any", **settings})})


def test_absent_plugin_is_said(aiida_profile, monkeypatch):
    from aiida.common.exceptions import MissingEntryPointError

    def absent(name):
        raise MissingEntryPointError(name)

    monkeypatch.setattr("aiida.plugins.WorkflowFactory", absent)
    settings = orm.Dict({"pseudo_family": "any", "parameters": {"SYSTEM": {"ecutwfc": 20}}})
    assert "pip install aiida-quantumespresso" in Labeller.check_settings({"settings": settings})


def test_reading():
    """Units, signs and the energy at zero smearing."""
    result = {
        "energy": -10.0,
        "energy_smearing": -0.2,
        "forces": [[0.0, 0.0, 1.0]],
        "stress": [[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]],
    }
    labels = quantumespresso_labels(result, 1, "extrapolated", "gaussian")
    assert labels["energy"] == pytest.approx(-9.9)
    assert quantumespresso_labels(result, 1, "free", "gaussian")["energy"] == -10.0
    assert quantumespresso_labels(result, 1, "extrapolated", "cold")["energy"] == -10.0
    assert labels["stress"] == pytest.approx(-units.GPa * np.array([1.0, 2.0, 3.0, 0.3, 0.2, 0.1]))
    with pytest.raises(ValueError, match="no forces"):
        quantumespresso_labels({**result, "forces": None}, 1)
    with pytest.raises(ValueError, match="for 2 atoms"):
        quantumespresso_labels(result, 2)
