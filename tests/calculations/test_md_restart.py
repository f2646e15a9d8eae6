"""MD that runs out of time goes on from its last frame; its outputs are those of one run."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory
from ase.build import bulk

from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.base import output
from aiida_aceal.workflows.explorers.restart import rest_of
from aiida_aceal.workflows.restart import under_restart

SETTINGS = {
    "steps": 4000,
    "temperature_K": 300.0,
    "temperature_end_K": 900.0,
    "timestep_ps": 0.002,
    "gamma_interval": 10,
    "gamma_lo": 0.5,
    "gamma_hi": 1e6,
    "max_candidates": 50,
}


def test_what_is_left_of_a_run():
    rest = rest_of({**SETTINGS, "index": 3, "thermo_interval": 2000}, 1000)
    assert rest["steps"] == 3000
    assert (rest["temperature_K"], rest["temperature_end_K"]) == (450.0, 900.0)
    assert rest["velocities"] == "keep"
    assert "index" not in rest
    assert "thermo_interval" not in rest
    assert rest_of({"steps": 100, "pressure_end_bar": 10.0}, 50)["pressure_bar"] == 5.0
    assert "temperature_K" not in rest_of({"steps": 100}, 50)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_md_goes_on_from_its_last_frame(aceal_lmp_code, learned, job_metadata):
    potential, active_set = learned
    cls, inputs = under_restart(
        CalculationFactory("aceal.lammps"),
        {
            "code": aceal_lmp_code,
            "structure": ConfigurationsData.from_atoms([bulk("Cu", cubic=True) * (3, 3, 3)]).store(),
            "potential": potential,
            "active_set": active_set,
            "settings": orm.Dict(SETTINGS),
            "seed": orm.Int(42),
            # a run ends itself shortly before: the first one after a second, the next ones after 8, 21, 21, ... s
            "metadata": job_metadata(max_wallclock_seconds=7),
        },
    )
    _, node = run_get_node(cls, **inputs)
    assert node.is_finished_ok, node.exit_message
    jobs = sorted((n for n in node.called if isinstance(n, orm.CalcJobNode)), key=lambda job: job.pk)
    assert [job.exit_status for job in jobs[:-1]] == [306] * (len(jobs) - 1)
    assert len(jobs) > 1
    made = [output(job, "report")["steps_reached"] for job in jobs]
    assert sum(made) == SETTINGS["steps"]
    report = node.outputs.report.get_dict()
    assert (report["status"], report["steps_reached"], report["steps_total"]) == ("completed", 4000, 4000)
    assert report["n_parts"] == len(jobs)
    assert report["max_gamma"] == max(output(job, "report")["max_gamma"] for job in jobs)
    assert report["core_seconds"] == pytest.approx(sum(output(job, "report")["core_seconds"] for job in jobs))
    series = node.outputs.time_series
    assert list(series.get_array("step")) == list(range(0, 4001, 10))
    assert series.get_array("time_ps") == pytest.approx(0.002 * series.get_array("step"))
    # energy goes on where it was, not from a perfect crystal
    energy, seam = series.get_array("potential_energy_eV"), made[0] // 10
    usual = np.abs(np.diff(energy[seam // 2 : seam])).max()
    assert abs(energy[seam + 1] - energy[seam]) < 3 * usual
    assert series.get_array("temperature_K")[-60:].mean() == pytest.approx(900.0, rel=0.15)
    steps = [info["step"] for info in node.outputs.candidates.infos]
    assert steps == sorted(set(steps))
    assert max(steps) > made[0]
    assert [info["temperature_set_K"] for info in node.outputs.candidates.infos] == pytest.approx(
        [300.0 + 0.15 * step for step in steps], abs=0.1
    )
