"""Run by test_daemon.py in a process and AiiDA configuration of its own: workers are killed while a campaign runs.

Prints one line of JSON about what is in the graph afterwards.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

warnings.simplefilter("ignore")
TIMEOUT = 480.0


def make_profile() -> None:
    """SQLite and the broker that needs no service."""
    from aiida.brokers.zeromq import defaults  # noqa: F401
    from aiida.manage.configuration import create_profile, get_config, load_profile
    from aiida.plugins import BrokerFactory

    config = get_config(create=True)
    create_profile(
        config,
        name="daemon",
        email="a@b.c",
        storage_backend="core.sqlite_dos",
        storage_config={"filepath": str(Path(config.dirpath) / "storage")},
        broker_backend="core.zeromq",
        broker_config=BrokerFactory("core.zeromq").get_default_config(),
    )
    config.set_default_profile("daemon")
    config.set_option("runner.poll.interval", 1, scope="daemon")  # 0 would keep a core busy
    config.store()
    load_profile("daemon")


def workers(client) -> list[int]:
    """Process ids of the daemon's workers."""
    info = client.get_worker_info(timeout=20)["info"]
    return [int(pid) for pid in info if isinstance(info[pid], dict)]


def wait_for(condition, deadline: float):
    """First true value of the condition; ends the program if it does not come."""
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    print(json.dumps({"error": "timeout"}))
    sys.exit(1)


def main() -> None:
    """Submit, kill, wait, report."""
    from aiida import orm
    from aiida.engine import submit
    from aiida.engine.daemon.client import get_daemon_client
    from small_campaign import builder_for, small

    from aiida_aceal.cli.profile import local_code

    codes = {name: local_code(name) for name in ("aceal-worker", "aceal-lmp")}
    builder = builder_for(small(loop={"max_generations": 1}), codes)
    client = get_daemon_client()
    client.start_daemon(number_workers=2, wait=True, timeout=60)
    deadline = time.monotonic() + TIMEOUT
    killed = []
    try:
        node = submit(builder)

        def running(label):
            jobs = [n for n in orm.load_node(node.pk).called_descendants if isinstance(n, orm.CalcJobNode)]
            return any(job.process_label == label and not job.is_terminated for job in jobs)

        for label in ("AceFitCalculation", "AceLammpsCalculation"):
            wait_for(lambda label=label: running(label) or node.is_terminated, deadline)
            for pid in workers(client):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        wait_for(lambda: orm.load_node(node.pk).is_terminated, deadline)
    finally:
        client.stop_daemon(wait=True, timeout=60)
    called = [
        link
        for n in [node, *node.called_descendants]
        for link in n.base.links.get_outgoing().all()
        if link.link_type.value.startswith("call")
    ]
    twice = Counter((link.link_label, parent) for link, parent in _with_parent(node))
    print(
        json.dumps(
            {
                "state": node.process_state.value,
                "exit_status": node.exit_status,
                "message": node.exit_message,
                "killed": len(killed),
                "children": len(called),
                "jobs": sum(isinstance(link.node, orm.CalcJobNode) for link in called),
                "unfinished": [
                    link.node.process_label
                    for link in called
                    if not link.node.is_terminated and not isinstance(link.node, orm.CalcFunctionNode)
                ],
                "twice": [label for (label, _), count in twice.items() if count > 1],
                "rows": node.outputs.summary["generations"] if "summary" in node.outputs else [],
            }
        )
    )


def _with_parent(node):
    """CALL links of all jobs that reached the scheduler and of all WorkChains that ended, with the caller.

    A calcfunction is light and may run twice; its first node stays behind.
    """
    from aiida import orm

    for parent in [node, *node.called_descendants]:
        for link in parent.base.links.get_outgoing().all():
            child = link.node
            ran = isinstance(child, orm.CalcJobNode) and child.get_job_id() is not None
            if link.link_type.value.startswith("call") and (ran or isinstance(child, orm.WorkChainNode)):
                yield link, parent.pk


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    make_profile()
    main()
