"""``verdi data aceal-potential | aceal-active-set | aceal-dataset``: list, show, import and export nodes.

Heavy imports stand inside the functions, so that ``verdi data --help`` stays quick.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from aiida.cmdline.commands.cmd_data import verdi_data
from aiida.cmdline.params import arguments, options, types
from aiida.cmdline.utils import decorators, echo

from aiida_aceal.common.atomic import write_bytes
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.words import counted

_POTENTIAL = types.DataParamType(sub_classes=("aiida.data:aceal.potential",))
_ACTIVE_SET = types.DataParamType(sub_classes=("aiida.data:aceal.active_set",))
_DATASET = types.DataParamType(sub_classes=("aiida.data:aceal.dataset",))

_ELEMENT = click.option("-e", "--element", "elements", multiple=True, help="Only nodes with this element (repeatable).")
_LIMIT = click.option("-n", "--limit", default=0, help="Show only the newest N.")
_OUTPUT = click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write (default: print)."
)


def _print_list(
    entry_point: str,
    columns: dict[str, Callable[[dict[str, Any]], Any]],
    elements: tuple[str, ...],
    past_days: int | None,
    limit: int,
    raw: bool,
) -> None:
    """One row per node, oldest first; only attributes are read, no files."""
    from datetime import timedelta

    from aiida import orm
    from aiida.common import timezone
    from aiida.plugins import DataFactory
    from tabulate import tabulate

    query = orm.QueryBuilder()
    filters: dict[str, Any] = {}
    if elements:
        filters["attributes.elements"] = {"contains": list(elements)}
    if past_days is not None:
        filters["ctime"] = {">": timezone.now() - timedelta(days=past_days)}
    query.append(DataFactory(entry_point), tag="node", filters=filters, project=["id", "ctime", "label", "attributes"])
    query.order_by({"node": {"ctime": "desc"}})
    if limit:
        query.limit(limit)
    rows = [
        [pk, ctime.strftime("%Y-%m-%d %H:%M"), label, *(column(attributes) for column in columns.values())]
        for pk, ctime, label, attributes in reversed(query.all())
    ]
    headers = [] if raw else ["PK", "Created", "Label", *columns]
    echo.echo(tabulate(rows, headers=headers, tablefmt="plain" if raw else "simple"))
    if not raw:
        echo.echo(f"\n{counted(len(rows), 'node')}")


def _per_element(values: dict[str, Any] | None, fmt: str = "{}") -> str:
    return " ".join(f"{el}:{'-' if v is None else fmt.format(v)}" for el, v in sorted((values or {}).items()))


def _show(node: Any, rows: dict[str, Any]) -> None:
    from tabulate import tabulate

    head = {"PK": node.pk, "UUID": node.uuid, "Label": node.label, "Created": node.ctime.strftime("%Y-%m-%d %H:%M")}
    if node.creator is not None:
        head["Created by"] = f"{node.creator.process_label}<{node.creator.pk}>"
    echo.echo(tabulate([[k, v] for k, v in {**head, **rows}.items() if v not in ("", None)], tablefmt="plain"))


def _write(content: bytes, output: Path | None, force: bool, binary: bool = False) -> None:
    if output is None:
        if binary:
            echo.echo_critical("this format is binary: give a file with --output")
        echo.echo(content.decode(), nl=False)
        return
    if output.exists() and not force:
        echo.echo_critical(f"{output} exists already: give another file or use --force")
    try:
        write_bytes(output, content)
    except AceError as error:
        echo.echo_critical(str(error))
    echo.echo_success(f"wrote {output}")


def _store(make: Callable[[], Any], label: str, description: str) -> None:
    """Make a node from files and store it; bad files end with one line."""
    try:
        node = make()
    except AceError as error:
        echo.echo_critical(str(error))
    node.label, node.description = label, description
    node.store()
    echo.echo_success(f"stored {type(node).__name__}<{node.pk}> {node.uuid}")


_FILE = click.argument("file", type=click.Path(path_type=Path))
_FILES = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))


# --- potentials --------------------------------------------------------------------------------------------------


@verdi_data.group("aceal-potential")
def potential() -> None:
    """ACE potentials."""


@potential.command("list")
@_ELEMENT
@options.PAST_DAYS()
@_LIMIT
@options.RAW()
@decorators.with_dbenv()
def potential_list(elements, past_days, limit, raw) -> None:
    """List ACE potentials."""
    columns = {
        "Functions": lambda a: _per_element(a.get("n_functions")),
        "Densities": lambda a: _per_element(a.get("n_densities")),
        "Cutoff": lambda a: a.get("cutoff"),
        "Radial": lambda a: ",".join(a.get("radial_type", [])),
        "Fitted": lambda a: "yes" if a.get("is_fitted") else "no",
        "Basis": lambda a: a.get("basis_hash", "")[:8],
    }
    _print_list("aceal.potential", columns, elements, past_days, limit, raw)


@potential.command("show")
@arguments.DATUM(type=_POTENTIAL)
@decorators.with_dbenv()
def potential_show(datum) -> None:
    """Show what is known about an ACE potential."""
    known = datum.base.attributes.all
    _show(
        datum,
        {
            "Elements": " ".join(known["elements"]),
            "Functions": _per_element(known["n_functions"]),
            "Densities": _per_element(known["n_densities"]),
            "Highest rank": known["max_rank"],
            "Cutoff (A)": known["cutoff"],
            "Radial basis": ", ".join(known["radial_type"]),
            "Embedding": _per_element(known["embedding"]),
            "Fitted": "yes" if known["is_fitted"] else "no",
            "Reference energies (eV)": _per_element(known["reference_energies"], "{:.6f}"),
            "Basis": known["basis_hash"],
        },
    )


@potential.command("export")
@arguments.DATUM(type=_POTENTIAL)
@click.option(
    "-F",
    "--format",
    "fmt",
    type=click.Choice(["yaml", "yace", "lammps"]),
    help="Default: from the suffix of the file, else yaml.",
)
@_OUTPUT
@options.FORCE(help="Overwrite an existing file.")
@decorators.with_dbenv()
def potential_export(datum, fmt, output, force) -> None:
    """Export as B-basis .yaml or as C-tilde .yace for `pair_style pace`.

    `lammps` is a .yaml with the same number of densities for all elements, which ML-PACE needs.
    """
    fmt = fmt or ("yace" if output is not None and output.suffix == ".yace" else "yaml")
    text = {"yaml": lambda: datum.content, "yace": datum.get_yace, "lammps": datum.get_lammps}[fmt]()
    _write(text.encode(), output, force)


@potential.command("import")
@_FILE
@options.LABEL()
@options.DESCRIPTION()
@decorators.with_dbenv()
def potential_import(file, label, description) -> None:
    """Store a B-basis .yaml as a node."""
    from aiida.plugins import DataFactory

    _store(lambda: DataFactory("aceal.potential")(file=file), label or file.stem, description or "")


# --- active sets -------------------------------------------------------------------------------------------------


@verdi_data.group("aceal-active-set")
def active_set() -> None:
    """Active sets of ACE potentials."""


@active_set.command("list")
@_ELEMENT
@options.PAST_DAYS()
@_LIMIT
@options.RAW()
@decorators.with_dbenv()
def active_set_list(elements, past_days, limit, raw) -> None:
    """List active sets."""
    columns = {
        "Kind": lambda a: a.get("kind"),
        "Rows": lambda a: _per_element(a.get("sizes")),
        "Rank": lambda a: _per_element(a.get("rank")),
        "log|det|": lambda a: _per_element(a.get("log_volume"), "{:.2f}"),
        "Tolerance": lambda a: a.get("tolerance_reached"),
        "Basis": lambda a: a.get("basis_hash", "")[:8],
    }
    _print_list("aceal.active_set", columns, elements, past_days, limit, raw)


@active_set.command("show")
@arguments.DATUM(type=_ACTIVE_SET)
@decorators.with_dbenv()
def active_set_show(datum) -> None:
    """Show what is known about an active set and how many structures contribute to it."""
    known = datum.base.attributes.all
    contributing = {
        el: len({digest for digest, _ in rows if digest}) for el, rows in datum.environments.items() if rows
    }
    _show(
        datum,
        {
            "Kind": known["kind"],
            "Rows": _per_element(known["sizes"]),
            "Rank": _per_element(known.get("rank")),
            "Floor rows": _per_element(known.get("floor_rows")),
            "log|det|": _per_element(known.get("log_volume"), "{:.4f}"),
            "Environments": _per_element(known.get("n_environments")),
            "Structures that contribute": _per_element(contributing),
            "Tolerance reached": known.get("tolerance_reached"),
            "Basis": known.get("basis_hash"),
        },
    )


@active_set.command("export")
@arguments.DATUM(type=_ACTIVE_SET)
@_OUTPUT
@options.FORCE(help="Overwrite an existing file.")
@decorators.with_dbenv()
def active_set_export(datum, output, force) -> None:
    """Export as the .asi that `pair_style pace/extrapolation` reads."""
    _write(datum.content, output, force, binary=True)


@active_set.command("import")
@_FILE
@click.option(
    "-p", "--potential", "datum", type=_POTENTIAL, required=True, help="The potential that the active set was made for."
)
@options.LABEL()
@options.DESCRIPTION()
@decorators.with_dbenv()
def active_set_import(file, datum, label, description) -> None:
    """Store an .asi as a node, after checking that it fits the potential."""
    from aiida.plugins import DataFactory

    make = DataFactory("aceal.active_set")
    _store(lambda: make(file=file, potential=datum), label or file.stem, description or "")


# --- configurations ----------------------------------------------------------------------------------------------


@verdi_data.group("aceal-dataset")
def dataset() -> None:
    """Sets of configurations: training sets, candidates, pools."""


@dataset.command("list")
@_ELEMENT
@options.PAST_DAYS()
@_LIMIT
@options.RAW()
@decorators.with_dbenv()
def dataset_list(elements, past_days, limit, raw) -> None:
    """List sets of configurations."""

    def labels(a: dict[str, Any]) -> str:
        n = a.get("n_configurations")
        counts = {"E": a.get("n_energy", 0), "F": a.get("n_forces", 0), "S": a.get("n_stress", 0)}
        return " ".join(name if count == n else f"{name}:{count}" for name, count in counts.items() if count)

    columns = {
        "Elements": lambda a: " ".join(a.get("elements", [])),
        "Configurations": lambda a: a.get("n_configurations"),
        "Atoms": lambda a: a.get("n_atoms"),
        "Labels": labels,
        "Max gamma": lambda a: "" if a.get("gamma_max") is None else f"{a['gamma_max']:.2f}",
        "Source": lambda a: a.get("source") or "",
    }
    _print_list("aceal.dataset", columns, elements, past_days, limit, raw)


@dataset.command("show")
@arguments.DATUM(type=_DATASET)
@click.option("-c", "--configurations", "listed", is_flag=True, help="One line per configuration.")
@decorators.with_dbenv()
def dataset_show(datum, listed) -> None:
    """Show what is known about a set of configurations."""
    from tabulate import tabulate

    known = datum.base.attributes.all
    n = known["n_configurations"]
    gamma = known.get("gamma_max")
    _show(
        datum,
        {
            "Elements": " ".join(known["elements"]),
            "Configurations": n,
            "Atoms": f"{known['n_atoms']} ({known['min_atoms']} to {known['max_atoms']} each)",
            "With energy": f"{known['n_energy']} of {n}",
            "With forces": f"{known['n_forces']} of {n}",
            "With stress": f"{known['n_stress']} of {n}",
            "Largest gamma": None if gamma is None else f"{gamma:.4f}",
            "Source": known.get("source"),
        },
    )
    if not listed:
        return
    shown = ("source", "reason", "score", "round")
    rows = []
    for index, atoms in enumerate(datum.iter_atoms()):
        energy = atoms.calc.results.get("energy") if atoms.calc else None
        entries = [atoms.info.get(name, "") for name in shown]
        digest = atoms.info["aceal_hash"][:8]
        rows.append([index, atoms.get_chemical_formula(), digest, "" if energy is None else f"{energy:.6f}", *entries])
    echo.echo("\n" + tabulate(rows, headers=["#", "Formula", "Hash", "Energy (eV)", *(s.capitalize() for s in shown)]))


@dataset.command("export")
@arguments.DATUM(type=_DATASET)
@_OUTPUT
@options.FORCE(help="Overwrite an existing file.")
@decorators.with_dbenv()
def dataset_export(datum, output, force) -> None:
    """Export as extended XYZ with labels; numbers are exact."""
    content, _ = datum._prepare_extxyz()
    _write(content, output, force)


@dataset.command("import")
@_FILES
@click.option("--energy-key", help="Name of the energy in the file (default: ASE's usual place).")
@click.option("--forces-key", help="Name of the forces in the file.")
@click.option("--stress-key", help="Name of the stress in the file.")
@click.option("--source", help="Where the configurations come from (default: the file names).")
@options.LABEL()
@options.DESCRIPTION()
@decorators.with_dbenv()
def dataset_import(files, energy_key, forces_key, stress_key, source, label, description) -> None:
    """Store configurations of files and folders as one node.

    Extended XYZ, ASE databases and all else that ASE reads, data frames of pacemaker, outputs of VASP and Quantum
    ESPRESSO.
    """
    from aiida.plugins import DataFactory

    from aiida_aceal.common.configurations import read_configurations

    def make():
        frames = read_configurations(files, energy_key, forces_key, stress_key, say=echo.echo)
        return DataFactory("aceal.dataset").from_atoms(frames, source=source or ", ".join(f.name for f in files))

    _store(make, label or files[0].stem, description or "")
