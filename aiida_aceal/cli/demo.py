"""``aiida-aceal demo``: a whole campaign for copper, from an empty machine to a converged potential."""

from __future__ import annotations

import sys
from importlib import resources

import click

from aiida_aceal.cli.params import CACHE, OUTPUT, PROFILE, VERBOSE


@click.command()
@click.option(
    "--calculator",
    default="emt",
    show_default=True,
    help="ASE calculator that makes the labels: a short name (emt, tblite, ...) or package.module:Class.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Random seed: the same seed gives the same campaign.",
)
@OUTPUT
@PROFILE
@CACHE
@VERBOSE
def command(calculator, seed, output, profile, cache, verbose) -> None:
    """Train a potential for copper by active learning: MD from 300 K through melting to 1800 K.

    Creates (or reuses) the AiiDA profile 'aceal-demo': SQLite, no services. Other profiles are not touched. Takes a few
    minutes on two cores; the input is examples/cu_emt.yaml.
    """
    from aiida_aceal.cli.runner import run_campaign
    from aiida_aceal.common.yaml import load_yaml
    from aiida_aceal.inputs.schema import check_campaign
    from aiida_aceal.labels.calculators import calculator_spec

    spec = calculator_spec(calculator)  # an unknown calculator is found before anything else happens
    data = load_yaml(resources.files("aiida_aceal.cli").joinpath("demo.yaml").read_text("utf-8"), "demo.yaml")
    data["seed"] = seed
    data["label"]["settings"]["calculator"] = calculator
    if calculator != "emt":
        data["title"] = f"Copper, 300 K to 1800 K, labels by {spec.name}"
    from pathlib import Path

    sys.exit(run_campaign(check_campaign(data, "demo"), Path.cwd(), profile, output, bool(cache), verbose))
