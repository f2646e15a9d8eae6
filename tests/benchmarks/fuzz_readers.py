"""Mutated files for every reader: a traceback, a hang, or numbers that are not finite are findings.

    python tests/benchmarks/fuzz_readers.py --count 100000 [--readers yaml,asi] [--seed 0]

Valid files are made here, damaged (bytes changed, cut, doubled, swapped between files, tokens replaced by awkward ones)
and read. A reader may give data or raise `AceError`; data must be finite. Prints one line for each reader; exit code 1
if there is a finding. The first files behind findings are kept in ``--keep``.
"""

from __future__ import annotations

import argparse
import io
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.ace import AceModel, AcePotential, CTildePotential, build_potential
from aiida_aceal.ace.yace import parse_yace, potential_to_yace
from aiida_aceal.common.configurations import format_extxyz, get_labels, read_configurations
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.yaml import load_yaml
from aiida_aceal.fitting.ensemble import Ensemble
from aiida_aceal.lammps.dumps import read_dump
from aiida_aceal.uncertainty import ActiveSet, build_active_set, build_local_active_set

#: of computing, since a busy machine makes any reader wait; and of waiting for anything
SECONDS, PATIENCE = 10, 300
#: part of the files that are made from the source of two elements, whose files take longer
LARGER = 0.2
TOKENS = [
    b"nan", b".nan", b"inf", b"-inf", b".inf", b"1e999", b"1e308", b"-1", b"0", b"999999999999", b"1.5", b"true",
    b"null", b"[", b"]", b"{", b"}", b"[[", b": ", b"\n", b"\n\n", b" ", b"\t", b'"', b"'", b"\\", b"&a ",
    b"*a", b"<<: ", b"- ", b"!!python/name:os.system ", b"\x00", b"\xff", b"=", b",", b"#", b"%",
    b"ITEM: ", b"@", b"VEC1 0 0 0\n",
]  # fmt: skip


class Hang(BaseException):
    """The reader computed for longer than `SECONDS`, or did not end in `PATIENCE`."""


def sources(folder: Path, elements: Sequence[str]) -> dict[str, bytes]:
    """One valid file of each format, small: a damage then seldom falls on one more coefficient, and files are quick."""
    rng = np.random.default_rng(0)
    description = {"elements": elements, "cutoff": 4.5, "nradmax_by_orders": [2, 1, 1], "lmax_by_orders": [0, 1, 1]}
    pot = build_potential(description)
    pot = pot.with_coefficients({el: rng.normal(size=(1, n)) for el, n in pot.n_functions.items()})
    frames = []
    for k in range(2 * len(elements)):
        atoms = bulk("Cu", cubic=True)
        atoms.symbols[k % 2] = elements[0]
        atoms.rattle(0.1, rng=rng)
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        atoms.info.update({"note": "a b", "step": k, "list": [1, 2], "map": {"a": 1}})
        atoms.arrays["gamma"] = rng.random(len(atoms))
        frames.append(atoms)
    model = AceModel(pot, threads=1)
    build_active_set(model, frames).save(folder / "a.asi")
    build_local_active_set(model, frames, clusters=2).save(folder / "l.asi")
    Ensemble((pot, pot), thresholds={"energy": 0.1}).save(folder / "e.zip")
    dump = ""
    for step in (0, 10):
        rows = "".join(f"{i + 1} 1 Cu {x:.6f} {y:.6f} {z:.6f} 0.5\n" for i, (x, y, z) in enumerate(frames[0].positions))
        dump += f"ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n4\nITEM: BOX BOUNDS pp pp pp\n0 3.6\n0 3.6\n0 3.6\n"
        dump += f"ITEM: ATOMS id type element x y z f_pace_gamma\n{rows}"
    tilted = "xy xz yz pp pp pp\n0 4.6 1\n0 3.6 0\n0 3.6 0\n"
    dump += dump.replace("pp pp pp\n0 3.6\n0 3.6\n0 3.6\n", tilted)
    settings = "list: [1, 2.5, 1e-8]\nnested: &a\n  x: {y: [yes, ~, 'text']}\nagain: *a\nmerged: {<<: *a, z: 3}\n"
    return {
        "yaml": settings.encode(),
        "potential": pot.to_yaml().encode(),
        "yace": potential_to_yace(pot).encode(),
        "extxyz": "".join(map(format_extxyz, frames)).encode(),
        "asi": (folder / "a.asi").read_bytes(),
        "local": (folder / "l.asi").read_bytes(),
        "ensemble": (folder / "e.zip").read_bytes(),
        "dump": dump.encode(),
    }


def mutated(rng: random.Random, content: bytes) -> bytes:
    """The content with one to four damages."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        place = rng.randrange(len(data) or 1)
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[place % len(data)] = rng.randrange(256)
        elif kind == 1 and data:
            data[place % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[place : place + rng.choice((1, 2, 5, 50, 500))]
        elif kind == 3:
            data[place:place] = data[place : place + rng.choice((1, 8, 80, 800))]
        elif kind == 4:
            data[place : place + rng.choice((0, 0, 1, 3))] = rng.choice(TOKENS)
        elif kind == 5:
            # a whole word gives way, as a slip of the pen or another program would have it
            end = place
            while end < len(data) and chr(data[end]) not in " ,:\n[]{}=":
                end += 1
            while place and chr(data[place - 1]) not in " ,:\n[]{}=":
                place -= 1
            data[place:end] = rng.choice(TOKENS)
        elif kind == 6:
            lines = bytes(data).split(b"\n")
            i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[i], lines[j] = lines[j], lines[i]
            data = bytearray(b"\n".join(lines))
        else:
            del data[place:]
    return bytes(data)


def mutated_inside(rng: random.Random, content: bytes) -> bytes:
    """A valid archive whose entries, or whose comment, are damaged: the checksums are right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        names = old.namelist()
        chosen = rng.randrange(len(names) + bool(old.comment))
        for k, name in enumerate(names):
            new.writestr(name, mutated(rng, old.read(name)) if k == chosen else old.read(name))
        new.comment = mutated(rng, old.comment)[:65535] if chosen == len(names) else old.comment
    return buffer.getvalue()


