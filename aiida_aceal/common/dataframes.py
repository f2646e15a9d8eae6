"""Pickled data frames of pacemaker, read without running anything that stands in them.

A pickle is a program: it names functions and calls them. Here no name is ever looked up. Each of the few that such
frames need (`ALLOWED`: pandas' frames, blocks and indices, NumPy's arrays, ASE's structures) stands for an inert record
of what it was called with, any other is refused by name, and the columns are read from the records. So neither pandas
nor the version of anything that wrote the file matters.
"""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from .errors import AceError

SUFFIXES = (".pckl", ".pkl", ".pickle", ".pckl.gzip", ".pkl.gzip", ".pckl.gz", ".pkl.gz", ".p")
#: columns of energies by preference: pacemaker fits the first, which counts from free atoms
ENERGIES = ("energy_corrected", "energy")
#: columns with structures
STRUCTURES = ("ase_atoms", "atoms")

#: writes a frame as extended XYZ with its labels
REMEDY = (
    "import pandas; from ase.io import write; from ase.calculators.singlepoint import SinglePointCalculator as Labels; "
    "frame = pandas.read_pickle(FILE, compression='gzip'); structures = list(frame.ase_atoms); "
    "[setattr(a, 'calc', Labels(a, energy=e, forces=f)) for a, e, f in zip(structures, frame.energy_corrected, "
    "frame.forces)]; write('data.extxyz', structures)"
)

_NUMPY = ("numpy.core.", "numpy._core.")
#: module and name of all that a frame may hold
ALLOWED = frozenset(
    {
        *((f"{core}multiarray", "_reconstruct") for core in _NUMPY),
        *((f"{core}multiarray", "scalar") for core in _NUMPY),
        *((f"{core}numeric", "_frombuffer") for core in _NUMPY),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("builtins", "slice"),
        ("__builtin__", "slice"),
        ("builtins", "getattr"),  # recorded like the rest: nothing is got
        ("__builtin__", "getattr"),
        ("builtins", "bytearray"),
        ("_codecs", "encode"),
        ("copyreg", "_reconstructor"),
        ("copy_reg", "_reconstructor"),
        ("builtins", "object"),
        ("__builtin__", "object"),
        ("collections", "OrderedDict"),
        ("pandas", "DataFrame"),
        ("pandas.core.frame", "DataFrame"),
        ("pandas.core.internals.managers", "BlockManager"),
        ("pandas.core.internals", "BlockManager"),
        ("pandas.core.internals.blocks", "new_block"),
        ("pandas._libs.internals", "_unpickle_block"),
        ("pandas._libs.internals", "BlockPlacement"),
        ("pandas.core.indexes.base", "_new_Index"),
        ("pandas.core.indexes.base", "Index"),
        ("pandas", "Index"),
        ("pandas", "RangeIndex"),
        ("pandas.core.indexes.range", "RangeIndex"),
        ("pandas.core.indexes.numeric", "Int64Index"),
        ("pandas.core.indexes.numeric", "Float64Index"),
        ("pandas", "StringDtype"),
        ("pandas.core.arrays.string_", "StringDtype"),
        ("pandas.arrays", "StringArray"),
        ("pandas.core.arrays.string_", "StringArray"),
        ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"),
        ("ase.atoms", "Atoms"),
        ("ase.cell", "Cell"),
        ("ase.calculators.singlepoint", "SinglePointCalculator"),
        ("ase.calculators.singlepoint", "SinglePointDFTCalculator"),
        ("ase.calculators.calculator", "Parameters"),
        ("ase.constraints", "FixAtoms"),
        ("ase.constraints.fix_atoms", "FixAtoms"),
        ("ase.spacegroup.spacegroup", "Spacegroup"),
    }
)


class _Record:
    """What was called, with what, and the state that was set afterwards. Nothing else happens."""

    target: tuple[str, str] = ("", "")

    def __new__(cls, *args: Any, **_: Any) -> _Record:
        record = object.__new__(cls)
        record.args, record.state, record.items = args, None, {}
        return record

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value


