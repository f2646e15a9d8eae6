"""A Slurm of one node in a folder of its own: munged, slurmctld and slurmd, without accounting, cgroups or systemd.

``with SmallSlurm(folder) as cluster: ...`` sets ``SLURM_CONF`` for this process and what it starts. Needs root.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
STARTED_WITHIN = 30.0


def why_not() -> str | None:
    """Why no Slurm can be started here, ``None`` if it can."""
    if os.geteuid() != 0:
        return "a Slurm of one's own needs root"
    missing = [name for name in PROGRAMS if _program(name) is None]
    return f"not installed: {', '.join(missing)} (Debian: slurm-wlm, munge)" if missing else None


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class SmallSlurm:
    """One node, this machine, with ``cpus`` cores to give away."""

    def __init__(self, folder: Path, cpus: int = 2, memory_mb: int = 4000) -> None:
        self.folder = Path(folder)
        self.host = socket.gethostname().split(".")[0]
        self.cpus, self.memory_mb = cpus, memory_mb
        self.processes: list[subprocess.Popen] = []
        self.before = os.environ.get("SLURM_CONF")

    def _write(self) -> None:
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o755)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        controller, node = _free_port(), _free_port()
        (self.folder / "slurm.conf").write_text(
            f"""ClusterName=small
SlurmctldHost={self.host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={self.folder}/munge/socket
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd.pid
SlurmctldLogFile={self.folder}/slurmctld.log
SlurmdLogFile={self.folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
MailProg=/bin/true
KillWait=2
OverTimeLimit=0
InactiveLimit=0
MinJobAge=5
NodeName={self.host} NodeAddr=127.0.0.1 CPUs={self.cpus} RealMemory={self.memory_mb} State=UNKNOWN
PartitionName=all Nodes={self.host} Default=YES MaxTime=INFINITE State=UP
"""
        )

    def _start(self, *words: str) -> None:
        environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        with open(self.folder / "output.log", "ab") as log:
            command = [_program(words[0]) or words[0], *words[1:]]
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))

    def __enter__(self) -> SmallSlurm:
        """Start it, and wait until the node takes jobs."""
        self._write()
        os.environ["SLURM_CONF"] = str(self.folder / "slurm.conf")
        munge = self.folder / "munge"
        self._start(
            "munged", "--foreground", "--force", f"--key-file={munge}/key", f"--socket={munge}/socket",
            f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed",
        )  # fmt: skip
        self._wait(lambda: (munge / "socket").exists(), "munged")
        self._start("slurmctld", "-D", "-i")
        self._start("slurmd", "-D", "-N", self.host)
        try:
            self._wait(self._is_idle, "the node")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _is_idle(self) -> bool:
        done = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False, timeout=20)
        return done.stdout.strip() == "idle"

    def _wait(self, condition, what: str) -> None:
        until = time.monotonic() + STARTED_WITHIN
        while not condition():
            if time.monotonic() > until:
                logs = "\n".join(p.read_text(errors="replace")[-2000:] for p in self.folder.glob("*.log"))
                raise RuntimeError(f"{what} did not start:\n{logs}")
            time.sleep(0.2)

    def __exit__(self, *_) -> None:
        """End all jobs, then the three."""
        subprocess.run(["scancel", "-u", "root"], capture_output=True, check=False, timeout=20)
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.before is None:
            os.environ.pop("SLURM_CONF", None)
        else:
            os.environ["SLURM_CONF"] = self.before


def jobs(state: str = "all") -> list[dict[str, str]]:
    """Jobs that squeue shows: ``id``, ``name``, ``state``, ``folder``."""
    done = subprocess.run(
        ["squeue", "-h", "-t", state, "-o", "%i|%j|%T|%Z"], capture_output=True, text=True, check=True, timeout=20
    )
    return [dict(zip(("id", "name", "state", "folder"), line.split("|"))) for line in done.stdout.splitlines()]
