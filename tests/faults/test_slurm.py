"""A campaign through a real Slurm: a job of labels is cancelled, and MD runs out of wall time."""

from __future__ import annotations

import threading
import time
from copy import deepcopy
from pathlib import Path

import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.manage.caching import disable_caching
from small_campaign import builder_for, small
from small_slurm import jobs

from aiida_aceal.cli.profile import local_code

pytestmark = pytest.mark.long

#: Slurm counts in minutes: no shorter limit can be asked for
WALL_SECONDS = 60


def is_job_of(job: dict[str, str], words: str) -> bool:
    """Whether the script of a job runs this command."""
    script = Path(job["folder"]) / "_aiidasubmit.sh"
    return script.is_file() and words in script.read_text().replace("'", "")


class Canceller(threading.Thread):
    """`scancel` for the first job of labels that runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.cancelled: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        import subprocess

        while not self.over.is_set() and not self.cancelled:
            for job in jobs("running"):
                if is_job_of(job, "aceal-worker label"):
                    subprocess.run(["scancel", job["id"]], check=True, timeout=20)
                    self.cancelled.append(job["id"])
                    break
            time.sleep(0.2)


def once(flag: Path, lines: str) -> str:
    """Shell lines for the first job only."""
    return f"if [ ! -e '{flag}' ]; then touch '{flag}'; {lines}; fi"


def outcome(node: orm.ProcessNode) -> tuple[str, list[str]]:
    """What must not depend on faults: the coefficients, and what was labelled."""
    sets = [node.outputs.dataset[key] for key in sorted(node.outputs.dataset)]
    return node.outputs.potential.base.repository.hash(), [digest for data in sets for digest in data.hashes]


@pytest.mark.timeout(1500)
def test_two_faults(slurm_codes, tmp_path):
    data = small(loop={"max_generations": 1})
    del data["test"]
    data["validation"] = [
        {"kind": "rattled", "structure": data["initial"][0]["structure"], "supercell": [2, 2, 2], "count": 4,
         "amplitude": 0.08}
    ]  # fmt: skip
    undisturbed = deepcopy(data)
    data["label"]["options"] = {"prepend_text": once(tmp_path / "label", "sleep 60")}
    data["explore"]["md"]["options"] = {
        "prepend_text": once(tmp_path / "md", "sleep 300"), "max_wallclock_seconds": WALL_SECONDS
    }  # fmt: skip
    canceller = Canceller()
    canceller.start()
    try:
        with disable_caching():
            node = run_get_node(builder_for(data, slurm_codes)).node
    finally:
        canceller.over.set()
        canceller.join()
    assert node.exit_status in (0, 410), node.exit_message
    done = [n for n in node.called_descendants if isinstance(n, orm.CalcJobNode)]
    assert all(job.computer.scheduler_type == "core.slurm" for job in done)

    def statuses(label: str) -> list[int]:
        return [job.exit_status for job in sorted(done, key=lambda job: job.pk) if job.process_label == label]

    assert len(canceller.cancelled) == 1
    labels = statuses("AceLabelAseCalculation")
    assert sum(status != 0 for status in labels) == 1, labels
    assert statuses("AceLammpsCalculation") == [306, 0]
    walls = [
        job.get_option("max_wallclock_seconds")
        for job in sorted(done, key=lambda job: job.pk)
        if job.process_label == "AceLammpsCalculation"
    ]
    assert walls == [WALL_SECONDS, 2 * WALL_SECONDS]
    here = {name: local_code(name) for name in ("aceal-worker", "aceal-lmp")}
    with disable_caching():
        plain = run_get_node(builder_for(undisturbed, here)).node
    assert node.exit_status == plain.exit_status
    assert outcome(node) == outcome(plain), "equal to the last digit, and as many labels"
