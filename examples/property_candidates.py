"""Structures of properties as candidates: campaigns with and without them, at equal numbers of labels.

Copper, labels by EMT, five seeds. Both campaigns of a seed start from the same eight rattled and strained cells and
make three generations of six labels each, chosen by D-optimality: from heated dynamics alone, or from these and the
structures behind elastic constants, vacancy and surfaces (explorer ``aceal.explore.properties``). In the end each
validates its last potential: the properties beside those of EMT, with the spread of an ensemble of eight, and the
errors on heated dynamics of EMT itself, which nobody learnt.

Each is one call of ``aiida-aceal run`` and, where the last potential is not the best on the validation set and thus not
the one returned, one of ``aiida-aceal validate``; the numbers are read from the provenance graph. No label and no fit
is taken from the cache, so that a repeat is a repeat.

    python property_candidates.py --output candidates        # under an hour
    python property_candidates.py --figure candidates        # the figure again, from candidates/numbers.json
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from aiida_aceal.ace import AceModel
from aiida_aceal.properties import intervals_that_hold, is_principal
from aiida_aceal.properties.compare import has_ratio

CELL = {"bulk": "Cu", "crystal": "fcc", "a": 3.61, "cubic": True}
BULK = [{"kind": "supercells", "structure": CELL, "sizes": [[2, 2, 2]]}]
PROPERTIES = ("elastic", "vacancy", "surface")
GENERATIONS, COUNT, MEMBERS = 3, 6, 8
HEATED = {"start": BULK, "temperature": [300, 1200], "steps": 300, "timestep": 0.004}
CAMPAIGN: dict[str, Any] = {
    "basis": {"cutoff": 5.5, "nradmax_by_orders": [6, 4, 2], "lmax_by_orders": [0, 3, 1]},
    "initial": [
        {"kind": "rattled", "structure": CELL, "supercell": [2, 2, 2], "count": 4, "amplitude": 0.06},
        {"kind": "strained", "structure": CELL, "supercell": [2, 2, 2], "count": 4, "strain": 0.03, "rattle": 0.05},
    ],
    "validation": {**HEATED, "interval": 30},
    "test": {**HEATED, "interval": 15},
    "label": {"settings": {"calculator": "emt"}},
    "explore": {
        "md": {
            "start": BULK,
            "settings": {
                "temperature_K": 300, "temperature_end_K": 2500, "timestep_ps": 0.004, "steps": 1500,
                "gamma_interval": 10,
            },
        }
    },
    "window": {"gamma_lo": 1.02, "gamma_hi": 50.0, "gamma_stop": 1.02},
    "selection": {"count": COUNT},
    # every generation counts: none is refused, and none ends the campaign but the last
    "gate": {"tolerance": 100.0},
    "loop": {"max_generations": GENERATIONS},
    "threads": 1,
    "ensemble": {"members": MEMBERS},
    "validate": {
        "structure": [{"bulk": "Cu", "a": 3.5901}],
        "properties": ",".join(PROPERTIES),
        "defects": {"cell_length": 7.0},
        "surface": {"thickness": 8.0, "vacuum": 8.0, "fault_points": 3},
    },
}  # fmt: skip
_ARMS = ((-0.15, False, "#4c78a8", "dynamics alone"), (0.15, True, "#e45756", "and structures of properties"))


def campaign(seed: int, with_properties: bool) -> dict[str, Any]:
    """Input of ``aiida-aceal run``."""
    data = {**CAMPAIGN, "title": "with structures of properties" if with_properties else "dynamics alone", "seed": seed}
    if with_properties:
        # surfaces are far from a crystal: they are candidates whatever their grade
        properties = {"settings": {"gamma_hi": 1.0e6}}
        data["explore"] = {**CAMPAIGN["explore"], "properties": properties}
    return data


def study(seed: int, with_properties: bool, folder: Path) -> dict[str, Any]:
    """One campaign and what came of it."""
    name = f"seed{seed}_{'properties' if with_properties else 'dynamics'}"
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(campaign(seed, with_properties), sort_keys=False))
    command = ["aiida-aceal", "run", str(path), "--no-cache", "-o", str(folder / name)]
    # a campaign that is not converged after its three generations ends with another code than 0
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
    (folder / f"{name}.log").write_text(output)
    found = re.search(r"Campaign (\d+) in profile '(.+?)'", output)
    if found is None:
        sys.exit(output)
    return {"seed": seed, "with_properties": with_properties, **numbers_of(int(found[1]), found[2], path)}


def numbers_of(pk: int, profile: str, path: Path) -> dict[str, Any]:
    """What a campaign learnt, and how good its last potential is."""
    from aiida import load_profile, orm

    load_profile(profile, allow_switch=True)
    node = orm.load_node(pk)
    outputs = node.outputs.latest if "latest" in node.outputs else node.outputs
    potential = outputs["potential"]
    if "latest" in node.outputs:
        wanted = path.with_name("validate.yaml")
        wanted.write_text(yaml.safe_dump({"validate": CAMPAIGN["validate"]}))
        command = ["aiida-aceal", "validate", str(potential.pk), str(wanted), "-o", str(path.with_suffix(".html"))]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    query = orm.QueryBuilder().append(orm.Node, filters={"id": potential.pk}, tag="potential")
    query.append(
        orm.WorkChainNode, with_incoming="potential", filters={"attributes.process_label": "ValidateWorkChain"}
    )
    parts = query.all(flat=True)[-1].outputs.numbers
    rows = [row for name in PROPERTIES for row in parts[name]["rows"]]
    errors: dict[str, dict[str, float]] = {name: {} for name in PROPERTIES}
    for row in rows:
        if is_principal(row) and has_ratio(row):
            errors[row["property"]][row["quantity"]] = round(row["relative_percent"], 4)
    generations = node.base.links.get_outgoing(link_label_filter="generation_%").all_nodes()
    infos = [info for one in generations if "labelled" in one.outputs for info in one.outputs.labelled.infos]
    learnt = [info.get("property", "dynamics") for info in infos if info.get("explorer")]
    model = AceModel(potential.get_potential())
    residuals = [model.evaluate(atoms).forces - atoms.get_forces() for atoms in node.outputs.test.to_atoms()]
    return {
        "n_labelled": node.outputs.summary["n_training"], "returned": "latest" not in node.outputs,
        "learnt": {kind: learnt.count(kind) for kind in sorted(set(learnt))}, "errors_percent": errors,
        "test_forces_rmse_meV_A": round(1e3 * float(np.sqrt(np.mean(np.square(residuals)))), 3),
        "intervals": intervals_that_hold(rows),
    }  # fmt: skip


def mean_error(result: dict[str, Any], name: str) -> float:
    """Mean of the absolute relative errors of a property, per cent; without the intrinsic fault, which is near zero."""
    errors = result["errors_percent"][name]
    return float(np.mean([abs(value) for key, value in errors.items() if "intrinsic" not in key]))


def figure(results: list[dict[str, Any]], path: Path) -> None:
    """Errors both ways: properties, and forces on the test set; dots are seeds, bars their means."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.6), width_ratios=[3, 1])
    for axes, part in ((left, PROPERTIES), (right, ("forces",))):
        for shift, arm, colour, text in _ARMS:
            own = [one for one in results if one["with_properties"] is arm]
            for k, name in enumerate(part):
                values = [mean_error(r, name) if name != "forces" else r["test_forces_rmse_meV_A"] for r in own]
                axes.plot([k + shift] * len(values), values, "o", color=colour, alpha=0.5, ms=4)
                bar = [k + shift - 0.1, k + shift + 0.1]
                axes.plot(bar, [np.mean(values)] * 2, color=colour, lw=2.5, label=None if k else text)
        axes.set_xticks(range(len(part)), part)
        axes.set_xlim(-0.5, len(part) - 0.5)
    left.set_yscale("log")
    left.set_ylabel("mean relative error, %")
    right.set_ylabel("RMSE on heated dynamics, meV/Å")
    right.set_ylim(bottom=0)
    left.legend(frameon=False, fontsize=8)
    fig.tight_layout()
    fig.savefig(path, dpi=110)


