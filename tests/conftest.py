"""Fixtures shared by all rooms: where reference numbers and DFT sets are, an AiiDA profile, codes, copper."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# not `pytest_plugins`: that would make a profile for every session, also for those of pure numerics
from aiida.tools.pytest_fixtures import (  # noqa: F401
    aiida_code,
    aiida_code_installed,
    aiida_computer,
    aiida_computer_local,
    aiida_config_factory,
    aiida_localhost,
    aiida_manager,
    aiida_profile_clean,
    aiida_profile_factory,
    daemon_client,
    entry_points,
    started_daemon_client,
    stopped_daemon_client,
    submit_and_await,
)

# the same examples in every run: a test fails for what was changed. `--hypothesis-profile=default` looks for new ones
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")

#: folders of tests/ whose tests get the profile of the session by themselves
AIIDA_ROOMS = {
    "data",
    "faults",
    "jobs",
    "calculations",
    "parsers",
    "workflows",
    "cli",
    "report",
    "reproduce",
    "vasp",
    "quantumespresso",
}

_SHARED = Path(__file__).resolve().parents[2] / "shared"


def _external(variable: str, name: str) -> Path:
    path = Path(os.environ.get(variable, _SHARED / name))
    if not path.is_dir():
        pytest.skip(f"{name} files are not part of the package: set {variable} to their folder")
    return path


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Folder with ``cases/`` and ``md/``: results of python-ace and native LAMMPS on the same input.

    The small part in ``tests/reference``, unless ``ACEAL_REFERENCE`` names (or ``shared/reference`` beside the
    checkout is) the full set.
    """
    named = os.environ.get("ACEAL_REFERENCE")
    full = Path(named or _SHARED / "reference")
    assert named is None or full.is_dir(), f"ACEAL_REFERENCE={named}: no such folder"
    return full if full.is_dir() else Path(__file__).resolve().parent / "reference"


