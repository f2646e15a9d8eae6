"""Reader and writer of pacemaker's B-basis ``.yaml``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.yaml import load_yaml

from . import values
from .coupling import full_intermediates
from .limits import check_radial_size
from .potential import AcePotential, BasisFunction, Bond, Species

_RADIAL_KEYS = {
    "nradmaxi", "lmaxi", "nradbaseij", "rcutij", "dcutij", "NameOfCutoffFunctionij", "radbase", "radparameters",
    "radcoefficients", "core-repulsion", "r_in", "delta_in", "inner_cutoff_type",
}  # fmt: skip
_SPECIES_KEYS = {"ndensityi", "npoti", "parameters", "rho_core_cut", "drho_core_cut"}
_KNOWN_KEYS = _RADIAL_KEYS | _SPECIES_KEYS | {"speciesblock", "nbody"}
_TOP_KEYS = {"species", "global", "metadata", "auxdata"}
_FUNCTION_KEYS = {"type", "nr", "nl", "lint", "c", "skip"}
#: lengths of a pair (Angstrom) and their defaults
_LENGTHS = {"rcutij": None, "dcutij": 0.01, "r_in": 0.0, "delta_in": 0.0}


def read_potential(path: str | Path) -> AcePotential:
    """Read a ``.yaml`` potential.

    Raises
    ------
    AceError
        If the file is missing, is no YAML, or holds no valid B-basis potential.
    """
    return parse_potential(Path(path), str(path))


def parse_potential(text: str | Path, source: str = "<string>") -> AcePotential:
    """Parse a B-basis ``.yaml``, its text or (a `Path`) the file; ``source`` names it in the messages of `AceError`."""
    data = load_yaml(text, source)
    if not isinstance(data, dict) or not isinstance(data.get("species"), list) or not data["species"]:
        raise AceError(f"{source}: no 'species' list; this is not a B-basis potential of pacemaker")
    try:
        return _build(data)
    except AceError as error:
        raise type(error)(f"{source}: {error}") from error


def _unknown(where: str, given: Mapping, known: set[str]) -> None:
    alien = sorted(str(key) for key in given if key not in known)
    if alien:
        raise AceError(f"{where}: unknown keys {alien}; known: {sorted(known)}")


def _build(data: dict) -> AcePotential:
    _unknown("the file", data, _TOP_KEYS)
    entries: dict[str, dict] = {}
    for block in data["species"]:
        if not isinstance(block, dict) or not isinstance(block.get("speciesblock"), str):
            raise AceError("an entry of 'species' has no 'speciesblock' name")
        name = " ".join(block["speciesblock"].split())
        if not name:
            raise AceError("an entry of 'species' has an empty 'speciesblock' name")
        if name in entries:
            raise AceError(f"speciesblock {name!r} occurs twice")
        _unknown(f"speciesblock {name!r}", block, _KNOWN_KEYS)
        entries[name] = block
    elements = tuple(sorted({el for name in entries for el in name.split()}))
    values.check_symbols(elements)
    species, bonds, blocks = {}, {}, {}
    types = set()
    for name, block in entries.items():
        members = name.split()
        if len(members) == 1:
            species[name] = _species(name, block)
        if len(members) <= 2 and "radbase" in block:
            bond = _bond(name, block)
            bonds[members[0], members[-1]] = bond
            types.add(bond.inner_cutoff_type)
    for a, b in list(bonds):
        if (b, a) not in bonds:
            bonds[b, a] = bonds[a, b]
        elif a < b and not _same_bond(bonds[a, b], bonds[b, a]):
            raise AceError(f"speciesblocks '{a} {b}' and '{b} {a}' differ in their radial data; they must be equal")
    if len(types) > 1:
        raise AceError(f"inner_cutoff_type must be the same in all blocks, found {sorted(types)}")
    for el in elements:
        if el not in species or (el, el) not in bonds:
            raise AceError(f"element {el} has no complete block of its own (speciesblock: {el} with radial data)")
    for name, block in entries.items():
        items = values.sequence(f"speciesblock {name!r}: nbody", block.get("nbody") or [])
        blocks[name] = tuple(_function(name, item) for item in items)
    pot = AcePotential(
        elements=elements,
        species=species,
        bonds=bonds,
        blocks=blocks,
        delta_spline_bins=_spline_step(data),
        # a mapping written without quotes is the JSON that pacemaker writes as text
        metadata={
            str(k): json.dumps(v) if isinstance(v, dict) else str(v)
            for k, v in values.mapping("metadata", data.get("metadata")).items()
        },
        auxdata=values.mapping("auxdata", data.get("auxdata")),
    )
    _ = pot.reference_energies  # what cannot be read is named now, with the file
    _refuse_doubles(pot)
    return pot


def _spline_step(data: dict) -> float:
    step = values.number("global: DeltaSplineBins", values.mapping("global", data.get("global")).get(
        "DeltaSplineBins", 0.001), 0.0)  # fmt: skip
    if step == 0.0:
        raise AceError("global: DeltaSplineBins must be larger than 0, such as 0.001")
    return step


def _refuse_doubles(pot: AcePotential) -> None:
    """A function that occurs twice is added twice: no fit can tell the two apart."""
    seen = set()
    for name, functions in pot.blocks.items():
        for f in functions:
            factors = tuple(sorted(zip(f.mus, f.ns, f.ls))) if f.rank <= 2 else tuple(zip(f.mus, f.ns, f.ls))
            if (f.mu0, factors, f.lint) in seen:
                raise AceError(
                    f"speciesblock {name!r}: the function {f.mu0} {' '.join(f.mus)} nr={list(f.ns)} nl={list(f.ls)} "
                    f"lint={list(f.lint)} occurs twice; remove one of them"
                )
            seen.add((f.mu0, factors, f.lint))


def _species(name: str, block: dict) -> Species:
    missing = {"ndensityi", "npoti", "parameters"} - set(block)
    if missing:
        raise AceError(f"speciesblock {name!r} lacks {sorted(missing)}")
    where = f"speciesblock {name!r}: "
    return Species(
        element=name,
        n_density=values.integer(where + "ndensityi", block["ndensityi"], 1, 100),
        embedding=values.text(where + "npoti", block["npoti"]),
        parameters=values.numbers(where + "parameters", block["parameters"]),
        rho_core_cut=values.number(where + "rho_core_cut", block.get("rho_core_cut", 100000.0)),
        drho_core_cut=values.number(where + "drho_core_cut", block.get("drho_core_cut", 250.0)),
    )


def _bond(name: str, block: dict) -> Bond:
    missing = {"nradmaxi", "lmaxi", "nradbaseij", "rcutij", "radparameters"} - set(block)
    if missing:
        raise AceError(f"speciesblock {name!r} lacks {sorted(missing)}")
    where = f"speciesblock {name!r}: "
    N, L, K = (values.integer(where + key, block[key]) for key in ("nradmaxi", "lmaxi", "nradbaseij"))
    check_radial_size(where[:-2], N, L, K)
    raw = block.get("radcoefficients")
    if raw is None or raw == []:
        radial = np.zeros((N, L + 1, K)) + np.eye(N, K)[:, None, :]
    else:
        radial = values.array(where + "radcoefficients", raw)
        if radial.ndim == 1 and radial.size == N * (L + 1) * K:  # old files: k slowest, then n, then l
            radial = radial.reshape(K, N, L + 1).transpose(1, 2, 0).copy()
        if radial.shape != (N, L + 1, K):
            raise AceError(
                f"speciesblock {name!r}: radcoefficients have shape {radial.shape}, "
                f"expected [nradmaxi={N}][lmaxi+1={L + 1}][nradbaseij={K}]"
            )
    core = values.numbers(where + "core-repulsion", block.get("core-repulsion") or [0.0, 0.0])
    parameters = values.numbers(where + "radparameters", block["radparameters"])
    if len(core) != 2 or not parameters:
        raise AceError(f"{where}core-repulsion has two numbers (prefactor, lambda), radparameters at least one")
    lengths = {key: values.number(where + key, block.get(key, default), 0.0) for key, default in _LENGTHS.items()}
    fields = dict(
        radbase=values.text(where + "radbase", block["radbase"]),
        radparameters=parameters,
        rcut=lengths["rcutij"],
        dcut=lengths["dcutij"],
        nradbase=K,
        radcoefficients=radial,
        core_repulsion=(core[0], core[1]),
        r_in=lengths["r_in"],
        delta_in=lengths["delta_in"],
        inner_cutoff_type=values.text(where + "inner_cutoff_type", block.get("inner_cutoff_type", "density")),
        cutoff_function=values.text(where + "NameOfCutoffFunctionij", block.get("NameOfCutoffFunctionij", "cos")),
    )
    try:
        return Bond(**fields)
    except AceError as error:
        raise type(error)(f"{where}{error}") from None


def _same_bond(a: Bond, b: Bond) -> bool:
    plain = [k for k in vars(a) if k not in ("radcoefficients", "cutoff_function")]
    return all(getattr(a, k) == getattr(b, k) for k in plain) and np.array_equal(a.radcoefficients, b.radcoefficients)


def _function(name: str, item: Any) -> BasisFunction:
    item = values.mapping(f"speciesblock {name!r}: an entry of nbody", item)
    _unknown(f"speciesblock {name!r}: a function", item, _FUNCTION_KEYS)
    missing = [key for key in ("type", "nr", "nl", "c") if key not in item]
    if missing:
        raise AceError(f"speciesblock {name!r}: the function {dict(item)!r:.80} lacks {', '.join(missing)}")
    where = f"speciesblock {name!r}, function nr={item['nr']!r:.40} nl={item['nl']!r:.40}"
    members = values.text(f"{where}: type", item["type"]).split()
    rank = len(members) - 1
    ns, ls = values.integers(f"{where}: nr", item["nr"], 1), values.integers(f"{where}: nl", item["nl"])
    if set(members) != set(name.split()) or members[0] != name.split()[0]:
        raise AceError(
            f"speciesblock {name!r} holds a function of type {item['type']!r}, which belongs to another block"
        )
    if rank == 2 and len(ls) == 1:
        ls = ls * 2
    if rank < 1 or len(ns) != rank or len(ls) != rank:
        raise AceError(f"{where}: type {item['type']!r} needs {rank} entries in nr and nl")
    if rank == 2 and ls[0] != ls[1]:
        raise AceError(f"{where}: rank 2 needs equal l")
    if sum(ls) % 2:
        raise AceError(f"{where}: the sum of nl must be even")
    coefficients = values.numbers(f"{where}: c", item["c"])
    lint = full_intermediates(ls, values.integers(f"{where}: lint", item.get("lint") or []))
    skip = values.boolean(f"{where}: skip", item.get("skip", False))
    return BasisFunction(members[0], tuple(members[1:]), ns, ls, lint, coefficients, skip)


# --- writing ----------------------------------------------------------------------------------------------------------
def _num(value: float) -> str:
    return f"{value:.17g}"


def _list(values) -> str:
    if isinstance(values, np.ndarray):
        values = values.tolist()
    return "[" + ", ".join(_list(v) if isinstance(v, (list, tuple)) else _num(v) for v in values) + "]"


def _text(mapping: dict, indent: str, flow: bool | None) -> str:
    dumped = yaml.safe_dump(mapping, sort_keys=False, default_flow_style=flow, width=10**6, allow_unicode=True)
    return "".join(indent + line + "\n" for line in dumped.splitlines())


def format_potential(pot: AcePotential) -> str:
    """Text of a potential; reading it back gives bit-equal numbers."""
    out = []
    if pot.metadata:
        out.append("metadata:\n" + _text(dict(pot.metadata), "  ", False))
    if pot.auxdata:
        out.append("auxdata:\n" + _text(dict(pot.auxdata), "  ", None))
    out.append(f"global:\n  DeltaSplineBins: {_num(pot.delta_spline_bins)}\nspecies:\n")
    for name, functions in pot.blocks.items():
        members = name.split()
        out.append(f"  - speciesblock: {name}\n")
        if len(members) == 1:
            s = pot.species[name]
            out.append(
                f"    ndensityi: {s.n_density}\n    npoti: {s.embedding}\n    parameters: {_list(s.parameters)}\n"
            )
            out.append(f"    rho_core_cut: {_num(s.rho_core_cut)}\n    drho_core_cut: {_num(s.drho_core_cut)}\n")
        if len(members) <= 2:
            out.append(_format_bond(pot.bonds[members[0], members[-1]]))
        out.append("    nbody:\n" if functions else "    nbody: []\n")
        out.extend(_format_function(f) for f in functions)
    return "".join(out)


def _format_bond(b: Bond) -> str:
    return (
        f"    nradmaxi: {b.nradmax}\n    lmaxi: {b.lmax}\n    rcutij: {_num(b.rcut)}\n    dcutij: {_num(b.dcut)}\n"
        f"    NameOfCutoffFunctionij: {b.cutoff_function}\n    r_in: {_num(b.r_in)}\n    delta_in: {_num(b.delta_in)}\n"
        f"    inner_cutoff_type: {b.inner_cutoff_type}\n    nradbaseij: {b.nradbase}\n    radbase: {b.radbase}\n"
        f"    radparameters: {_list(b.radparameters)}\n    radcoefficients: {_list(b.radcoefficients)}\n"
        f"    core-repulsion: {_list(b.core_repulsion)}\n"
    )


def _format_function(f: BasisFunction) -> str:
    lint = f", lint: {_list(f.lint)}" if f.rank > 2 else ""
    skip = ", skip: true" if f.skip else ""
    return (
        f"      - {{type: {' '.join((f.mu0, *f.mus))}, nr: {_list(f.ns)}, nl: {_list(f.ls)}{lint}, "
        f"c: {_list(f.coefficients)}{skip}}}\n"
    )
