"""Files that describe a cluster to AiiDA: what ``aiida-aceal setup-computer`` writes and ``verdi`` reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import yaml

_CORES = "num_machines: 1, num_mpiprocs_per_machine: 1, num_cores_per_mpiproc: {cores}"
#: scheduler -> (plugin of AiiDA, resources of a job that has some cores of one machine)
SCHEDULERS = {
    "slurm": ("core.slurm", _CORES),
    "pbspro": ("core.pbspro", _CORES),
    "torque": ("core.torque", _CORES),
    "sge": ("core.sge", "parallel_env: smp, tot_num_mpiprocs: {cores}"),
    "direct": ("core.direct", _CORES),
}
TRANSPORTS = ("core.ssh_async", "core.ssh", "core.local")
#: label of a code -> plugin, whether it runs under MPI (``None``: as the job says)
CODES: dict[str, tuple[str, bool | None]] = {
    "aceal-worker": ("aceal.evaluate", False),
    "lmp": ("aceal.lammps", None),
    "vasp": ("vasp.vasp", True),
    "pw": ("quantumespresso.pw", True),
}


@dataclass(frozen=True)
class Cluster:
    """What is to be known of a cluster."""

    label: str
    hostname: str
    scheduler: str
    transport: str
    work_dir: str
    #: label of a code (see `CODES`) -> its executable on the cluster
    executables: Mapping[str, str]
    cores: int = 16
    mpirun: str = "srun -n {tot_num_mpiprocs}"
    #: lines before every job
    prepend: str = ""
    queue: str | None = None
    login_shell: bool = True
    #: seconds between two looks at the queue, and between two connections
    poll: float = 30.0
    safe_interval: float = 5.0

    def files(self) -> dict[str, str]:
        """File name -> YAML for ``verdi computer setup``, ``verdi computer configure`` and ``verdi code create``."""
        computer = {
            "label": self.label,
            "hostname": self.hostname,
            "description": "written by aiida-aceal setup-computer",
            "transport": self.transport,
            "scheduler": SCHEDULERS[self.scheduler][0],
            "shebang": "#!/bin/bash",
            "work_dir": self.work_dir,
            "mpirun_command": self.mpirun,
            "use_double_quotes": False,
            "prepend_text": self.prepend,
            "append_text": "",
        }
        if self.scheduler != "sge":  # where machines are not counted, nor are processes on them
            computer["mpiprocs_per_machine"] = self.cores
        transport = {"use_login_shell": self.login_shell, "safe_interval": self.safe_interval}
        if self.transport == "core.ssh_async":
            transport["host"] = self.hostname
        found = {"computer.yaml": computer, "transport.yaml": transport}
        for name, executable in self.executables.items():
            plugin, mpi = CODES[name]
            code = {
                "label": name,
                "description": f"{PurePosixPath(executable).name} on {self.label}",
                "computer": self.label,
                "filepath_executable": executable,
                "default_calc_job_plugin": plugin,
                "use_double_quotes": False,
                "prepend_text": "",
                "append_text": "",
            }
            found[f"code-{name}.yaml"] = code if mpi is None else {**code, "with_mpi": mpi}
        return {name: yaml.safe_dump(content, sort_keys=False) for name, content in found.items()}

    def commands(self, folder: str, profile: str | None) -> list[list[str]]:
        """The commands of ``verdi`` that read the files, in their order."""
        verdi = ["verdi", *(["-p", profile] if profile else [])]
        return [
            [*verdi, "computer", "setup", "-n", "--config", f"{folder}/computer.yaml"],
            [*verdi, "computer", "configure", self.transport, self.label, "-n", "--config", f"{folder}/transport.yaml"],
            *(
                [*verdi, "code", "create", "core.code.installed", "-n", "--config", f"{folder}/code-{name}.yaml"]
                for name in self.executables
            ),
        ]

    def input_lines(self) -> str:
        """What the input of a campaign says of the cluster."""
        resources = SCHEDULERS[self.scheduler][1].format(cores=self.cores)
        lines = [
            f"codes: {{worker: aceal-worker@{self.label}, lammps: lmp@{self.label}}}",
            "options:",
            f"  resources: {{{resources}}}",
            "  max_wallclock_seconds: 14400",
        ]
        if self.queue:
            lines.append(f"  queue_name: {self.queue}")
        return "\n".join(lines)
