"""Run by hand: jobs of a campaign are killed as by a scheduler, and the outcome is compared with an undisturbed run.

``python tests/faults/kill_jobs.py`` runs the small campaign of the tests (one generation) twice in a profile of its
own, without caching. In the second run the first job of each kind that computes is ended with all its processes:
SIGTERM to the script and what it started, as `scancel` does, or SIGKILL, as when a node is lost. Prints the jobs that
ran and whether the potentials are equal to the last digit.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "workflows"))
#: words in the command lines of the jobs that are ended -> the signal
KINDS = {
    "aceal-worker label": signal.SIGKILL,
    "aceal-worker fit": signal.SIGTERM,
    "aceal-worker evaluate": signal.SIGKILL,
    "aceal-worker sample": signal.SIGTERM,
    "aceal-lmp": signal.SIGKILL,
}


def kind_of(command: list[str]) -> str | None:
    """Which of `KINDS` a process is."""
    words = " ".join(Path(word).name if word.startswith("/") else word for word in command)
    for kind in KINDS:
        program, _, job = kind.partition(" ")
        if program in words and (not job or f" {job} " in words):
            return kind
    return None


def killer(folder: str) -> None:
    """End the first job of each kind below a folder: the script of the job and all that it started."""
    left = dict(KINDS)
    while left:
        for process in psutil.process_iter(["cmdline"]):
            try:
                command = process.info["cmdline"] or []
                if not process.cwd().startswith(folder) or not any("_aiidasubmit.sh" in word for word in command):
                    continue
                children = process.children(recursive=True)
                kind = next((k for child in children if (k := kind_of(child.cmdline())) in left), None)
                if kind is None:
                    continue
                number = left.pop(kind)
                for victim in [process, *children]:
                    victim.send_signal(number)
                print(f"ended: {kind} by {signal.Signals(number).name}", flush=True)
            except psutil.Error:
                continue
        time.sleep(0.02)


def campaign(title: str) -> dict:
    """Run the small campaign; what came of it."""
    from aiida import orm
    from aiida.engine import run_get_node
    from small_campaign import builder_for, small

    from aiida_aceal.cli.profile import local_code

    codes = {name: local_code(name) for name in ("aceal-worker", "aceal-lmp")}
    start = time.monotonic()
    node = run_get_node(builder_for(small(title=title, loop={"max_generations": 1}), codes)).node
    jobs = [child for child in node.called_descendants if isinstance(child, orm.CalcJobNode)]
    counts = Counter((job.process_label, job.exit_status) for job in jobs)
    print(f"{title}: exit {node.exit_status} {node.exit_message or ''}, {time.monotonic() - start:.0f} s")
    for (label, status), count in sorted(counts.items(), key=str):
        print(f"    {count} {label}, exit {status}")
    return {
        "potential": node.outputs.potential.base.repository.hash() if "potential" in node.outputs else None,
        "labels": sum(len(value) for value in node.outputs.dataset.values()) if "dataset" in node.outputs else 0,
    }


def main() -> None:
    """Profile, undisturbed run, disturbed run, comparison."""
    folder = Path(tempfile.mkdtemp(prefix="aceal-faults-"))
    os.environ["AIIDA_PATH"] = str(folder)
    from aiida_aceal.cli.profile import load

    load(None, create=True)
    plain = campaign("undisturbed")
    helper = subprocess.Popen([sys.executable, __file__, "--kill", str(folder)])
    try:
        disturbed = campaign("disturbed")
    finally:
        helper.kill()
        helper.wait()
    print("equal to the last digit" if plain == disturbed else f"DIFFERENT: {plain} {disturbed}")
    sys.exit(plain != disturbed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--kill"]:
        killer(sys.argv[2])
    else:
        main()