@pytest.fixture(scope="session")
def reference_case(reference_dir):
    """Factory: folder of a case, skipping where the set at hand lacks the case or one of the files."""

    def folder(case: str, *files: str) -> Path:
        path = reference_dir / "cases" / case
        for name in ("pot.yaml", *files):
            if not (path / name).is_file():
                pytest.skip(f"{case}/{name} is in the full set of reference results only: set ACEAL_REFERENCE to it")
        return path

    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with published DFT data sets in extended XYZ."""
    return _external("ACEAL_DATA", "data")


# --- AiiDA -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def aiida_config(tmp_path_factory, aiida_config_factory):  # noqa: F811
    """Temporary AiiDA configuration folder of the session."""
    with aiida_config_factory(tmp_path_factory.mktemp("aiida")) as config:
        yield config


@pytest.fixture(scope="session")
def aiida_profile(aiida_config, aiida_profile_factory):  # noqa: F811
    """Temporary profile without services, made fast: WAL journal, no polling pause, few retries."""
    with aiida_profile_factory(aiida_config) as profile:
        database = Path(profile.storage_config["filepath"]) / "database.sqlite"
        connection = sqlite3.connect(database)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        for key, value in {
            "runner.poll.interval": 0,
            "transport.task_maximum_attempts": 1,
            "transport.task_retry_initial_interval": 1,
        }.items():
            aiida_config.set_option(key, value, scope=profile.name)
        aiida_config.store()
        from aiida_aceal.cli.profile import commit_without_waiting, keep_what_was_read

        commit_without_waiting()
        keep_what_was_read()
        yield profile


@pytest.fixture(autouse=True)
def _profile_of_the_room(request):
    """Load the profile for tests of the AiiDA half only, so that tests of the numerics start at once."""
    rooms = request.path.relative_to(Path(__file__).parent).parts[:-1]
    if AIIDA_ROOMS.intersection(rooms):
        request.getfixturevalue("aiida_profile")
        from aiida.manage import get_manager

        # without pauses here and for jobs, waiting keeps a core busy by asking
        get_manager().get_runner(poll_interval=0.1)


@pytest.fixture
def localhost(aiida_profile, aiida_localhost):  # noqa: F811
    """This machine as a computer, without login shell and waiting."""
    aiida_localhost.set_minimum_job_poll_interval(0.3)
    aiida_localhost.configure(safe_interval=0, use_login_shell=False)
    return aiida_localhost


@pytest.fixture
def installed_script(localhost):
    """Factory: ``InstalledCode`` of a console script that stands beside the running Python (the real one)."""
    from aiida.common.exceptions import NotExistent
    from aiida.orm import InstalledCode, load_code

    def factory(name: str, plugin: str):
        path = Path(sys.executable).parent / name
        assert path.is_file(), f"{path} is missing: install the package"
        try:
            return load_code(f"{name}@{localhost.label}")
        except NotExistent:
            code = InstalledCode(
                label=name, computer=localhost, filepath_executable=str(path), default_calc_job_plugin=plugin
            )
            code.with_mpi = False
            return code.store()

    return factory


@pytest.fixture
def aceal_worker_code(installed_script):
    """Code of the installed ``aceal-worker``."""
    return installed_script("aceal-worker", "aceal.evaluate")


@pytest.fixture
def aceal_lmp_code(installed_script):
    """Code of the installed ``aceal-lmp``."""
    return installed_script("aceal-lmp", "aceal.lammps")


@pytest.fixture
def job_metadata():
    """Metadata of a small CalcJob: one machine, ``threads`` cores, no MPI."""

    def factory(threads: int = 1, **options) -> dict:
        resources = {"num_machines": 1, "num_mpiprocs_per_machine": 1, "num_cores_per_mpiproc": threads}
        return {"options": {"resources": resources, "withmpi": False, "max_wallclock_seconds": 300, **options}}

    return factory


# --- copper ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def cu_atoms():
    """Factory: ``count`` rattled and strained fcc Cu cells as ``ase.Atoms``, labelled by EMT unless told otherwise."""
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.calculators.singlepoint import SinglePointCalculator

    def factory(count: int = 4, seed: int = 0, repeat=(1, 1, 1), rattle: float = 0.1, labelled: bool = True):
        rng = np.random.default_rng(seed)
        configurations = []
        for _ in range(count):
            atoms = bulk("Cu", cubic=True) * repeat
            atoms.set_cell(atoms.cell * rng.uniform(0.96, 1.04), scale_atoms=True)
            atoms.positions += rng.normal(0.0, rattle, atoms.positions.shape)
            if labelled:
                work = atoms.copy()
                work.calc = EMT()
                results = {
                    "energy": work.get_potential_energy(),
                    "forces": work.get_forces(),
                    "stress": work.get_stress(),
                }
                atoms.calc = SinglePointCalculator(atoms, **results)
            configurations.append(atoms)
        return configurations

    return factory


@pytest.fixture
def cu_configurations(aiida_profile, cu_atoms):
    """Factory: unstored ``ConfigurationsData`` of :func:`cu_atoms`."""
    from aiida_aceal.data.dataset import ConfigurationsData

    def factory(count: int = 4, seed: int = 0, source: str = "rattled", **kwargs):
        return ConfigurationsData.from_atoms(cu_atoms(count, seed, **kwargs), source=source)

    return factory


@pytest.fixture(scope="session")
def small_potential():
    """Factory: an ``AcePotential`` with a handful of functions (ranks 1 to 3); ``scale`` 0 leaves it unfitted."""
    from aiida_aceal.ace import AcePotential, BasisFunction, Bond, Species

    def factory(elements=("Cu",), scale: float = 0.1, n_density: int = 1, seed: int = 0, cutoff: float = 5.0):
        rng = np.random.default_rng(seed)
        elements = tuple(sorted(elements))
        parameters = (1.0, 1.0, 1.0, 0.5)[: 2 * n_density]
        bond = Bond("SBessel", (5.25,), cutoff, 0.01, 4, np.eye(4)[:3, None, :].repeat(3, axis=1))
        shapes = [((n,), (0,), ()) for n in (1, 2, 3, 4)]
        shapes += [((a, b), (l, l), ()) for a in (1, 2) for b in range(a, 3) for l in (0, 1, 2)]
        shapes += [((1, 1, 1), (l, l, 0), (0,)) for l in (0, 1)]
        blocks = {}
        for mu0 in elements:
            for mu in elements:
                blocks[mu0 if mu == mu0 else f"{mu0} {mu}"] = tuple(
                    BasisFunction(
                        mu0,
                        (mu,) * len(ns),
                        ns,
                        ls,
                        lint,
                        tuple(scale * rng.normal(size=n_density)) if scale else (0.0,) * n_density,
                    )
                    for ns, ls, lint in shapes
                )
        return AcePotential(
            elements=elements,
            species={el: Species(el, n_density, parameters=parameters) for el in elements},
            bonds={(a, b): bond for a in elements for b in elements},
            blocks=blocks,
        )

    return factory


@pytest.fixture
def cu_potential(aiida_profile, small_potential):
    """Factory: unstored ``AcePotentialData`` of :func:`small_potential`."""
    from aiida_aceal.data.potential import AcePotentialData

    return lambda **kwargs: AcePotentialData(potential=small_potential(**kwargs))


# --- labels of a known ACE ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def random_structures():
    """Factory: small periodic random structures of the given elements, without labels."""
    from ase import Atoms

    def factory(count, elements=("Cu",), n=4, seed=0, cell=5.0):
        rng = np.random.default_rng(seed)
        out = []
        while len(out) < count:
            symbols = rng.choice(elements, n)
            atoms = Atoms(
                symbols, scaled_positions=rng.random((n, 3)), cell=np.eye(3) * cell + rng.normal(0, 0.3, (3, 3))
            )
            atoms.pbc = True
            if atoms.get_all_distances(mic=True)[np.triu_indices(n, 1)].min() > 1.6:
                out.append(atoms)
        return out

    return factory


@pytest.fixture(scope="session")
def label():
    """Label structures with an `AcePotential` (plus free-atom energies and noise); returns the list."""
    from ase.calculators.singlepoint import SinglePointCalculator

    from aiida_aceal.ace import AceModel

    def factory(structures, potential, free=None, noise=0.0, seed=0):
        rng = np.random.default_rng(seed)
        model = AceModel(potential, threads=1)
        out = []
        for atoms in structures:
            atoms = atoms.copy()
            r = model.evaluate(atoms)
            energy = r.energy + sum((free or {}).get(s, 0.0) for s in atoms.get_chemical_symbols())
            atoms.calc = SinglePointCalculator(
                atoms,
                energy=energy + noise * rng.normal(),
                forces=r.forces + noise * rng.normal(size=r.forces.shape),
                stress=r.stress,
            )
            out.append(atoms)
        return out

    return factory


# --- active sets ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def warm_copper():
    """Potential, model and active set of warm solid copper, and what it learnt."""
    from aiida_aceal.ace import AceModel, build_potential
    from aiida_aceal.exploration.initial import generate
    from aiida_aceal.uncertainty import build_active_set

    cell = {"bulk": "Cu", "crystal": "fcc", "a": 3.61, "cubic": True}
    potential = build_potential(
        {"elements": ["Cu"], "cutoff": 4.5, "nradmax_by_orders": [6, 3, 1], "lmax_by_orders": [0, 2, 1]}
    )
    train = generate(
        [
            {"kind": "rattled", "structure": cell, "supercell": 3, "count": 5, "amplitude": [0.05, 0.18]},
            {"kind": "strained", "structure": cell, "supercell": 2, "count": 8, "strain": 0.05, "rattle": 0.1},
        ],
        seed=0,
    )
    model = AceModel(potential, threads=1)
    return potential, model, build_active_set(model, train), train


@pytest.fixture(scope="session")
def lithium():
    """Potential, model and active set of Li2 and Li3, which have not seen four atoms."""
    from aiida_aceal.ace import AceModel, build_potential
    from aiida_aceal.exploration.initial import generate
    from aiida_aceal.uncertainty import build_active_set

    potential = build_potential(
        {"elements": ["Li"], "cutoff": 6.0, "nradmax_by_orders": [6, 3, 1], "lmax_by_orders": [0, 2, 1]}
    )
    train = generate(
        [
            {"kind": "dimers", "pairs": ["Li"], "count": 30, "distance": [2.0, 5.5]},
            {"kind": "clusters", "composition": {"Li": 3}, "count": 60},
        ],
        seed=0,
    )
    model = AceModel(potential, threads=1)
    return potential, model, build_active_set(model, train), train


# --- a stand-in for VASP -----------------------------------------------------------------------------------------


@pytest.fixture
def fake_vasp_code(localhost, tmp_path_factory):
    """Code of the plugin ``vasp.vasp`` that runs ``tests/vasp/fake_vasp.py``: EMT in the clothes of VASP."""
    from aiida.common.exceptions import NotExistent
    from aiida.orm import InstalledCode, load_code

    try:
        return load_code(f"fake-vasp@{localhost.label}")
    except NotExistent:
        wrapper = tmp_path_factory.mktemp("vasp") / "vasp_std"
        program = Path(__file__).parent / "vasp" / "fake_vasp.py"
        wrapper.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{program}' \"$@\"\n")
        wrapper.chmod(0o755)
        code = InstalledCode(
            label="fake-vasp",
            computer=localhost,
            filepath_executable=str(wrapper),
            default_calc_job_plugin="vasp.vasp",
        )
        code.with_mpi = False
        return code.store()


@pytest.fixture
def fake_potcar_family(aiida_profile, tmp_path_factory) -> str:
    """Name of a POTCAR family for Ag, Al, Au, Cu and Ni, home-made: headers only."""
    from aiida_vasp.data.potcar import PotcarData

    name = "FAKE"
    if PotcarData.get_potcar_group(name) is None:
        folder = tmp_path_factory.mktemp("potcars") / name
        for symbol in ("Ag", "Al", "Au", "Cu", "Ni"):
            (folder / symbol).mkdir(parents=True)
            (folder / symbol / "POTCAR").write_text(
                f" PAW_FAKE {symbol} 01Jan2000\n   11.0000\n parameters from PSCTR are:\n"
                f"   VRHFIN ={symbol}: made for tests\n   LEXCH  = PE\n   TITEL  = PAW_FAKE {symbol} 01Jan2000\n"
                "   ENMAX  =  300.000; ENMIN  =  200.000 eV\n END of PSCTR-controll parameters\n End of Dataset\n"
            )
        PotcarData.upload_potcar_family(str(folder), name, "home-made", stop_if_existing=False)
    return name