def main() -> None:
    """Run, draw, and print means over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("property_candidates"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--figure", type=Path, help="Draw the figure from the numbers of this folder; run nothing.")
    given = parser.parse_args()
    folder = given.figure or given.output
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "numbers.json"
    if given.figure is None:
        results = json.loads(path.read_text()) if path.is_file() else []
        results = [one for one in results if one["seed"] not in given.seeds]
        for seed in given.seeds:
            for arm in (False, True):
                results.append(study(seed, arm, folder))
                print(json.dumps(results[-1]), flush=True)
                path.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(path.read_text())
    figure(results, folder / "property_candidates.png")
    for name in (*PROPERTIES, "forces"):
        for _, arm, _, text in _ARMS:
            own = [one for one in results if one["with_properties"] is arm]
            values = [one["test_forces_rmse_meV_A"] if name == "forces" else mean_error(one, name) for one in own]
            print(f"{name:10s} {text:30s} {np.mean(values):8.3f}  ({np.min(values):.3f} to {np.max(values):.3f})")
    for _, arm, _, text in _ARMS:
        own = [one["intervals"] for one in results if one["with_properties"] is arm]
        print(f"intervals  {text:30s} {sum(k['inside'] for k in own)} of {sum(k['numbers'] for k in own)} hold")


if __name__ == "__main__":
    main()
