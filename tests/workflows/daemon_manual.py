"""Run by test_manual_labels.py with an AiiDA configuration of its own: labels brought to a campaign of the daemon."""

from __future__ import annotations

import json
import time

from ase.io import write
from daemon_campaign import TIMEOUT, make_profile, wait_for


def main() -> None:
    """Submit, bring labels as long as the campaign pauses, report."""
    from aiida.engine import submit
    from aiida.engine.daemon.client import get_daemon_client
    from aiida.orm import load_node
    from click.testing import CliRunner
    from small_campaign import builder_for
    from test_manual_labels import by_hand, emt

    from aiida_aceal.cli.list_campaigns import campaigns
    from aiida_aceal.cli.profile import local_code
    from aiida_aceal.cli.root import main as command
    from aiida_aceal.workflows.labellers.manual import waiting

    def cli(*words: str) -> str:
        result = CliRunner().invoke(command, [*words, "--profile", "daemon"])
        assert result.exit_code == 0, result.output
        return result.output

    codes = {name: local_code(name) for name in ("aceal-worker", "aceal-lmp")}
    client = get_daemon_client()
    client.start_daemon(number_workers=1)
    rounds, status = [], ""
    try:
        pk = submit(builder_for(by_hand(), codes)).pk
        deadline = time.monotonic() + TIMEOUT

        def pauses_or_ended():
            node = load_node(pk)
            return node if node.is_terminated or _all_wait(node, waiting) else None

        while True:
            node = wait_for(pauses_or_ended, deadline)
            if node.is_terminated:
                break
            status = status or cli("status", str(pk))
            folder = f"round_{len(rounds)}"
            cli("labels", str(pk), "-w", folder)
            frames = emt(f"{folder}/structures.extxyz")
            write(f"{folder}/back.extxyz", frames, format="extxyz")
            rounds.append(len(frames))
            cli("labels", str(pk), f"{folder}/back.extxyz")
            wait_for(lambda: not waiting(load_node(pk)), deadline)
    finally:
        client.stop_daemon(wait=True, timeout=20)
    total = node.outputs.summary.get_dict() if "summary" in node.outputs else {}
    print(
        json.dumps(
            {
                "status": status, "rounds": rounds, "exit_status": node.exit_status,
                "n_training": total.get("n_training"), "campaigns": len(campaigns(10)),
            }
        )
    )  # fmt: skip


def _all_wait(node, waiting) -> bool:
    """Whether every labeller that has not ended is paused."""
    from aiida_aceal.workflows.labellers.manual import labellers

    open_ones = [labeller for labeller in labellers(node) if not labeller.is_terminated]
    return bool(open_ones) and len(waiting(node)) == len(open_ones)


if __name__ == "__main__":
    make_profile()
    main()
