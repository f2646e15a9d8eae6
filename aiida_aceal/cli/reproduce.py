"""``aiida-aceal reproduce``: findings of the papers, each a study of the plugin's own jobs."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from aiida_aceal.cli.params import CACHE, PROFILE, VERBOSE


@click.command()
@click.argument("name", required=False)
@click.option("--list", "listed", is_flag=True, help="Show all studies, with the figures of the papers they follow.")
@click.option("--full", is_flag=True, help="Run the full form (hours) instead of the short one (minutes).")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Folder with the public data sets [default: that of ACEAL_DATA]."
)
@click.option(
    "--set", "changes", metavar="KEY=VALUE", multiple=True,
    help="Change a setting of the form, such as seeds=[1,2] (repeatable).",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), help="Number of cores for each job [default: all].")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path),
    help="Folder for tables, figures and numbers [default: reproduce/NAME].",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show settings and jobs, and how long they may take; run nothing.")
@PROFILE
@CACHE
@VERBOSE
def command(name, listed, full, data, changes, threads, output, dry_run, profile, cache, verbose) -> None:
    """Reproduce findings of the papers: run the study NAME, and write its tables, figures and numbers.

    Jobs that ran before are taken from the cache, so studies share what they have in common and an interrupted one goes
    on where it was.
    """
    from aiida_aceal.reproduce import STUDIES, find_study, sources
    from aiida_aceal.reproduce.bench import duration

    if listed or name is None:
        if not listed:
            raise click.UsageError("give the NAME of a study, or --list")
        for known in STUDIES:
            study = find_study(known)
            click.echo(f"{known:24s} {study.figures}: {study.title}")
        return
    study = find_study(name)
    form = study.settings(full, _changed(changes))
    plan = study.plan(form)
    kind = "full" if full else "short"
    click.echo(f"{study.title} ({study.figures}), {kind} form")
    for key, value in form.to_dict().items():
        click.echo(f"  {key}: {value}")
    if dry_run:
        for step in plan:
            click.echo(f"  {duration(step.seconds):>7s}  {step.label}")
        click.echo(f"{len(plan)} jobs, about {duration(sum(s.seconds for s in plan))} on one core, if none is cached")
        return
    folder = sources.data_folder(data)
    sources.require(study.needs(form), folder)
    threads = threads or len(os.sched_getaffinity(0))
    sys.exit(_run(study, form, kind, folder, threads, output or Path("reproduce") / name, profile, cache, verbose))


def _changed(changes: tuple[str, ...]) -> dict[str, Any]:
    from aiida_aceal.common.yaml import load_yaml

    found = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise click.ClickException(f"--set {change}: expected KEY=VALUE")
        found[key] = load_yaml(text, f"--set {key}")
    return found


def _run(
    study: Any, form: Any, kind: str, data: Path | None, threads: int, output: Path, profile: str | None,
    cache: bool | None, verbose: bool,
) -> int:  # fmt: skip
    from aiida_aceal.cli import profile as own
    from aiida_aceal.cli.embedded import run_watched
    from aiida_aceal.cli.live import Display, paused_job, quiet_logging
    from aiida_aceal.reproduce.bench import Bench, duration
    from aiida_aceal.reproduce.study import write

    os.environ.setdefault("MPLBACKEND", "Agg")
    own.configuration()
    own.load(profile, create=True)
    from aiida_aceal.workflows.caching import cache_used

    warnings.simplefilter("ignore")
    display = Display(study.title, verbose)

    with cache_used(cache is not False), quiet_logging(display):
        bench = Bench(
            study.plan(form), data, own.find_code, lambda builder: run_watched(builder, paused_job),
            display.notice, threads,
        )  # fmt: skip
        outcome = study.run(bench, form)
    click.echo(f"{len(bench.processes)} jobs, {duration(bench.progress.taken)} of computing")
    for finding in outcome.findings:
        click.echo(f"{finding.verdict:6s} {finding.claim}: {finding.numbers}")
    for path in write(study, form, kind, outcome, output):
        click.echo(f"Written: {path}")
    return 0
