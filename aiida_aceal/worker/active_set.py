"""``aceal-worker active-set``: the MaxVol active set of labelled or unlabelled configurations."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from aiida_aceal.common.atomic import write_json


class Files:
    """Configurations of several files, read anew at each pass; nothing is kept."""

    def __init__(self, paths: tuple[Path, ...], elements: tuple[str, ...]) -> None:
        self.paths, self.elements = paths, elements

    def __iter__(self):
        from aiida_aceal.common.configurations import check_elements, configuration_hash, iter_configurations

        for path in self.paths:
            for atoms in iter_configurations(path):
                check_elements([atoms], self.elements, str(path))
                atoms.info.setdefault("aceal_hash", configuration_hash(atoms))
                yield atoms


@click.command()
@click.argument("potential", type=click.Path(path_type=Path))
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .asi file to write.")
@click.option("--kind", type=click.Choice(["linear", "full"]), default="linear", show_default=True)
@click.option("--tolerance", default=1.001, show_default=True, help="Largest gamma of a training environment.")
@click.option("--memory", default="2GiB", show_default=True, help="Largest memory that the program may use.")
@click.option("--previous", type=click.Path(path_type=Path), help="Update this active set instead of building one.")
@click.option("--exclude-outliers", is_flag=True, help="Leave out environments with a force error beyond Q3 + 1.5 IQR.")
@click.option(
    "--emptiness/--no-emptiness",
    default=True,
    show_default=True,
    help="Record how empty the emptiest environments are, so that atoms that leave are flagged.",
)
@click.option(
    "--clusters", type=int, help="Build local active sets for this many clusters of each element's environments."
)
@click.option("--group-key", help="Build local active sets, one for each value of this info entry of the structures.")
@click.option(
    "--definition",
    type=click.Choice(["minimum", "own"]),
    default="minimum",
    show_default=True,
    help="Local grade: the smallest over the clusters, or that of the environment's own cluster.",
)
@click.option(
    "--switch", type=float, help="Use the local grade only in clusters with less than this fraction of an equal share."
)
@click.option(
    "--seed", default=0, show_default=True, help="Random seed of the probes that give the natural size of functions."
)
@click.option(
    "--report", type=click.Path(path_type=Path), help="JSON report with rank, volume and environments of each element."
)
def command(
    potential, data, output, kind, tolerance, memory, previous, exclude_outliers, emptiness, clusters, group_key,
    definition, switch, seed, report,
) -> None:  # fmt: skip
    """Choose the environments of DATA... with the largest volume for POTENTIAL (fitted or not).

    With --previous, all of DATA is checked against the old set, and only what exceeds the tolerance is swapped in.
    With --clusters or --group-key, OUTPUT contains local active sets as well as the global one: `grade`, `select`,
    `explore` and `aceal-lmp` read it, ML-PACE does not.
    """
    from aiida_aceal.ace import AceError, AceModel, AcePotential
    from aiida_aceal.uncertainty import (
        ActiveSet,
        LocalActiveSet,
        build_active_set,
        build_local_active_set,
        update_active_set,
    )
    from aiida_aceal.uncertainty.equal_densities import with_equal_densities
    from aiida_aceal.uncertainty.local import group_names
    from aiida_aceal.uncertainty.sources import memory_left

    started = time.perf_counter()
    pot = AcePotential.read(potential)
    model = AceModel(pot)
    if clusters is not None:
        import sklearn.cluster  # noqa: F401  (before the memory in use is looked at)
    memory = memory_left(memory)  # what the libraries and kernels already use counts as well
    source = Files(data, pot.elements)

    def progress(line: str) -> None:
        print(f"{time.perf_counter() - started:7.1f} s  {line}", file=sys.stderr, flush=True)

    if clusters is not None or group_key is not None:
        if previous is not None or exclude_outliers:
            raise AceError(
                "local active sets are always built anew from all of DATA; leave --previous and --exclude-outliers out"
            )
        if clusters is not None and group_key is not None:
            raise AceError("give --clusters or --group-key, not both")
        groups = None if group_key is None else group_names(source, group_key)
        active_set = build_local_active_set(
            model, source, kind, clusters=clusters or 1, groups=groups, definition=definition, switch=switch,
            tolerance=tolerance, memory=memory, emptiness=emptiness, seed=seed, progress=progress,
        )  # fmt: skip
    elif previous is None:
        active_set = build_active_set(
            model, source, kind, tolerance=tolerance, memory=memory, exclude_outliers=exclude_outliers,
            emptiness=emptiness, seed=seed, progress=progress,
        )  # fmt: skip
    else:
        if exclude_outliers:
            raise AceError("--exclude-outliers applies to a set that is built, not to an update with --previous")
        old = ActiveSet.load(previous, potential=pot, kind=kind)
        if isinstance(old, LocalActiveSet):
            raise AceError(f"{previous} holds local active sets, which cannot be updated: build them anew")
        active_set = update_active_set(old, model, source, tolerance=tolerance, memory=memory, progress=progress)
    equal = with_equal_densities(active_set, pot.n_functions, pot.n_densities)
    equal.save(output)
    if equal is not active_set:
        click.echo(
            f"{output}: elements have different numbers of densities; written for as many of all, as ML-PACE and "
            "python-ace need it: give them the potential written by AcePotential.with_equal_densities()"
        )
    facts = {**active_set.report(), "seconds": time.perf_counter() - started}
    if report is not None:
        write_json(report, facts)
    for element, one in facts["elements"].items():
        click.echo(
            f"{element:3s} {one['environments']} environments, {one['functions']} functions, rank {one['rank']}, "
            f"log volume {one['log_volume']:.6g}, max gamma {one['max_gamma']}, {len(one['structures'])} structures"
        )
    if not active_set.converged:
        click.echo(
            f"warning: gamma of a training environment is {active_set.tolerance_reached:.4g}, above the tolerance "
            f"{tolerance:g}",
            err=True,
        )
