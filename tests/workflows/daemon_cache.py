"""Run by test_daemon.py in a process and AiiDA configuration of its own: daemons and the choice of caching.

The profile's own caching is off, as in every new profile. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from daemon_campaign import TIMEOUT, make_profile, wait_for
from small_campaign import small


def command(*words: str) -> str:
    """What ``aiida-aceal`` says."""
    program = str(Path(sys.executable).parent / "aiida-aceal")
    done = subprocess.run([program, *words, "--profile", "daemon"], capture_output=True, text=True, check=False)
    if done.returncode:
        print(json.dumps({"error": done.stdout + done.stderr}))
        sys.exit(1)
    return done.stdout


def main() -> None:
    """Stopped at once, resumed, repeated, repeated without the cache."""
    from aiida import orm
    from aiida.engine.daemon.client import get_daemon_client

    deadline = time.monotonic() + TIMEOUT
    folder = Path(os.environ["AIIDA_PATH"])
    (folder / "input.yaml").write_text(yaml.safe_dump(small(loop={"max_generations": 0})))

    def submitted(text: str) -> orm.ProcessNode:
        return orm.load_node(int(text.split("Submitted campaign ")[1].split(".")[0]))

    def jobs(node: orm.ProcessNode) -> list[orm.CalcJobNode]:
        node.backend.get_session().expire_all()
        return [n for n in node.called_descendants if isinstance(n, orm.CalcJobNode)]

    def labelled(node: orm.ProcessNode) -> list[orm.CalcJobNode]:
        return [job for job in jobs(node) if job.process_label == "AceLabelAseCalculation" and job.is_finished_ok]

    def cached(found: list[orm.CalcJobNode]) -> list[bool]:
        return [job.base.caching.is_created_from_cache for job in found]

    def ended(node: orm.ProcessNode) -> bool:
        return orm.load_node(node.pk).is_terminated

    client = get_daemon_client()
    client.start_daemon(number_workers=1, wait=True, timeout=60)
    try:
        first = submitted(command("run", str(folder / "input.yaml"), "--submit"))
        wait_for(lambda: labelled(first) or ended(first), deadline)
        command("stop", str(first.pk), "--now")
        wait_for(lambda: ended(first), deadline)
        n_labelled = len(labelled(first))
        second = submitted(command("resume", str(first.pk), "--submit"))
        wait_for(lambda: ended(second), deadline)
        third = submitted(command("run", str(folder / "input.yaml"), "--submit"))
        wait_for(lambda: ended(third), deadline)
        fourth = submitted(command("run", str(folder / "input.yaml"), "--submit", "--no-cache"))
        wait_for(lambda: len(jobs(fourth)) > 1, deadline)
        command("stop", str(fourth.pk), "--now")
        wait_for(lambda: ended(fourth), deadline)
    finally:
        client.stop_daemon(wait=True, timeout=60)
    print(
        json.dumps(
            {
                "exit": [node.exit_status for node in (first, second, third, fourth)],
                "messages": [node.exit_message for node in (first, second, third, fourth)],
                "labelled": n_labelled,
                "taken": sum(cached(labelled(second))),
                "again": [job.process_label for job in jobs(third) if not job.base.caching.is_created_from_cache],
                "anew": cached(jobs(fourth)),
            }
        )
    )


if __name__ == "__main__":
    make_profile()
    main()
