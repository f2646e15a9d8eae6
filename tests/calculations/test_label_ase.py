"""``aceal.label.ase`` through AiiDA with the real worker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_aceal.common.configurations import get_labels
from aiida_aceal.data.dataset import ConfigurationsData


@pytest.fixture
def run_label(aceal_worker_code, cu_configurations, job_metadata):
    def run(**inputs):
        base = {
            "code": aceal_worker_code,
            "configurations": cu_configurations(3, labelled=False),
            "settings": {"calculator": "emt"},
            "metadata": job_metadata(threads=2),
        }
        return run_get_node(CalculationFactory("aceal.label.ase"), **{**base, **inputs})

    return run


def test_label(run_label, cu_atoms):
    frames = [*cu_atoms(2, labelled=False), bulk("Si", cubic=True), *cu_atoms(1, seed=1, labelled=False)]
    frames[0].info["reason"] = "gamma"
    results, node = run_label(configurations=ConfigurationsData.from_atoms(frames, source="pool"))
    assert node.is_finished_ok, node.exit_message
    labelled = results["labelled"].to_atoms()
    given = node.inputs.configurations.hashes
    assert [a.info["aceal_hash"] for a in labelled] == [given[i] for i in (0, 1, 3)]
    assert (labelled[0].info["source"], labelled[0].info["reason"]) == ("pool", "gamma")
    for atoms in labelled:
        work = atoms.copy()
        work.calc = EMT()
        energy, forces, stress = get_labels(atoms)
        assert energy == pytest.approx(work.get_potential_energy(), rel=1e-12)
        assert forces == pytest.approx(work.get_forces(), abs=1e-12)
        assert stress == pytest.approx(work.get_stress(), abs=1e-12)
    report = results["report"]
    assert (report["n_labelled"], report["n_failed"]) == (3, 1)
    assert report["failures"][0]["hash"] == given[2]
    assert report["core_seconds"] > 0
    assert report["workers"] == 2


def test_kwargs_and_files(run_label, cu_atoms, small_potential, tmp_path):
    """A calculator that reads a file: our own potential as teacher."""
    small_potential().write(tmp_path / "teacher.yaml")
    results, node = run_label(
        settings={"calculator": "ace", "kwargs": {"potential": "teacher.yaml"}, "stress": False, "workers": 1},
        files={"teacher": orm.SinglefileData(tmp_path / "teacher.yaml")},
    )
    assert node.is_finished_ok, node.exit_message
    assert results["labelled"].has_labels("energy", "forces")
    assert not results["labelled"].has_labels("stress")
    assert np.abs(results["labelled"].get_array("energies")).min() > 1e-6


def test_nothing_labelled(run_label):
    results, node = run_label(configurations=ConfigurationsData.from_atoms([bulk("Si")]))
    assert node.exit_status == 310
    assert "1 failed, the first with: NotImplementedError: No EMT-potential for Si" in node.exit_message
    assert results["report"]["n_failed"] == 1
    assert "labelled" not in results


def test_unknown_calculator(run_label):
    _, node = run_label(settings={"calculator": "emd"})
    assert node.exit_status == 301
    assert "did you mean 'emt'" in node.exit_message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calculater": "emt"}, "unknown key 'calculater'; did you mean 'calculator'"),
        ({}, "'calculator' is missing"),
        ({"calculator": "emt", "kwargs": [1]}, "kwargs: must be a mapping"),
        ({"calculator": "emt", "workers": 0}, "workers: must be a positive integer or null, found 0"),
        ({"calculator": "emt", "timeout": "1"}, "timeout: must be a positive number"),
        ({"calculator": "emt", "energy": "total"}, "energy: must be 'extrapolated' or 'free', found 'total'"),
    ],
)
def test_refused_at_submission(run_label, settings, message):
    with pytest.raises(ValueError, match=message):
        run_label(settings=settings)


@pytest.fixture
def run_hanging(run_label, cu_atoms, job_metadata):
    """Four structures, of which the last two hang, with the given options of the job."""
    frames = cu_atoms(4, labelled=False, rattle=0.01)
    for atoms in frames[2:]:
        atoms.positions[:, 0] += 1.0
    node = ConfigurationsData.from_atoms(frames).store()

    def run(inputs=None, settings=None, lines="", **options):
        faulty = Path(__file__).parents[1] / "worker"
        metadata = job_metadata(prepend_text=f"export PYTHONPATH='{faulty}'\n{lines}")
        metadata["options"].update(options)
        settings = {"calculator": "faulty:Faulty", "kwargs": {"fault": "hang"}, **(settings or {})}
        return run_label(configurations=node, settings=settings, metadata=metadata, **(inputs or {}))

    return run


def test_out_of_time_keeps_what_is_done(run_hanging):
    """The budget ends the batch before the wall time does: labels made so far are an output, the next job has them."""
    results, node = run_hanging(max_wallclock_seconds=30)
    assert node.exit_status == 311, node.exit_message
    assert "2 configurations not tried, the first: out of time: under way" in node.exit_message
    assert not node.base.caching.is_valid_cache
    assert results["labelled"].hashes == node.inputs.configurations.hashes[:2]
    report = results["report"]
    assert (report["n_failed"], report["n_not_tried"]) == (0, 2)
    assert "labels.jsonl" not in results["retrieved"].list_object_names()
    results, node = run_hanging({"progress": results["progress"]}, settings={"timeout": 1})
    assert node.exit_status == 311
    assert "2 configurations failed for a reason that may pass, the first: no result after 1 s" in node.exit_message
    assert results["report"]["n_taken"] == 2
    assert results["labelled"].hashes == node.inputs.configurations.hashes[:2]


def test_killed_by_the_scheduler_keeps_what_is_done(run_hanging):
    """A job of core.direct of which all processes are killed without a warning: no report, but two labels."""
    lines = (
        '( n=0; while [ ${n:-0} -lt 2 ]; do sleep 0.2; n=$(grep -c \'"state": "labelled"\' labels.jsonl); done; '
        "pkill -KILL -P $$ -f aceal-worker ) &"
    )
    results, node = run_hanging(lines=lines)
    assert node.exit_status == 311, node.exit_message
    assert "2 of 4 configurations labelled when the job ended" in node.exit_message
    assert "Killed" in node.exit_message
    assert not node.base.caching.is_valid_cache
    assert results["labelled"].hashes == node.inputs.configurations.hashes[:2]
    assert "report" not in results
    assert results["labelled"].source == "label.ase faulty:Faulty"
    for inputs in ({"progress": results["progress"]}, {"parent_folder": results["remote_folder"]}):
        results, node = run_hanging(inputs, settings={"timeout": 1})
        assert results["report"]["n_taken"] == 2, node.exit_message
        assert len(results["labelled"]) == 2
    with pytest.raises(ValueError, match="give either `progress` or `parent_folder`, not both"):
        run_hanging({"progress": results["progress"], "parent_folder": results["remote_folder"]})
