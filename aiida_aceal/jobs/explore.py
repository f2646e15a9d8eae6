"""``explore``: candidates by active exploration, from a pool, or from the structures of properties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .declaration import Input, Job, Output
from .parts import ACTIVE_SET, POTENTIAL

if TYPE_CHECKING:
    from ase import Atoms

    from .task import Task


def _frames(task: Task, name: str) -> Iterator[Atoms]:
    for path, index, atoms in task.located(name):
        atoms.info.setdefault("source", f"{path.name}#{index}")
        yield atoms


def _told(task: Task, report: dict[str, Any]) -> dict[str, Any]:
    task.echo(f"{report['n_candidates']} candidates, largest gamma {report['max_gamma']:.3g}")
    return report


def search(task: Task) -> dict[str, Any]:
    """Move atoms until the largest gamma reaches the target."""
    from aiida_aceal.exploration.active import explore_active

    active_set = task.active_set
    starts = list(_frames(task, "configurations"))
    for atoms in starts:
        atoms.calc = None
    result = explore_active(task.potential, active_set, starts, task.settings, task.seed, task.say)
    task.write("candidates", result.candidates)
    if task.settings.active_set_output:
        result.active_set.save(task.settings.active_set_output)
    return _told(task, result.report)


def sift(task: Task) -> dict[str, Any]:
    """Grade a pool and keep what lies in the window."""
    from aiida_aceal.exploration.pool import PoolSearch

    if task.active_set.emptiness_note:
        task.say(f"note: {task.active_set.emptiness_note}")
    pool = PoolSearch(task.model, task.active_set, task.settings, _frames(task, "known"), task.say)
    task.write("candidates", pool(_frames(task, "configurations")))
    return _told(task, pool.report())


def grade_properties(task: Task) -> dict[str, Any]:
    """Make the structures of properties, grade them, and keep what lies in the window and serves as no test."""
    from aiida_aceal.ace import AceCalculator
    from aiida_aceal.common.configurations import configuration_hash
    from aiida_aceal.exploration.pool import PoolSearch
    from aiida_aceal.properties import Engine, Relaxer
    from aiida_aceal.properties.candidates import property_pool

    known = list(_frames(task, "tests"))
    tests = {configuration_hash(atoms) for atoms in known}
    engine = Engine(lambda: AceCalculator(task.potential), str(task.path("potential").name), shared=True)
    given = list(_frames(task, "configurations"))
    made, failed = property_pool(task.settings, given, Relaxer(engine, task.settings.relaxation), task.say)
    frames = [atoms for atoms in made if configuration_hash(atoms) not in tests]
    if len(frames) < len(made):
        task.echo(f"{len(made) - len(frames)} of {len(made)} structures are left out: they serve as tests")
    # what equals a test but for its orientation or the choice of its cell is a duplicate
    pool = PoolSearch(task.model, task.active_set, task.settings, known, task.say)
    found = list(pool(frames))
    for atoms in found:
        atoms.info["kind"] = "property"
    task.write("candidates", found)
    report = {**pool.report(), "mode": "properties", "failed": failed}
    report["dropped"]["serves_as_test"] = len(made) - len(frames)
    return _told(task, report)


HELP = (
    "Find candidates as described in the YAML file SETTINGS; its paths are relative to the working directory.\n\n"
    "\b\n"
    "mode: active                  or pool, properties\n"
    "potential: potential.yaml\n"
    "active_set: active_set.asi\n"
    "structures: [start.extxyz]    starting points (active), the pool, or crystals (properties)\n"
    "output: candidates.extxyz     array gamma, info gamma_max, source, kind\n"
    "report: report.json           optional\n"
    "seed: 0                       active\n"
    "active_set_output: new.asi    active, optional: the set with all finds\n"
    "known: [train.extxyz]         pool, optional: duplicates of these are dropped\n"
    "tests: [test.extxyz]          properties, optional: structures that are no candidates\n"
    "gamma_lo: 2.0  gamma_hi: 25.0  minimum_distance: {Cu-Cu: 2.0}\n"
    "count: 20  attempts: 100  method: nelder-mead  target_gamma: 15  free: all     active\n"
    "elements: [Cu, I]  atoms: [1, 200]  duplicates: 0.0001  max_candidates: 500    pool\n"
    "properties: eos,elastic       properties\n\n"
    "`--keys` lists all of them. No candidates: OUTPUT is an empty file."
)
STARTS = Input(
    "configurations", "configurations", "Configurations that searches start from.", many=True, key="structures"
)
CANDIDATES = Output(
    "candidates", "configurations", "The configurations found, with gamma of each atom; absent if there are none.",
    key="output",
    may_be_empty=True,
)  # fmt: skip

ACTIVE = Job(
    "explore",
    "Active exploration (Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023), Sec. V.C).\n\n"
    "All cores of the job search at once; the result does not depend on how many there are. Without ``target_gamma`` "
    "in ``settings`` the target follows from the window (:func:`aiida_aceal.exploration.search.target_in_window`).",
    search,
    "aiida_aceal.jobs.explore_files:ActiveFile",
    style="file",
    mode="active",
    node_settings="aiida_aceal.exploration.active:ActiveSettings",
    inputs=(POTENTIAL, ACTIVE_SET, STARTS),
    outputs=(CANDIDATES,),
    seeded=True,
    cores="workers",
    label_keys=True,
    source=lambda settings: "aceal.explore.active",
)
POOL = Job(
    "explore",
    "Grade a pool chunk by chunk and keep what lies in the window.",
    sift,
    "aiida_aceal.jobs.explore_files:PoolFile",
    style="file",
    mode="pool",
    node_settings="aiida_aceal.exploration.pool:PoolSettings",
    inputs=(
        POTENTIAL,
        ACTIVE_SET,
        # a pool may hold anything: what the potential does not know is dropped
        replace(STARTS, help="The pool.", any_element=True),
        Input(
            "known", "configurations",
            "Configurations that are known already; equal structures are dropped from the pool.", required=False,
            many=True, namespace=True, key="known", any_element=True,
        ),
    ),
    outputs=(CANDIDATES,),
    label_keys=True,
    source=lambda settings: "aceal.explore.pool",
)  # fmt: skip
PROPERTIES = Job(
    "explore",
    "Grade the structures behind properties, made with the potential itself, and keep what lies in the window.",
    grade_properties,
    "aiida_aceal.jobs.explore_files:PropertiesFile",
    style="file",
    mode="properties",
    node_settings="aiida_aceal.properties.candidates:PropertyPoolSettings",
    inputs=(
        POTENTIAL,
        ACTIVE_SET,
        replace(STARTS, help="The crystal, then further phases."),
        Input(
            "tests", "configurations", "Structures that serve as tests; equal ones are no candidates.",
            required=False, many=True, namespace=True, key="tests", any_element=True,
        ),
    ),
    outputs=(CANDIDATES,),
    label_keys=True,
    source=lambda settings: "aceal.explore.properties",
)  # fmt: skip
MODES = {"active": ACTIVE, "pool": POOL, "properties": PROPERTIES}
JOB = Job("explore", HELP, search, style="file", modes=MODES)
