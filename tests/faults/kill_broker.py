"""Run by hand: the broker of a daemon is killed while a campaign runs; the outcome is compared with an undisturbed run.

``python tests/faults/kill_broker.py [SECONDS]`` starts a RabbitMQ of its own (``rabbitmq-server`` must be installed), a
profile with it and two workers, and runs the small campaign of the tests (one generation) twice without caching. During
the second one the broker is ended by SIGKILL as soon as a job of labels runs, and again while MD runs, for SECONDS (60)
each. Prints what ran, whether anything had to be done by hand, and whether the potentials are equal to the last digit.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "workflows"))
PATIENCE = 900.0


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Rabbit:
    """A RabbitMQ with all its files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.distribution = free_port()
        self.process: subprocess.Popen | None = None
        (folder / "enabled_plugins").write_text("[].\n")
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nconsumer_timeout = 864000000\n"
        )

    @property
    def environment(self) -> dict[str, str]:
        """Where everything is."""
        here = str(self.folder)
        return {
            **os.environ, "HOME": here, "RABBITMQ_NODENAME": f"aceal{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": here, "RABBITMQ_LOG_BASE": here, "RABBITMQ_CONFIG_FILE": f"{here}/rabbitmq",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{here}/enabled_plugins", "RABBITMQ_DIST_PORT": str(self.distribution),
            "RABBITMQ_PID_FILE": f"{here}/pid",
        }  # fmt: skip

    def start(self) -> None:
        """Start it and wait until it listens."""
        program = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin:" + os.environ["PATH"])
        with open(self.folder / "output.log", "ab") as log:
            self.process = subprocess.Popen(
                [program], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + 90
        while time.monotonic() < until:
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", self.port)) == 0:
                    time.sleep(2)
                    return
            time.sleep(0.5)
        sys.exit(f"RabbitMQ did not start: {(self.folder / 'output.log').read_text()[-2000:]}")

    def kill(self) -> None:
        """SIGKILL for it and all that it started."""
        for process in [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):  # some end with their parents
                process.send_signal(signal.SIGKILL)
        self.process.wait()
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", self.port)):
                    return
            time.sleep(0.2)
        sys.exit("the broker still listens")


def make_profile(port: int) -> None:
    """SQLite and this broker."""
    from aiida.manage.configuration import create_profile, get_config, load_profile

    config = get_config(create=True)
    create_profile(
        config, name="broken", email="a@b.c", storage_backend="core.sqlite_dos",
        storage_config={"filepath": str(Path(config.dirpath) / "storage")}, broker_backend="core.rabbitmq",
        broker_config={
            "broker_protocol": "amqp", "broker_username": "guest", "broker_password": "guest",
            "broker_host": "127.0.0.1", "broker_port": port, "broker_virtual_host": "",
        },
    )  # fmt: skip
    config.set_default_profile("broken")
    config.set_option("runner.poll.interval", 2, scope="broken")
    config.store()
    load_profile("broken")


def campaign(title: str, faults: list[str], rabbit: Rabbit, seconds: float) -> dict:
    """Submit the small campaign; the broker dies when a job of each of these kinds runs."""
    from aiida import orm
    from aiida.engine import submit
    from small_campaign import builder_for, small

    from aiida_aceal.cli.profile import local_code

    codes = {name: local_code(name) for name in ("aceal-worker", "aceal-lmp")}
    node = submit(builder_for(small(title=title, loop={"max_generations": 1}), codes))
    start, left = time.monotonic(), list(faults)

    def jobs() -> list:
        return [n for n in orm.load_node(node.pk).called_descendants if isinstance(n, orm.CalcJobNode)]

    while not orm.load_node(node.pk).is_terminated:
        if time.monotonic() - start > PATIENCE:
            print(f"{title}: not ended after {PATIENCE:g} s")
            for child in [node, *node.called_descendants]:
                if not child.is_terminated:
                    print(f"    {child.process_label}<{child.pk}> {child.process_state}: {child.process_status}")
            break
        if left and any(job.process_label == left[0] and not job.is_terminated for job in jobs()):
            print(f"broker killed while {left.pop(0)} runs", flush=True)
            rabbit.kill()
            time.sleep(seconds)
            rabbit.start()
            print("broker started again", flush=True)
        time.sleep(0.5)
    node = orm.load_node(node.pk)
    counts = Counter((job.process_label, job.exit_status) for job in jobs())
    print(f"{title}: {node.process_state.value}, exit {node.exit_status} {node.exit_message or ''}, "
          f"{time.monotonic() - start:.0f} s")  # fmt: skip
    for (label, status), count in sorted(counts.items(), key=str):
        print(f"    {count} {label}, exit {status}")
    for child in node.called_descendants:
        if child.is_excepted:
            print(f"    {child.process_label}<{child.pk}>: {child.exception}")
    return {
        "potential": node.outputs.potential.base.repository.hash() if "potential" in node.outputs else None,
        "labels": sum(len(value) for value in node.outputs.dataset.values()) if "dataset" in node.outputs else 0,
        "jobs": sorted((label, status, count) for (label, status), count in counts.items()),
    }


def main(seconds: float) -> None:
    """Broker, profile, daemon, undisturbed run, disturbed run, comparison."""
    folder = Path(tempfile.mkdtemp(prefix="aceal-broker-"))
    os.environ["AIIDA_PATH"] = str(folder)
    (folder / "rabbit").mkdir()
    rabbit = Rabbit(folder / "rabbit")
    rabbit.start()
    from aiida.engine.daemon.client import get_daemon_client

    make_profile(rabbit.port)
    client = get_daemon_client()
    client.start_daemon(number_workers=2, wait=True, timeout=60)
    try:
        plain = campaign("undisturbed", [], rabbit, seconds)
        disturbed = campaign("disturbed", ["AceLabelAseCalculation", "AceLammpsCalculation"], rabbit, seconds)
    finally:
        client.stop_daemon(wait=True, timeout=60)
        rabbit.kill()
    print(
        "equal to the last digit, nothing computed twice" if plain == disturbed else f"DIFFERENT: {plain} {disturbed}"
    )
    sys.exit(plain != disturbed)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
