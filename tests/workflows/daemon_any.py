"""Run by test_daemon.py in a process and AiiDA configuration of its own: workers are killed while a WorkChain waits for
any of its jobs. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from daemon_campaign import TIMEOUT, make_profile, wait_for, workers


def main() -> None:
    """Submit, kill, wait, report."""
    from aiida import orm
    from aiida.engine import submit
    from aiida.engine.daemon.client import get_daemon_client
    from any_chain import AnyChain

    from aiida_aceal.cli.profile import local_computer

    code = orm.InstalledCode(
        label="bash", computer=local_computer(), filepath_executable="/bin/bash",
        default_calc_job_plugin="core.arithmetic.add",
    ).store()  # fmt: skip
    client = get_daemon_client()
    client.start_daemon(number_workers=2, wait=True, timeout=60)
    deadline = time.monotonic() + TIMEOUT
    try:
        flag = Path(os.environ["AIIDA_PATH"]) / "flag"
        node = submit(AnyChain, code=code, flag=orm.Str(str(flag)), count=orm.Int(5))
        wait_for(lambda: sum(job.is_finished for job in orm.load_node(node.pk).called) >= 1, deadline)
        killed = workers(client)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: orm.load_node(node.pk).is_terminated, deadline)
    finally:
        client.stop_daemon(wait=True, timeout=60)
    labels = [link.link_label for link in node.base.links.get_outgoing(node_class=orm.CalcJobNode).all()]
    states = [job.exit_status for job in node.called]
    print(json.dumps({"killed": len(killed), "exit": node.exit_status, "labels": sorted(labels), "states": states}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    make_profile()
    main()
