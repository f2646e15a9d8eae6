"""``aceal.fit`` through AiiDA with the real worker."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory
from click.testing import CliRunner

from aiida_aceal.ace import AceModel
from aiida_aceal.calculations.worker_base import union, union_hashes
from aiida_aceal.cli.report import command as report_command
from aiida_aceal.common.configurations import get_labels
from aiida_aceal.report.parity import parity_png


@pytest.fixture
def run_fit(aceal_worker_code, cu_potential, cu_configurations, job_metadata):
    def run(**inputs):
        base = {
            "code": aceal_worker_code,
            "potential": cu_potential(scale=0.0),
            "dataset": {"g0": cu_configurations(12)},
            "metadata": job_metadata(),
        }
        return run_get_node(CalculationFactory("aceal.fit"), **{**base, **inputs})

    return run


def test_fit(run_fit, cu_configurations):
    first, second = cu_configurations(12), cu_configurations(6, seed=1)
    results, node = run_fit(
        # two sets share configurations: each counts once
        dataset={"g0": first, "g1": first.select([2, 5]).extend(second)},
        validation=cu_configurations(4, seed=2),
        settings={"reference_energies": "fit"},
        seed=3,
    )
    assert node.is_finished_ok, node.exit_message
    potential = results["potential"]
    assert potential.is_fitted
    assert potential.base.attributes.get("basis_hash") == node.inputs.potential.base.attributes.get("basis_hash")
    free = potential.reference_energies
    model = AceModel(potential.get_potential(), threads=1)
    hold_out = cu_configurations(4, seed=2).to_atoms()
    ours = [model.evaluate(atoms) for atoms in hold_out]
    force_errors = [result.forces - get_labels(atoms)[1] for result, atoms in zip(ours, hold_out)]
    spread = np.std([get_labels(atoms)[1] for atoms in hold_out])
    assert np.sqrt(np.mean(np.square(force_errors))) < 0.7 * spread
    energy_errors = [
        (result.energy + free["Cu"] * len(atoms) - get_labels(atoms)[0]) / len(atoms)
        for result, atoms in zip(ours, hold_out)
    ]
    assert np.max(np.abs(energy_errors)) < 0.1
    assert len(union_hashes(node.inputs.dataset)) == 18
    report = results["report"].get_dict()
    # what the fit warned of stands in the log of the process
    logged = [log.message for log in orm.Log.collection.get_logs_for(node)]
    assert any("free atoms are not constrained by the data" in line for line in logged)
    assert set(report["warnings"]) <= set(logged)
    assert "report.txt" in results["retrieved"].base.repository.list_object_names()


def test_union_counts_each_once(cu_configurations):
    first, second = cu_configurations(3), cu_configurations(2, seed=1)
    nodes = {"b": second.extend(first), "a": first}
    assert [(node.uuid, indices) for node, indices in union(nodes)] == [
        (first.uuid, [0, 1, 2]),
        (nodes["b"].uuid, [0, 1]),
    ]
    assert union_hashes(nodes) == first.hashes + second.hashes


def test_refused_at_submission(run_fit, cu_configurations, cu_potential):
    with pytest.raises(ValueError, match=r"dataset\.g0: 12 of 12 configurations have no energy"):
        run_fit(dataset={"g0": cu_configurations(12, labelled=False)})
    with pytest.raises(ValueError, match="dataset: give at least one set"):
        run_fit(dataset={})
    with pytest.raises(ValueError, match=r"did you mean 'kappa'"):
        run_fit(settings={"weights": {"kapa": 0.1}})
    with pytest.raises(ValueError, match="'output' is filled by the CalcJob"):
        run_fit(settings={"output": "x.yaml"})
    with pytest.raises(ValueError, match=r"dataset\.g0: element Cu is unknown to the potential \(it knows Al\)"):
        run_fit(potential=cu_potential(elements=("Al",)))
    with pytest.raises(ValueError, match="the seed must not be negative"):
        run_fit(seed=-1)
    with pytest.raises(ValueError, match="not both"):
        run_fit(settings={"validation_fraction": 0.2}, validation=cu_configurations(1))


def test_spoiled_potential(run_fit, job_metadata):
    _, node = run_fit(metadata=job_metadata(append_text="sed -i 's/c: \\[[^]]*\\]/c: [.nan]/' fitted.yaml"))
    assert node.exit_status == 305, node.exit_message
    _, node = run_fit(metadata=job_metadata(append_text="head -c 300 fitted.yaml > f; mv f fitted.yaml"))
    assert node.exit_status == 304, node.exit_message
    _, node = run_fit(metadata=job_metadata(append_text="rm fitted.yaml"))
    assert node.exit_status == 303


def test_ensemble_beside_the_potential(run_fit, cu_configurations, cu_atoms):
    data = cu_configurations(12)
    wanted = {"members": 4, "method": "subsample", "use": "forces"}
    results, node = run_fit(dataset={"g0": data}, settings={"ensemble": wanted}, seed=2)
    assert node.is_finished_ok, node.exit_message
    ensemble, potential = results["ensemble"], results["potential"]
    assert ensemble.base.links.get_incoming().one().node == node
    assert (len(ensemble), ensemble.method, ensemble.elements) == (4, "subsample", ["Cu"])
    assert ensemble.base.attributes.get("basis_hash") == potential.base.attributes.get("basis_hash")
    assert len(set(ensemble.base.attributes.get("potential_hashes"))) == 4
    assert ensemble.base.attributes.get("n_structures") == 12
    assert results["report"]["ensemble"]["thresholds"] == ensemble.thresholds
    members = ensemble.get_ensemble()
    near, far = (
        members.indicators(cu_atoms(4, seed=9, rattle=0.05)),
        members.indicators(cu_atoms(4, seed=9, rattle=0.5)),
    )
    assert all(b.mean() > 3 * a.mean() > 0 for a, b in zip(near, far))
    # what the worker fits is what the numerics fit
    from aiida_aceal.fitting import fit_ensemble

    again = fit_ensemble(node.inputs.potential.get_potential(), data.to_atoms(), {"seed": 2}, wanted)
    assert again.thresholds["forces"] == pytest.approx(ensemble.thresholds["forces"], rel=1e-3)


def test_parity_data_is_kept(run_fit, cu_configurations, tmp_path, monkeypatch):
    monkeypatch.setattr("aiida_aceal.cli.profile.load", lambda *_, **__: None)  # the profile of the tests is loaded
    results, node = run_fit(validation=cu_configurations(3, seed=4), seed=0)
    assert node.is_finished_ok, node.exit_message
    with results["retrieved"].base.repository.open("parity.npz", "rb") as handle, np.load(handle) as arrays:
        forces = arrays["validation_forces"]
        assert {"train_energy", "train_forces", "validation_energy"} <= set(arrays)
    rmse = np.sqrt(np.mean(np.square(forces[:, 1] - forces[:, 0])))
    assert rmse == pytest.approx(results["report"]["validation"]["forces"]["rmse"])
    picture = parity_png(node)
    assert picture.startswith(b"\x89PNG")
    # the command draws the same
    target = tmp_path / "parity.png"
    done = CliRunner().invoke(report_command, [str(node.pk), "-o", str(target)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert target.read_bytes() == picture


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ensemble": {"size": 4}}, "unknown key 'ensemble.size'"),
        ({"ensemble": {"members": 1}}, "an integer of at least 2, found 1"),
        ({"ensemble": {"method": "strong"}}, "does not go with method: linear"),
        ({"ensemble": {"method": "posterior"}, "regularization": {"method": "none"}}, "posterior needs"),
        ({"ensemble_output": "x.zip"}, "'ensemble_output' is filled by the CalcJob"),
    ],
)
def test_wrong_ensembles_are_refused_at_submission(run_fit, settings, words):
    with pytest.raises(ValueError, match=words):
        run_fit(settings=settings)


def test_spoiled_ensemble(run_fit, job_metadata):
    metadata = job_metadata(append_text="head -c 300 ensemble.zip > f; mv f ensemble.zip")
    results, node = run_fit(settings={"ensemble": {"members": 2}}, metadata=metadata)
    assert node.exit_status == 304, node.exit_message
    assert "potential" in results
