"""``verdi data aceal-ensemble``: list, show, import and export ensembles."""

from __future__ import annotations

from pathlib import Path

import click
from aiida.cmdline.commands.cmd_data import verdi_data
from aiida.cmdline.params import arguments, options, types
from aiida.cmdline.utils import decorators

from aiida_aceal.cli.data import _ELEMENT, _FILE, _LIMIT, _OUTPUT, _print_list, _show, _store, _write

_ENSEMBLE = types.DataParamType(sub_classes=("aiida.data:aceal.ensemble",))


@verdi_data.group("aceal-ensemble")
def ensemble() -> None:
    """Ensembles of ACE potentials."""


@ensemble.command("list")
@_ELEMENT
@options.PAST_DAYS()
@_LIMIT
@options.RAW()
@decorators.with_dbenv()
def ensemble_list(elements, past_days, limit, raw) -> None:
    """List ensembles."""
    columns = {
        "Elements": lambda a: " ".join(a.get("elements", [])),
        "Members": lambda a: a.get("n_members"),
        "Method": lambda a: a.get("method"),
        "dE (eV/atom)": lambda a: f"{a.get('thresholds', {}).get('energy', float('nan')):.3g}",
        "dF (eV/A)": lambda a: f"{a.get('thresholds', {}).get('forces', float('nan')):.3g}",
        "Basis": lambda a: (a.get("basis_hash") or "")[:8],
    }
    _print_list("aceal.ensemble", columns, elements, past_days, limit, raw)


@ensemble.command("show")
@arguments.DATUM(type=_ENSEMBLE)
@decorators.with_dbenv()
def ensemble_show(datum) -> None:
    """Show what is known about an ensemble."""
    known = datum.base.attributes.all
    thresholds = known["thresholds"]
    _show(
        datum,
        {
            "Elements": " ".join(known["elements"]),
            "Members": known["n_members"],
            "Method": known["method"],
            "Indicator": {"forces": "dF", "energy": "dE"}[known["use"]],
            "Threshold of dE (eV/atom)": f"{thresholds['energy']:.6g}" if "energy" in thresholds else None,
            "Threshold of dF (eV/A)": f"{thresholds['forces']:.6g}" if "forces" in thresholds else None,
            "Shared projections": "yes" if known["shared"] else "no",
            "Training structures": known["n_structures"],
            "Basis": known["basis_hash"] or "differs between members",
        },
    )


@ensemble.command("export")
@arguments.DATUM(type=_ENSEMBLE)
@click.option("-m", "--member", type=click.IntRange(min=0), help="Export only this member, as B-basis .yaml.")
@_OUTPUT
@options.FORCE(help="Overwrite an existing file.")
@decorators.with_dbenv()
def ensemble_export(datum, member, output, force) -> None:
    """Export the archive that `aceal-worker select --ensemble` reads, or one member."""
    if member is None:
        _write(datum.get_content(mode="rb"), output, force, binary=True)
        return
    members = datum.get_ensemble().potentials
    if member >= len(members):
        raise click.BadParameter(f"the ensemble has {len(members)} members, numbered from 0", param_hint="--member")
    _write(members[member].to_yaml().encode(), output, force)


@ensemble.command("import")
@_FILE
@options.LABEL()
@options.DESCRIPTION()
@decorators.with_dbenv()
def ensemble_import(file: Path, label, description) -> None:
    """Store an archive written by `aceal-worker fit` as a node."""
    from aiida.plugins import DataFactory

    _store(lambda: DataFactory("aceal.ensemble")(file=file), label or file.stem, description or "")
