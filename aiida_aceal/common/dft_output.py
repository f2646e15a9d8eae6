"""Structures with labels from outputs of VASP and Quantum ESPRESSO: all ionic steps that are converged.

ASE reads the files; what it does not look at is whether the self-consistency of each step ended before its largest
number of iterations. Steps that did not, and the last one of a run that was killed, are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from ase import Atoms
from ase.io import iread

from .errors import AceError
from .words import counted

#: outputs of VASP; the first that a folder has is read
VASP_FILES = ("vasprun.xml", "vasprun.xml.gz", "OUTCAR", "OUTCAR.gz")
_PW_HEAD = b"Program PWSCF"
_PW_SUFFIXES = (".out", ".pwo", ".log")


def output_files(folder: Path) -> list[Path]:
    """Outputs in a folder and all folders below it, sorted: one of VASP for each folder, all of pw.x.

    :raises AceError: there is none
    """
    found = []
    for place in [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]:
        of_vasp = next((place / name for name in VASP_FILES if (place / name).is_file()), None)
        found += [of_vasp] if of_vasp is not None else []
        found += [path for path in sorted(place.iterdir()) if path.suffix in _PW_SUFFIXES and is_pw_output(path)]
    if not found:
        raise AceError(
            f"{folder}: no output in this folder or below it; looked for {', '.join(VASP_FILES)} and outputs of pw.x "
            f"({', '.join('*' + suffix for suffix in _PW_SUFFIXES)})"
        )
    return found


def is_pw_output(path: Path) -> bool:
    """Whether a file begins as outputs of pw.x do."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return _PW_HEAD in stream.read(4096)


def format_of(path: Path) -> str | None:
    """ASE's name of the format of an output of VASP or pw.x, ``None`` for any other file."""
    name = path.name.removesuffix(".gz").lower()
    if name.endswith(".xml") and "vasprun" in name:
        return "vasp-xml"
    if "outcar" in name:
        return "vasp-out"
    return "espresso-out" if path.suffix in _PW_SUFFIXES and is_pw_output(path) else None


def read_output(path: Path, say: Callable[[str], None] | None = None) -> Iterator[Atoms]:
    """Converged ionic steps of one output that have energy and forces; ``info["step"]`` is the number of each, from 0.

    :param say: takes a line on what was left out
    :raises AceError: the file cannot be read, or no step is converged
    """
    kind = format_of(path)
    try:
        steps = list(iread(str(path), index=":", format=kind, do_not_split_by_at_sign=True))
        converged = _CONVERGED[kind](path, len(steps))
    except Exception as error:  # readers of ASE raise many types
        raise AceError(f"{path}: cannot be read as {kind} ({type(error).__name__}: {error})") from error
    kept = 0
    for number, (atoms, good) in enumerate(zip(steps, converged)):
        results = getattr(atoms.calc, "results", None) or {}
        if not good or "energy" not in results or "forces" not in results:
            continue
        kept += 1
        atoms.set_constraint()
        atoms.info["step"] = number
        yield atoms
    if not kept:
        raise AceError(f"{path}: none of its {counted(len(steps), 'ionic step')} is converged with energy and forces")
    if kept < len(steps) and say is not None:
        say(f"{path}: {len(steps) - kept} of {counted(len(steps), 'ionic step')} not converged or incomplete: left out")


def _opened(path: Path):
    if path.suffix == ".gz":
        import gzip

        return gzip.open(path, "rt", errors="replace")
    return path.open(errors="replace")


def _vasprun(path: Path, count: int) -> list[bool]:
    """A step is converged if it took fewer iterations than NELM allows; that of NELM itself cannot be told."""
    largest, found = 60, []
    with _opened(path) as stream:
        try:
            for _, element in ElementTree.iterparse(stream):
                if element.tag == "i" and element.get("name") == "NELM":
                    largest = int(element.text)
                elif element.tag == "calculation":
                    found.append(0 < len(element.findall("scstep")) < largest)
                    element.clear()
        except ElementTree.ParseError:
            pass  # a run that was killed; what it wrote before counts
    return (found + [False] * count)[:count]


def _outcar(path: Path, count: int) -> list[bool]:
    """A step is converged if its loop was ended by EDIFF, which VASP writes."""
    found, good = [], False
    with _opened(path) as stream:
        for line in stream:
            if "aborting loop" in line:
                good = "EDIFF is reached" in line
            elif "FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in line:
                found.append(good)
                good = False
    return (found + [False] * count)[:count]


def _pw(path: Path, count: int) -> list[bool]:
    """All that ASE gives: of a step that did not converge pw.x marks no total energy, so that it has no label."""
    return [True] * count


_CONVERGED = {"vasp-xml": _vasprun, "vasp-out": _outcar, "espresso-out": _pw}
