"""``verdi data aceal-*`` on real nodes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from aiida.cmdline.commands.cmd_verdi import verdi
from aiida.common import log
from click.testing import CliRunner

from aiida_aceal.ace import AcePotential
from aiida_aceal.common.configurations import configuration_hash, read_configurations, write_configurations
from aiida_aceal.data.active_set import ActiveSetData


@pytest.fixture
def run():
    def invoke(*words, code: int = 0):
        result = CliRunner().invoke(verdi, ["data", *map(str, words)], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.output

    yield invoke
    # `verdi` sets logging up for a process of its own, without the data base: give the session's back
    log.CLI_ACTIVE = log.CLI_LOG_LEVEL = None
    log.configure_logging(with_orm=True)


@pytest.fixture
def active_set(cu_potential):
    potential = cu_potential().store()
    size = potential.n_functions["Cu"]
    buffer = io.BytesIO()
    np.savez(buffer, Cu=np.eye(size))
    buffer.seek(0)
    places = [[0, 1], [0, 2], [1, 0], [-1, -1]]
    report = {"kind": "linear", "elements": {"Cu": {"rank": 9, "log_volume": 1.25, "active_environments": places}}}
    return ActiveSetData(file=buffer, report=report, potential=potential, structures=["a", "b"]).store()


def test_listed_in_verdi(run):
    output = run("--help")
    for name in ("aceal-potential", "aceal-active-set", "aceal-dataset"):
        assert name in output


def test_potential(run, cu_potential, tmp_path):
    node = cu_potential().store()
    other = cu_potential(elements=("Ni",)).store()
    listed = run("aceal-potential", "list", "-e", "Cu", "--raw").splitlines()
    pks = [int(line.split()[0]) for line in listed]
    assert node.pk in pks
    assert other.pk not in pks
    assert "Functions" in run("aceal-potential", "list")
    shown = run("aceal-potential", "show", node.pk)
    assert f"Cu:{node.n_functions['Cu']}" in shown
    assert node.uuid in shown
    target = tmp_path / "out.yaml"
    run("aceal-potential", "export", node.pk, "-o", target)
    assert AcePotential.read(target).n_functions == node.n_functions
    assert "exists" in run("aceal-potential", "export", node.pk, "-o", target, code=1)
    run("aceal-potential", "export", node.pk, "-o", target, "--force")
    run("aceal-potential", "export", node.pk, "-o", tmp_path / "out.yace")
    assert (tmp_path / "out.yace").read_text().startswith("elements")
    assert run("aceal-potential", "export", node.pk) == node.content
    assert run("aceal-potential", "export", "-F", "lammps", node.pk) == node.get_lammps()


def test_active_set(run, active_set, tmp_path):
    assert str(active_set.pk) in run("aceal-active-set", "list", "-e", "Cu")
    shown = run("aceal-active-set", "show", active_set.pk)
    assert "Cu:1.2500" in shown
    assert "Structures that contribute  Cu:2" in shown
    run("aceal-active-set", "export", active_set.pk, "-o", tmp_path / "a.asi")
    assert (tmp_path / "a.asi").read_bytes() == active_set.content
    assert "binary" in run("aceal-active-set", "export", active_set.pk, code=1)


def test_dataset(run, cu_configurations, tmp_path):
    node = cu_configurations(3, source="hand made").store()
    assert "hand made" in run("aceal-dataset", "list", "-n", 1)
    shown = run("aceal-dataset", "show", node.pk, "-c")
    assert "3 of 3" in shown
    assert all(digest[:8] in shown for digest in node.hashes)
    run("aceal-dataset", "export", node.pk, "-o", tmp_path / "a.extxyz")
    assert [configuration_hash(a) for a in read_configurations(tmp_path / "a.extxyz")] == node.hashes


def test_import(run, active_set, cu_atoms, small_potential, tmp_path):
    from aiida import orm

    def stored(output: str):
        return orm.load_node(output.split()[-1])

    small_potential().write(tmp_path / "cu.yaml")
    potential = stored(run("aceal-potential", "import", tmp_path / "cu.yaml"))
    assert potential.label == "cu"
    (tmp_path / "cu.asi").write_bytes(active_set.content)
    node = stored(run("aceal-active-set", "import", tmp_path / "cu.asi", "-p", potential.pk, "--label", "mine"))
    assert node.label == "mine"
    assert node.check_potential(potential) is None
    frames = cu_atoms(2)
    for atoms in frames:
        atoms.info["E_dft"] = atoms.calc.results["energy"]
        atoms.arrays["F_dft"] = atoms.calc.results["forces"]
        atoms.calc = None
    write_configurations(tmp_path / "a.extxyz", frames)
    words = ("aceal-dataset", "import", tmp_path / "a.extxyz", "--energy-key", "E_dft", "--forces-key", "F_dft")
    node = stored(run(*words))
    assert node.has_labels("energy", "forces")
    assert node.source == "a.extxyz"
    for atoms in frames:
        atoms.info["REF_energy"] = 1.0
        atoms.arrays["REF_forces"] = atoms.arrays["F_dft"]
    write_configurations(tmp_path / "b.extxyz", frames)
    said = run("aceal-dataset", "import", tmp_path / "b.extxyz")
    assert "b.extxyz: energy from REF_energy, forces from REF_forces" in " ".join(said.split())
    assert stored(said).has_labels("energy", "forces")
    assert "no such file" in run("aceal-dataset", "import", tmp_path / "none.extxyz", code=1)
    bad = run("aceal-potential", "import", tmp_path / "a.extxyz", code=1)
    assert "Traceback" not in bad


def test_wrong_type_is_refused(run, cu_configurations):
    node = cu_configurations(1).store()
    assert "Invalid value" in run("aceal-potential", "show", node.pk, code=2)
