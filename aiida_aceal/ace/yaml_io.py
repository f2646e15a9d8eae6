"""Reader and writer of pacemaker's B-basis ``.yaml``."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import yaml

from .coupling import full_intermediates
from .errors import AceError
from .potential import AcePotential, BasisFunction, Bond, Species

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RADIAL_KEYS = {
    "nradmaxi", "lmaxi", "nradbaseij", "rcutij", "dcutij", "NameOfCutoffFunctionij", "radbase", "radparameters",
    "radcoefficients", "core-repulsion", "r_in", "delta_in", "inner_cutoff_type",
}  # fmt: skip
_SPECIES_KEYS = {"ndensityi", "npoti", "parameters", "rho_core_cut", "drho_core_cut"}
_KNOWN_KEYS = _RADIAL_KEYS | _SPECIES_KEYS | {"speciesblock", "nbody"}


def read_potential(path: str | Path) -> AcePotential:
    """Read a ``.yaml`` potential.

    Raises
    ------
    AceError
        If the file is missing, is no YAML, or holds no valid B-basis potential.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AceError(f"{path}: cannot be read ({error}); give the path of a pacemaker .yaml potential") from error
    return parse_potential(text, str(path))


def parse_potential(text: str, source: str = "<string>") -> AcePotential:
    """Parse the text of a B-basis ``.yaml``; ``source`` names it in the messages of `AceError`."""
    try:
        data = yaml.load(text, Loader=_Loader)  # a safe loader: no Python objects
    except yaml.YAMLError as error:
        raise AceError(f"{source}: is not valid YAML ({error})") from error
    if not isinstance(data, dict) or not isinstance(data.get("species"), list) or not data["species"]:
        raise AceError(f"{source}: no 'species' list; this is not a B-basis potential of pacemaker")
    try:
        return _build(data)
    except AceError as error:
        raise AceError(f"{source}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise AceError(f"{source}: malformed potential ({type(error).__name__}: {error})") from error


def _build(data: dict) -> AcePotential:
    entries: dict[str, dict] = {}
    for block in data["species"]:
        if not isinstance(block, dict) or "speciesblock" not in block:
            raise AceError("an entry of 'species' has no 'speciesblock' name")
        name = " ".join(str(block["speciesblock"]).split())
        if name in entries:
            raise AceError(f"speciesblock {name!r} stands twice")
        unknown = set(block) - _KNOWN_KEYS
        if unknown:
            raise AceError(f"speciesblock {name!r}: unknown keys {sorted(unknown)}; known: {sorted(_KNOWN_KEYS)}")
        entries[name] = block
    elements = tuple(sorted({el for name in entries for el in name.split()}))
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
        blocks[name] = tuple(_function(name, item) for item in block.get("nbody") or [])
    return AcePotential(
        elements=elements,
        species=species,
        bonds=bonds,
        blocks=blocks,
        delta_spline_bins=float((data.get("global") or {}).get("DeltaSplineBins", 0.001)),
        metadata={str(k): str(v) for k, v in (data.get("metadata") or {}).items()},
        auxdata=data.get("auxdata") or {},
    )


def _species(name: str, block: dict) -> Species:
    missing = {"ndensityi", "npoti", "parameters"} - set(block)
    if missing:
        raise AceError(f"speciesblock {name!r} lacks {sorted(missing)}")
    return Species(
        element=name,
        n_density=int(block["ndensityi"]),
        embedding=str(block["npoti"]),
        parameters=_numbers(name, "parameters", block["parameters"]),
        rho_core_cut=float(block.get("rho_core_cut", 100000.0)),
        drho_core_cut=float(block.get("drho_core_cut", 250.0)),
    )


def _numbers(name: str, key: str, values) -> tuple[float, ...]:
    values = [values] if isinstance(values, (int, float)) else list(values)
    numbers = tuple(float(v) for v in values)
    if not all(math.isfinite(v) for v in numbers):
        raise AceError(f"speciesblock {name!r}: {key} holds a value that is not finite: {values}")
    return numbers


def _bond(name: str, block: dict) -> Bond:
    missing = {"nradmaxi", "lmaxi", "nradbaseij", "rcutij", "radparameters"} - set(block)
    if missing:
        raise AceError(f"speciesblock {name!r} lacks {sorted(missing)}")
    N, L, K = int(block["nradmaxi"]), int(block["lmaxi"]), int(block["nradbaseij"])
    raw = block.get("radcoefficients")
    if not raw:
        radial = np.zeros((N, L + 1, K)) + np.eye(N, K)[:, None, :]
    else:
        radial = np.array(raw, dtype=float)
        if radial.ndim == 1 and radial.size == N * (L + 1) * K:  # old files: k slowest, then n, then l
            radial = radial.reshape(K, N, L + 1).transpose(1, 2, 0).copy()
        if radial.shape != (N, L + 1, K):
            raise AceError(
                f"speciesblock {name!r}: radcoefficients have shape {radial.shape}, "
                f"expected [nradmaxi={N}][lmaxi+1={L + 1}][nradbaseij={K}]"
            )
        if not np.isfinite(radial).all():
            raise AceError(f"speciesblock {name!r}: radcoefficients hold a value that is not finite")
    core = _numbers(name, "core-repulsion", block.get("core-repulsion") or [0.0, 0.0])
    return Bond(
        radbase=str(block["radbase"]),
        radparameters=_numbers(name, "radparameters", block["radparameters"]),
        rcut=float(block["rcutij"]),
        dcut=float(block.get("dcutij", 0.01)),
        nradbase=K,
        radcoefficients=radial,
        core_repulsion=(core[0], core[1]),
        r_in=float(block.get("r_in", 0.0)),
        delta_in=float(block.get("delta_in", 0.0)),
        inner_cutoff_type=str(block.get("inner_cutoff_type", "density")),
        cutoff_function=str(block.get("NameOfCutoffFunctionij", "cos")),
    )


def _same_bond(a: Bond, b: Bond) -> bool:
    plain = [k for k in vars(a) if k not in ("radcoefficients", "cutoff_function")]
    return all(getattr(a, k) == getattr(b, k) for k in plain) and np.array_equal(a.radcoefficients, b.radcoefficients)


def _function(name: str, item: dict) -> BasisFunction:
    members = str(item["type"]).split()
    rank = len(members) - 1
    ns, ls = tuple(map(int, item["nr"])), tuple(map(int, item["nl"]))
    if set(members) != set(name.split()) or members[0] != name.split()[0]:
        raise AceError(
            f"speciesblock {name!r} holds a function of type {item['type']!r}, which belongs to another block"
        )
    if rank == 2 and len(ls) == 1:
        ls = ls * 2
    where = f"speciesblock {name!r}, function nr={list(ns)} nl={list(ls)}"
    if rank < 1 or len(ns) != rank or len(ls) != rank:
        raise AceError(f"{where}: type {item['type']!r} needs {rank} entries in nr and nl")
    if rank == 2 and ls[0] != ls[1]:
        raise AceError(f"{where}: rank 2 needs equal l")
    if sum(ls) % 2:
        raise AceError(f"{where}: the sum of nl must be even")
    coefficients = _numbers(name, f"c of nr={list(ns)} nl={list(ls)}", item.get("c", [0.0]))
    lint = full_intermediates(ls, tuple(map(int, item.get("lint") or ())))
    return BasisFunction(members[0], tuple(members[1:]), ns, ls, lint, coefficients, bool(item.get("skip", False)))


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
