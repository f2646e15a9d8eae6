"""``EnsembleData``: one node, members inside."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from aiida.cmdline.commands.cmd_verdi import verdi
from aiida.common import log
from aiida.common.exceptions import ValidationError
from aiida.orm import load_node
from click.testing import CliRunner

from aiida_aceal.ace import AceError, AcePotential
from aiida_aceal.data.ensemble import EnsembleData
from aiida_aceal.fitting import Ensemble


@pytest.fixture
def members(small_potential):
    return Ensemble(
        tuple(small_potential(seed=k) for k in range(3)), "weights", thresholds={"energy": 0.01, "forces": 0.2}
    )


@pytest.fixture
def run():
    def invoke(*words, code: int = 0):
        result = CliRunner().invoke(verdi, ["data", "aceal-ensemble", *map(str, words)], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.output

    yield invoke
    # `verdi` sets logging up for a process of its own, without the data base: give the session's back
    log.CLI_ACTIVE = log.CLI_LOG_LEVEL = None
    log.configure_logging(with_orm=True)


def test_round_trip(aiida_profile, members, cu_atoms, cu_potential):
    node = load_node(EnsembleData(ensemble=members).store().pk)
    assert (len(node), node.elements, node.method) == (3, ["Cu"], "weights")
    assert node.thresholds == {"energy": 0.01, "forces": 0.2}
    assert node.base.repository.list_object_names() == ["ensemble.zip"]
    atoms = cu_atoms(3, labelled=False)
    for ours, theirs in zip(node.get_ensemble().indicators(atoms), members.indicators(atoms)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    first = node.get_members()[0]
    assert first.base.attributes.get("potential_hash") == node.base.attributes.get("potential_hashes")[0]
    assert node.check_potential(first) is None
    assert "does not know Ni" in node.check_potential(cu_potential(elements=("Cu", "Ni")))


def test_members_with_their_own_bases_have_no_common_hash(aiida_profile, small_potential):
    node = EnsembleData(ensemble=Ensemble((small_potential(), small_potential(cutoff=4.5)), "strong"))
    assert node.base.attributes.get("basis_hash") is None
    assert node.base.attributes.get("shared") is False


def test_bad_files(aiida_profile, members, tmp_path):
    with pytest.raises(AceError, match="no such file"):
        EnsembleData(file=tmp_path / "none.zip")
    with pytest.raises(AceError, match="not a readable archive"):
        EnsembleData(file=io.BytesIO(b"text"))
    path = tmp_path / "ensemble.zip"
    members.save(path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "short.zip", "w") as new:
        for name in old.namelist()[:-1]:
            new.writestr(name, old.read(name))
    with pytest.raises(AceError, match=r"short\.zip"):
        EnsembleData(file=tmp_path / "short.zip")
    with pytest.raises((ValidationError, ValueError)):
        EnsembleData().store()


def test_commands(run, aiida_profile, members, tmp_path):
    node = EnsembleData(ensemble=members).store()
    assert node.pk in [int(line.split()[0]) for line in run("list", "-e", "Cu", "--raw").splitlines()]
    shown = run("show", node.pk)
    assert "weights" in shown
    assert "0.2" in shown
    run("export", node.pk, "-o", tmp_path / "out.zip")
    assert Ensemble.load(tmp_path / "out.zip").thresholds == members.thresholds
    run("export", node.pk, "-m", 1, "-o", tmp_path / "one.yaml")
    assert AcePotential.read(tmp_path / "one.yaml").to_yaml() == members.potentials[1].to_yaml()
    assert "the ensemble has 3 members" in run("export", node.pk, "-m", 3, code=2)
    run("import", tmp_path / "out.zip", "-L", "again")
    assert "again" in run("list")