class _Reader(pickle._Unpickler):
    """Finds records in the place of classes and functions.

    The one written in Python: that in C makes as much room as a damaged file asks for, and dies of it.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.classes: dict[tuple[str, str], type[_Record]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise AceError(
                f"it wants {module}.{name}, which no data frame of pacemaker needs; nothing in it was run. If you "
                f"trust the file, write it as extended XYZ where it was made, labels too: {REMEDY}"
            )
        if (module, name) not in self.classes:
            self.classes[module, name] = type("_Record", (_Record,), {"target": (module, name)})
        return self.classes[module, name]

    def get_extension(self, code: int) -> None:
        raise AceError("it names something by a number of Python's registry, which no data frame of pacemaker does")

    def persistent_load(self, pid: Any) -> Any:
        raise AceError("it refers to something outside itself, which no data frame of pacemaker does")


def is_dataframe(path: Path) -> bool:
    """Whether a file is a pickle, by its name or its first bytes (through gzip as well)."""
    if path.name.lower().endswith(SUFFIXES):
        return True
    if not path.is_file():
        return False
    try:
        with _opened(path) as stream:
            head = stream.read(2)
    except (OSError, EOFError):
        return False
    # protocols 2 to 5 of pickle start with this opcode and their number
    return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5


def _opened(path: Path) -> Any:
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else path.open("rb")


def read_dataframe(
    path: Path, keys: Mapping[str, str | None] | None = None, say: Callable[[str], None] | None = None
) -> Iterator[Atoms]:
    """Structures of a pickled data frame with energy, forces and perhaps stress as labels.

    :param keys: ``energy``, ``forces``, ``stress`` -> column [default: `ENERGIES`, the first there is; forces; stress]
    :param say: takes a line on the columns taken
    :raises AceError: no pickle, something in it that is not allowed, no frame, columns that are missing
    """
    try:
        with _opened(path) as stream:
            content = _Reader(stream).load()
        columns = _columns(content)
    except AceError as error:
        raise AceError(f"{path}: {error}") from None
    except Exception as error:  # a malformed pickle raises anything
        raise AceError(f"{path}: cannot be read as a data frame ({type(error).__name__}: {error})") from None
    given = {kind: key for kind, key in (keys or {}).items() if key is not None}
    usual = {"energy": energy_column(list(columns)), "forces": "forces", "stress": "stress"}
    taken = {**{kind: name for kind, name in usual.items() if name in columns}, **given}
    structures = next((name for name in STRUCTURES if name in columns), None)
    known = ", ".join(columns)
    if structures is None:
        raise AceError(f"{path}: no column ase_atoms with structures; columns: {known}")
    for kind, key in taken.items():
        if key not in columns:
            raise AceError(f"{path}: no column '{key}' for {kind}_key; columns: {known}")
    for index, record in enumerate(columns[structures]):
        try:
            atoms = _structure(record, {kind: columns[key][index] for kind, key in taken.items()}, given)
        except AceError as error:
            raise AceError(f"{path}: structure {index}: {error}") from None
        except Exception as error:
            raise AceError(f"{path}: structure {index} cannot be read ({type(error).__name__}: {error})") from None
        yield atoms
    if say is not None and taken:
        say(f"{path}: " + ", ".join(f"{kind} from the column {key}" for kind, key in taken.items()))


def energy_column(columns: Sequence[str]) -> str | None:
    """The column of energies that is taken if none is named."""
    return next((name for name in ENERGIES if name in columns), None)


def _structure(record: Any, labels: Mapping[str, Any], given: Mapping[str, str]) -> Atoms:
    """A structure with its labels; those whose column was named stand under this name, too."""
    atoms = _atoms(record)
    results: dict[str, Any] = {}
    for kind, value in labels.items():
        array = np.array(_plain(value), dtype=float)
        results[kind] = float(array.reshape(())) if kind == "energy" else array
        if kind == "forces":
            results[kind] = array.reshape(len(atoms), 3)
        if kind in given:
            (atoms.arrays if kind == "forces" else atoms.info)[given[kind]] = results[kind]
    if results:
        atoms.calc = SinglePointCalculator(atoms)
        atoms.calc.results.update(results)
    return atoms


# --- from records to columns ----------------------------------------------------------------------------------------


def _name(value: Any) -> str:
    return value.target[1] if isinstance(value, _Record) else type(value).__name__


def _columns(content: Any) -> dict[str, list]:
    """Column -> values of a frame."""
    if isinstance(content, dict):
        return {str(key): list(_plain(values)) for key, values in content.items()}
    if _name(content) == "_reconstructor":
        raise AceError("the frame is of a version of pandas before 1.0; write it anew with a later one")
    if not isinstance(content, _Record) or _name(content) != "DataFrame":
        raise AceError(f"it holds no data frame but {_name(content)}")
    state = content.state[0] if isinstance(content.state, tuple) else content.state
    if not isinstance(state, dict):
        raise AceError("it holds no columns")
    manager = state.get("_mgr", state.get("_data"))
    if _name(manager) != "BlockManager":
        raise AceError(f"its columns are not in blocks but in {_name(manager)}")
    if len(manager.args) >= 2:
        blocks, axes = manager.args[:2]
        parts = [_block(block) for block in blocks]
    else:  # pandas before 1.3
        kept = manager.state[3]["0.14.1"]
        axes, parts = kept["axes"], [(block["values"], block["mgr_locs"]) for block in kept["blocks"]]
    names = [str(name) for name in _index(axes[0])]
    found: dict[str, list] = {}
    for values, placement in parts:
        rows = _values(values)
        places = range(len(names))[_slice(placement)] if _name(placement) == "slice" else _array(placement).tolist()
        for place, row in zip(places, rows, strict=True):
            found[names[place]] = row
    return found


def _block(block: Any) -> tuple[Any, Any]:
    values, placement = block.args[:2]
    if _name(placement) == "BlockPlacement":
        placement = placement.args[0]
    return values, placement


def _values(values: Any) -> list[list]:
    """Columns of a block, each a list."""
    if _name(values) in ("StringArray", "__pyx_unpickle_NDArrayBacked"):
        return [_strings(values)]
    array = _array(values)
    rows = array if array.ndim > 1 else array[None]
    return [list(row) for row in rows]


def _strings(record: Any) -> list:
    """Texts of a StringArray: the one array among what it was made of."""
    pending, seen = [record.args, record.state], 0
    while pending and seen < 1000:
        part, seen = pending.pop(), seen + 1
        if _name(part) in ("_reconstruct", "_frombuffer"):
            return _array(part).ravel().tolist()
        if isinstance(part, (tuple, list)):
            pending += part
        elif isinstance(part, dict):
            pending += part.values()
    raise AceError("texts of a column are not there")


def _index(index: Any) -> list:
    if _name(index) != "_new_Index":
        return list(_array(index))
    content = index.args[1]
    if "start" in content:
        return list(range(content["start"], content["stop"], content["step"]))
    data = content["data"]
    return _strings(data) if _name(data) in ("StringArray", "__pyx_unpickle_NDArrayBacked") else list(_array(data))


def _slice(record: Any) -> slice:
    return slice(*record.args)


# --- from records to numbers and structures -----------------------------------------------------------------------


def _dtype(record: Any) -> np.dtype:
    """A plain type of numbers, texts or objects; structured ones are not needed."""
    if _name(record) != "dtype":
        raise AceError(f"an array of {_name(record)} is not needed by a data frame")
    code = record.args[0].decode() if isinstance(record.args[0], bytes) else str(record.args[0])
    if not (code[:1] in "fiubSUO" and code[1:].isdecimal()):
        raise AceError(f"an array of type {code!r} is not needed by a data frame")
    order = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "|"
    order = order.decode() if isinstance(order, bytes) else order
    return np.dtype(("" if order not in ("<", ">") else order) + code)


def _bytes(value: Any) -> bytes:
    if _name(value) == "encode":  # how protocols below 3 write bytes
        return value.args[0].encode("latin1")
    return bytes(value.args[0]) if isinstance(value, _Record) else bytes(value)


def _array(record: Any) -> np.ndarray:
    """An array from the record of how NumPy makes it."""
    if not isinstance(record, _Record):
        return np.asarray(record)
    if _name(record) == "_frombuffer":
        content, kind, shape, order = record.args
        return _shaped(_bytes(content), _dtype(kind), tuple(shape), order == "F")
    if _name(record) != "_reconstruct":
        raise AceError(f"an array is expected, found {_name(record)}")
    _, shape, kind, fortran, content = record.state
    return _shaped(content, _dtype(kind), tuple(shape), bool(fortran))


def _shaped(content: Any, kind: np.dtype, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
    order = "F" if fortran else "C"
    if kind != np.dtype(object):
        return np.frombuffer(_bytes(content), kind).reshape(shape, order=order)
    flat = np.empty(len(content), dtype=object)
    for k, value in enumerate(content):
        flat[k] = value
    return flat.reshape(shape, order=order)


def _plain(value: Any) -> Any:
    """Numbers and arrays of records; lists stay lists."""
    if _name(value) == "scalar":
        kind, content = value.args
        return np.frombuffer(_bytes(content), _dtype(kind))[0]
    if isinstance(value, _Record):
        return _array(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _atoms(record: Any) -> Atoms:
    if _name(record) != "Atoms":
        raise AceError(f"a structure (ase.Atoms) is expected, found {_name(record)}")
    state = record.state[0] if isinstance(record.state, tuple) else record.state
    arrays = {name: _array(state["arrays"][name]) for name in ("numbers", "positions")}
    cell = next((state[key] for key in ("_cellobj", "_cell", "cell") if key in state), np.zeros((3, 3)))
    if _name(cell) == "Cell":
        cell = (cell.state[0] if isinstance(cell.state, tuple) else cell.state)["array"]
    pbc = _plain(next((state[key] for key in ("_pbc", "pbc") if key in state), False))
    return Atoms(
        numbers=np.array(arrays["numbers"], dtype=int), positions=np.array(arrays["positions"], dtype=float),
        cell=np.array(_array(cell), dtype=float), pbc=np.array(pbc, dtype=bool),
    )  # fmt: skip
