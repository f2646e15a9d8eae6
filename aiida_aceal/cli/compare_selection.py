"""``aiida-aceal compare selection``: learning curves of strategies on a labelled pool."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from aiida_aceal.cli.params import CACHE, DRY_RUN, PAGE, PROFILE, VERBOSE
from aiida_aceal.common.words import counted


@click.command()
@click.argument("input_file", metavar="[INPUT.yaml]", required=False, type=click.Path(path_type=Path))
@click.option("--pool", multiple=True, help="File of labelled configurations to choose from (repeatable).")
@click.option("--test", multiple=True, help="File of labelled configurations that are never chosen (repeatable).")
@click.option("--test-fraction", type=float, help="Instead of --test: a random part of the pool, as a fraction.")
@click.option("--energy-key", help="Info entry with the energies [default: ASE's usual place].")
@click.option("--forces-key", help="Array with the forces [default: ASE's usual place].")
@click.option("--potential", help="Potential (.yaml) whose basis is fitted [default: a basis of some 100 functions].")
@click.option(
    "--strategy", multiple=True, help="Name, or name:JSON with its options (repeatable) [default: all seven]."
)
@click.option("--seeds", type=click.IntRange(min=1), help="Number of seeds [default: 5].")
@click.option("--sizes", help="Sizes of the training set, such as 20,40,80; the first is the random start.")
@click.option("--unit", type=click.Choice(["structures", "atoms"]), help="Unit of --sizes [default: structures].")
@click.option("--threads", type=click.IntRange(min=1), help="Number of cores for each job.")
@click.option(
    "--max-concurrent", type=click.IntRange(min=1), help="Number of jobs that run at the same time [default: 1]."
)
@PAGE
@DRY_RUN
@PROFILE
@CACHE
@VERBOSE
def command(input_file, output, dry_run, profile, cache, verbose, **flags) -> None:
    """Run every strategy from the same starts to the same sizes, refit at each size, and compare the errors.

    Either INPUT.yaml or --pool with --test describes the comparison; options override the file. Every
    (strategy, seed) is a job of its own: adding a strategy later does not recompute the others, unless --no-cache.
    """
    from aiida_aceal.inputs.compare_selection import check_comparison_input, prepare_comparison, read_comparison

    overrides = _overrides(flags)
    if input_file is not None:
        comparison, folder = read_comparison(input_file, overrides)
    elif flags["pool"]:
        comparison, folder = check_comparison_input(overrides, "options"), Path()
    else:
        raise click.UsageError("give an INPUT.yaml, or --pool and --test")
    # paths on the command line start from the working directory, those in the file from its folder
    for key in ("pool", "test", "potential"):
        if overrides.get(key):
            given = overrides[key]
            whole = str(Path(given).resolve()) if key == "potential" else [str(Path(p).resolve()) for p in given]
            comparison = comparison.model_copy(update={key: whole})
    prepared = prepare_comparison(comparison, folder)
    for line in describe(prepared):
        click.echo(line)
    if not dry_run:
        sys.exit(_run(prepared, profile, output, cache is not False, verbose))


def _overrides(flags: dict[str, Any]) -> dict[str, Any]:
    from aiida_aceal.ace import AceError

    found = {key: value for key, value in flags.items() if value not in (None, ())}
    strategies = found.pop("strategy", ())
    for key in ("pool", "test"):
        if key in found:
            found[key] = list(found[key])
    if "sizes" in found:
        try:
            found["sizes"] = [int(word) for word in found["sizes"].split(",")]
        except ValueError:
            raise AceError(f"--sizes: numbers separated by commas are expected, found {found['sizes']!r}") from None
    if strategies:
        found["strategies"] = []
        for word in strategies:
            name, colon, text = word.partition(":")
            if not colon:
                found["strategies"].append(name)
                continue
            try:
                options = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise AceError(f"--strategy {word!r}: the text after the colon is not valid JSON ({error})") from error
            words = " ".join(f"{k}={json.dumps(v)}" for k, v in options.items()) if isinstance(options, dict) else ""
            found["strategies"].append({"name": f"{name} {words}".strip(), "strategy": name, "options": options})
    return found


def describe(prepared: Any) -> list[str]:
    """What will be done."""
    sizes = ", ".join(str(size) for size in prepared.settings["sizes"])
    lines = [
        f"pool: {counted(len(prepared.pool), 'structure')}, {counted(sum(map(len, prepared.pool)), 'atom')}; "
        f"test set: {counted(len(prepared.test), 'structure')}, {counted(sum(map(len, prepared.test)), 'atom')}",
        "basis: " + ", ".join(f"{el} {counted(n, 'function')}" for el, n in prepared.potential.n_functions.items()),
        f"strategies: {', '.join(prepared.strategies)}",
        f"curves: {len(prepared.strategies) * len(prepared.seeds)} ({counted(len(prepared.seeds), 'seed')}), "
        f"training sets of {sizes} {prepared.settings['unit']}",
    ]
    if prepared.repeated:
        lines.insert(1, f"{counted(prepared.repeated, 'duplicate structure')} left out")
    return lines


class Display:
    """The present step on a terminal, lines otherwise."""

    def __init__(self, total: int, verbose: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self.console, self.verbose = Console(), verbose
        columns = (
            TextColumn("curves"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self.bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.task = self.bar.add_task("", total=total)
        self.began, self.done = time.monotonic(), -1

    def say(self, message: str) -> None:
        """A line of the comparison: always printed, it is the log of what has been reached."""
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def __call__(self, node: Any) -> str | None:
        """Looks at the comparison now and then; returns why it cannot go on."""
        from aiida.orm import CalcJobNode

        jobs = [child for child in node.called_descendants if isinstance(child, CalcJobNode)]
        done = sum(job.is_terminated for job in jobs)
        if done != self.done:
            self.done = done
            running = [job.description for job in jobs if not job.is_terminated]
            self.bar.update(self.task, completed=done, description="; ".join(running))
        for job in jobs:
            if job.paused and not job.is_terminated:
                return f"{job.process_label}<{job.pk}> cannot go on: {job.process_status}"
        return None


def _run(prepared: Any, profile: str | None, output: Path | None, cache: bool, verbose: bool) -> int:
    from aiida_aceal.cli.compare import run
    from aiida_aceal.inputs.compare_selection import make_comparison_builder

    display = Display(len(prepared.strategies) * len(prepared.seeds), verbose)
    node, name = run(make_comparison_builder, prepared, profile, cache, display, display.bar)
    return conclude(node, name, output)


def conclude(node: Any, profile: str, output: Path | None) -> int:
    """Table, report and exit code of a comparison that has ended."""
    from aiida_aceal.cli.compare import no_comparison, publish
    from aiida_aceal.report import selection
    from aiida_aceal.workflows.base import output as output_of

    summary = output_of(node, "summary")
    if summary is None:
        return no_comparison(node)
    publish(node, summary.get_dict(), ("Comparison of selection strategies", "selection"), selection, profile, output)
    if not node.is_finished_ok:
        click.secho(f"Incomplete (exit status {node.exit_status}): {node.exit_message}", fg="yellow", err=True)
        return 1
    return 0
