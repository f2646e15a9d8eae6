"""``aiida-aceal list``: all campaigns of a profile, the newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aiida_aceal.cli.params import PROFILE

if TYPE_CHECKING:
    from aiida.orm import ProcessNode


@click.command()
@PROFILE
@click.option("-n", "--number", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
def command(profile: str | None, number: int) -> None:
    """List campaigns: state, generations, training structures, largest errors, what the labels cost."""
    from aiida.manage import get_manager
    from rich.console import Console
    from rich.table import Table

    from aiida_aceal.cli.profile import load

    load(profile, create=False)
    found = campaigns(number)
    if not found:
        click.echo(f"No campaigns in profile '{get_manager().get_profile().name}'.")
        return
    table = Table(box=None, pad_edge=False)
    for heading, how in (
        ("PK", "right"), ("started", "left"), ("campaign", "left"), ("state", "left"), ("gen", "right"),
        ("train", "right"), ("valid. F\nmeV/Å", "right"), ("F max\nmeV/Å", "right"), ("labels", "right"),
        ("core h", "right"),
    ):  # fmt: skip
        table.add_column(heading, justify=how, overflow="fold" if heading == "campaign" else "ellipsis")
    for node in found:
        table.add_row(*cells(node))
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table, highlight=False, markup=False)


def campaigns(limit: int) -> list[ProcessNode]:
    """The newest campaigns of the profile."""
    from aiida.orm import QueryBuilder, WorkChainNode

    query = QueryBuilder().append(
        WorkChainNode, filters={"attributes.process_label": "ActiveLearningWorkChain"}, tag="campaign"
    )
    return query.order_by({"campaign": {"id": "desc"}}).limit(limit).all(flat=True)


def state(node: ProcessNode) -> str:
    """State of a campaign in a word or two."""
    from aiida_aceal.workflows.stopping import runs_in

    if node.is_finished_ok:
        return "converged"
    if node.is_finished:
        return {
            410: "generations used up",
            411: "refused",
            412: "no candidates",
            413: "stopped",
            414: "waits for labels",
        }.get(node.exit_status, f"failed ({node.exit_status})")
    if node.is_terminated:
        return node.process_state.value
    where = runs_in(node)
    return "process has gone" if where is not None and where["alive"] is False else "running"


def cells(node: ProcessNode) -> list[str]:
    """Row of the table."""
    from aiida_aceal.report.rows import rows_of
    from aiida_aceal.report.table import number

    rows = rows_of(node)
    last: dict[str, Any] = rows[-1] if rows else {}
    labels = sum((row.get("n_labelled") or 0) for row in rows)
    core = sum((row.get("label_core_seconds") or 0.0) for row in rows) / 3600
    return [
        str(node.pk), f"{node.ctime:%Y-%m-%d %H:%M}", node.label or "-", state(node), str(len(rows)),
        str(last.get("n_training") or "-"), number(last.get("holdout_forces_rmse"), 1000),
        number(last.get("holdout_forces_max"), 1000), str(labels), number(core),
    ]  # fmt: skip
