"""Sections `codes`, `label` and `options` of an input, for each way to label that ``aiida-aceal init`` knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import nearest

if TYPE_CHECKING:
    from ase import Atoms

CLUSTER = """\
# codes of AiiDA by label (verdi code list)
codes:
  worker: aceal-worker@COMPUTER
  lammps: lmp@COMPUTER
# of all jobs on the cluster, unless a step has its own
options:
  resources: {num_machines: 1, num_mpiprocs_per_machine: 1, num_cores_per_mpiproc: 16}
  max_wallclock_seconds: 14400
  # queue_name: short
  # account: mygroup
"""


@dataclass(frozen=True)
class Method:
    """A way to label."""

    #: lines of the input
    text: str
    #: what stands in the title
    title: str
    #: whether reference dynamics is affordable: steps and interval of it
    dynamics: tuple[int, int] | None = None
    #: what is to be done before the campaign can run
    todo: tuple[str, ...] = ()
    #: calculator of ASE's own that labels on this machine
    calculator: str | None = None

    def check(self, structures: Iterable[Atoms]) -> None:
        """Refuse a calculator that is not there or has no parameters for an element.

        :raises AceError: the calculator and the elements
        """
        if self.calculator is None:
            return
        from aiida_aceal.labels.calculators import calculator_spec, check_abilities

        elements = {symbol for atoms in structures for symbol in atoms.get_chemical_symbols()}
        check_abilities(calculator_spec(self.calculator), sorted(elements))


def _cluster(computer: str) -> str:
    return CLUSTER.replace("COMPUTER", computer)


def _todo(code: str, computer: str, family: str, converge: str) -> tuple[str, ...]:
    """What a method on a cluster needs."""
    codes = f"codes {code}, aceal-worker@{computer} and lmp@{computer} (aiida-aceal setup-computer)"
    return codes, family, f"{converge}: converge them for your system"


def vasp(code: str, computer: str) -> Method:
    """Labels by VASP on a cluster with Slurm."""
    return Method(
        f"""\
{_cluster(computer)}
# one calculation for each structure, `max_concurrent` at a time; INCAR tags are laid over defaults for single points
label:
  entry_point: aceal.label.vasp
  code: {code}
  settings:
    potential_family: PBE.54
    incar: {{encut: 500, ismear: 1, sigma: 0.2}}
    kpoints_spacing: 0.04             # 2 pi/A, the same for all structures
    max_concurrent: 20
  options:
    resources: {{num_machines: 1, num_mpiprocs_per_machine: 32}}
    max_wallclock_seconds: 7200
    withmpi: true
""",
        "VASP",
        todo=_todo(
            code, computer, "the POTCAR family PBE.54 (aiida-vasp potcar uploadfamily)", "ENCUT, smearing and k-points"
        ),
    )


def qe(code: str, computer: str) -> Method:
    """Labels by pw.x on a cluster with Slurm."""
    return Method(
        f"""\
{_cluster(computer)}
# one calculation for each structure, `max_concurrent` at a time; `parameters` are laid over those of single points
label:
  entry_point: aceal.label.quantumespresso
  code: {code}
  settings:
    pseudo_family: SSSP/1.3/PBE/efficiency
    parameters: {{SYSTEM: {{ecutwfc: 60, ecutrho: 480}}}}
    kpoints_distance: 0.25            # 1/A, the same for all structures
    max_concurrent: 20
  options:
    resources: {{num_machines: 1, num_mpiprocs_per_machine: 16}}
    max_wallclock_seconds: 7200
    withmpi: true
""",
        "Quantum ESPRESSO",
        todo=_todo(
            code,
            computer,
            "the pseudopotentials (aiida-pseudo install sssp)",
            "ecutwfc, ecutrho, smearing and k-points",
        ),
    )


def xtb() -> Method:
    """Labels by tblite on this machine."""
    return Method(
        """\
# GFN1-xTB: quantum-mechanical labels on this machine (pip install 'aiida-aceal[xtb]'). Only the gamma point is sampled:
# cells of 8 A and more
label:
  entry_point: aceal.label.ase
  settings:
    calculator: tblite
    kwargs: {method: GFN1-xTB}
""",
        "GFN1-xTB",
        dynamics=(80, 8),
    )


def ase(calculator: str) -> Method:
    """Labels by any calculator of ASE on this machine."""
    return Method(
        f"""\
label:
  entry_point: aceal.label.ase
  settings: {{calculator: {calculator}}}
""",
        calculator,
        dynamics=(800, 25) if calculator in ("emt", "lj", "eam", "ace") else None,
        # one that needs arguments is looked at when these stand in the input
        calculator=calculator if calculator in ("emt", "lj") else None,
    )


def manual() -> Method:
    """Labels by whatever means, brought back by hand."""
    return Method(
        """\
# the campaign hands the structures out and waits: aiida-aceal labels PK FILE... brings their labels
label:
  entry_point: aceal.label.manual
  settings: {poscar: true}
""",
        "labels by hand",
    )


def nobody() -> Method:
    """The campaign ends when it has chosen structures."""
    return Method(
        """\
# the campaign ends when it has chosen structures; aiida-aceal labels PK FILE... goes on with their labels
label: none
""",
        "no labeller",
    )


def method_of(name: str, code: str | None, computer: str) -> Method:
    """The method of a name; what is none of ours is a calculator of ASE.

    :raises AceError: neither
    """
    ours = {"xtb": xtb, "manual": manual, "none": nobody}
    if name == "vasp":
        return vasp(code or f"vasp@{computer}", computer)
    if name == "qe":
        return qe(code or f"pw@{computer}", computer)
    if name in ours:
        return ours[name]()
    from ase.calculators.calculator import names

    if ":" in name or name in (*names, "tblite"):
        return ase(name)
    raise AceError(f"method: no method '{name}'; {nearest(name, [*ours, 'vasp', 'qe', *names])}")