def numbers_in(value: Any) -> Iterator[float]:
    """All numbers of plain data."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numbers_in(key)
            yield from numbers_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, (int, float)):
        yield value


def finite(*values: Any) -> bool:
    """Whether all that is given (arrays, numbers, None) is finite."""
    return all(value is None or np.isfinite(np.asarray(value, dtype=float)).all() for value in values)


def finite_potential(pot: AcePotential | CTildePotential) -> bool:
    """Whether every number of a potential is finite."""
    bonds = [(b.rcut, b.dcut, b.r_in, b.delta_in, b.radcoefficients, b.radparameters) for b in pot.bonds.values()]
    species = [(s.parameters, s.rho_core_cut, s.drho_core_cut) for s in pot.species.values()]
    if isinstance(pot, CTildePotential):
        rest = [(f.ctildes,) for fs in pot.functions.values() for f in fs]
    else:
        rest = [(f.coefficients,) for fs in pot.blocks.values() for f in fs]
        pot.reference_energies  # noqa: B018  text that is read as numbers
    return all(finite(*part) for part in (*bonds, *species, *rest))


def _yaml(path: Path) -> bool:
    return finite(list(numbers_in(load_yaml(path))))


def _extxyz(path: Path) -> bool:
    good = True
    for atoms in read_configurations(path):
        good &= finite(atoms.positions, atoms.cell.array, *get_labels(atoms))
    return good


def _active_set(path: Path) -> bool:
    found = ActiveSet.load(path)
    parts = [*found.sets.values(), *(s for group in getattr(found, "clusters", {}).values() for s in group)]
    rows = {el: np.ones((2, len(s.inverse))) for el, s in found.sets.items()}
    return all(finite(s.inverse) and s.inverse.any() for s in parts) and all(
        finite(found.grade(el, values)) for el, values in rows.items()
    )


def _ensemble(path: Path) -> bool:
    found = Ensemble.load(path)
    return finite(list(found.thresholds.values())) and all(map(finite_potential, found.potentials))


def _dump(path: Path) -> bool:
    for frame in read_dump(path, type_map=["Cu"]).frames:
        arrays = (frame.atoms.positions, frame.atoms.cell.array, frame.atoms.arrays.get("gamma"))
        if frame.is_sound and not finite(*arrays):
            return False
    return True


READERS: dict[str, tuple[str, Callable[[Path], bool]]] = {
    "yaml": ("a.yaml", _yaml),
    "potential": ("a.yaml", lambda path: finite_potential(AcePotential.read(path))),
    "yace": ("a.yace", lambda path: finite_potential(parse_yace(path, str(path)))),
    "extxyz": ("a.extxyz", _extxyz),
    "asi": ("a.asi", _active_set),
    "local": ("a.asi", _active_set),
    "ensemble": ("e.zip", _ensemble),
    "dump": ("a.dump", _dump),
}


def fuzz(
    name: str, contents: Sequence[bytes], count: int, seed: int, keep: Path | None, scratch: Path | None
) -> dict[str, int]:
    """Counts of what became of ``count`` damaged files, which are written below ``scratch``.

    :param contents: small file, larger file
    """
    rng = random.Random(f"{name} {seed}")
    result = dict.fromkeys(("read", "refused", "not finite", "traceback", "hang"), 0)
    slowest = 0.0
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder) / READERS[name][0]
        for number in range(count):
            content = contents[rng.random() < LARGER]
            inside = content.startswith(b"PK") and rng.random() < 0.7
            damaged = mutated_inside(rng, content) if inside else mutated(rng, content)
            path.write_bytes(damaged)
            began, trace = time.process_time(), ""
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.alarm(PATIENCE)
            try:
                outcome = "read" if READERS[name][1](path) else "not finite"
            except AceError:
                outcome = "refused"
            except Hang:
                outcome = "hang"
            except Exception:
                outcome, trace = "traceback", traceback.format_exc()
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.alarm(0)
            slowest = max(slowest, time.process_time() - began)
            result[outcome] += 1
            if outcome not in ("read", "refused") and keep is not None and result[outcome] <= 5:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}-{outcome.replace(' ', '-')}-{number}").write_bytes(damaged)
                print(f"{name} {number}: {outcome}\n{trace}", file=sys.stderr, flush=True)
    counts = ", ".join(f"{value} {key}" for key, value in result.items())
    print(f"{name:10s} {count} files: {counts}; slowest {slowest:.2f} s", flush=True)
    return result


def _alarm(*_: Any) -> None:
    raise Hang


def main() -> int:
    """Run the readers that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="damaged files for each reader")
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files behind findings")
    memory = Path("/dev/shm")
    parser.add_argument(
        "--scratch", type=Path, default=memory if memory.is_dir() else None, help="where damaged files are written"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, _alarm)
    with tempfile.TemporaryDirectory() as folder:
        files = [sources(Path(folder), elements) for elements in (["Cu"], ["Al", "Cu"])]
    findings = 0
    for name in options.readers.split(","):
        result = fuzz(name, [one[name] for one in files], options.count, options.seed, options.keep, options.scratch)
        findings += result["not finite"] + result["traceback"] + result["hang"]
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
