"""Every key that the input of a campaign takes is refused by the dry run in the words of its declaration."""

from __future__ import annotations

import copy
import dataclasses
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "common"))
from small_campaign import small
from test_every_setting import placed, wrong_value

from aiida_aceal.cli.profile import without_storing
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import check, describe
from aiida_aceal.exploration.initial import generate
from aiida_aceal.inputs.campaign import make_builder, prepare, sections_of
from aiida_aceal.inputs.reference import parts
from aiida_aceal.inputs.schema import check_campaign
from aiida_aceal.workflows.protocol import merged

#: declarations of steps that need another entry point, and what that step is
STEPS = {
    "AseLabelSettings": ("label", {"entry_point": "aceal.label.ase", "settings": {"calculator": "emt"}}),
    "ManualLabelSettings": ("label", {"entry_point": "aceal.label.manual"}),
    "FitJobSettings": ("fit", {}),
    "WalkerSettings": ("explore", {"md": {"entry_point": "aceal.explore.md"}}),
    "ActiveSettings": ("explore", {"active": {"entry_point": "aceal.explore.active"}}),
    "PoolJobSettings": ("explore", {"pool": {"entry_point": "aceal.explore.pool"}}),
    "PropertyPoolSettings": ("explore", {"properties": {"entry_point": "aceal.explore.properties"}}),
}
#: DFT plugins check their settings against families in the profile: tested with the plugins
ELSEWHERE = ("VaspLabelSettings", "QuantumEspressoLabelSettings")

#: what kinds of structures need, if not a structure
NEEDED = {
    "files": {"paths": ["none.xyz"]},
    "substituted": {"structure": {"bulk": "Cu", "cubic": True}, "fractions": {"Cu": 1.0}},
    "dimers": {"pairs": ["Cu-Cu"]},
    "clusters": {"composition": {"Cu": 2}},
    "random_packed": {"composition": {"Cu": 2}},
}

#: what is said of keys that are declared but filled by the program
NOT_HIS = ("leave ", "is set for each walker", "is filled by the CalcJob", "is the number of cores")


@pytest.fixture(scope="module")
def prepared():
    return prepare(check_campaign(small()))


def campaigns():
    """(id, path of the section, model, row, place of the settings)."""
    for place, heading, model in parts():
        if model.__name__ in ELSEWHERE:
            continue
        for row in describe(model):
            if "[]" not in row.key and "<name>" not in row.key:
                name = f"{place or 'top'}-{model.__name__}-{row.key}"
                yield pytest.param(place, heading, model, row, id=name)


def with_value(place, heading, model, key, value):
    """A valid campaign with one key changed."""
    data = copy.deepcopy(small())
    if not place:
        return merged(data, placed(key, value))
    if place.startswith("basis"):
        _, section, _ = [*place.split("."), "", ""][:3]
        data["basis"] = {k: v for k, v in data["basis"].items() if k.replace("-", "_") != key}  # one spelling
        return merged(data, {"basis": {section: {"ALL": placed(key, value)}} if section else placed(key, value)})
    if place.startswith("initial"):
        return {**data, "initial": [entry_with(place, heading, model, placed(key, value))]}
    if model.__name__ in STEPS:
        section, step = STEPS[model.__name__]
        if section == "explore":
            name = next(iter(step))
            start = next(iter(data["explore"].values())).get("start")
            body = {**step[name], "settings": placed(key, value), **({"start": start} if start else {})}
            data["explore"] = {name: body}
            return data
        given = {} if section == "label" else data.get(section, {})  # each labeller has settings of its own
        return {
            **data,
            section: merged(given, {**step, "settings": merged(step.get("settings", {}), placed(key, value))}),
        }
    if place == "window":
        policy = heading.removeprefix("policy: ").split()[0]
        return {**data, "window": {"policy": policy, **placed(key, value)}}
    return {**data, place: placed(key, value)}


def entry_with(place, heading, model, change):
    """A valid entry of a list of structures, changed: itself, or its structure."""
    kind = heading.removeprefix("kind: ") if heading.startswith("kind: ") else "rattled"
    entry = {"kind": kind, **NEEDED.get(kind, {"structure": {"bulk": "Cu", "cubic": True}})}
    if place.endswith(".structure"):
        first = next(iter(model.model_fields))
        return {**entry, "structure": {first: "Cu", **change}}
    return {**entry, **change}


def dry_run(prepared, data) -> str:
    """What the dry run says against an input; structures and basis are those of the valid one."""
    try:
        campaign = check_campaign(data)
        if campaign.initial != prepared.campaign.initial:
            generate(campaign.initial)  # as `prepare` does
        changed = dataclasses.replace(prepared, campaign=campaign, sections=sections_of(campaign))
        with without_storing(None) as find_code:
            make_builder(changed, find_code, store=False)
    except AceError as error:
        return str(error)
    return ""


def test_the_valid_input_passes(prepared, aiida_profile):
    assert dry_run(prepared, small()) == ""


@pytest.mark.parametrize(("place", "heading", "model", "row"), list(campaigns()))
def test_wrong_values_and_misspelt_keys(prepared, aiida_profile, place, heading, model, row):
    value = wrong_value(row)
    said = dry_run(prepared, with_value(place, heading, model, row.key, value)) if value is not None else None
    if said is not None:
        words = [part for part in check(model, placed(row.key, value), "").split("; ") if "must be" in part]
        assert said, f"{row.key}: {value!r} was taken"
        assert any(part.split(": ", 1)[-1] in said for part in words) or any(text in said for text in NOT_HIS)
    *parents, name = row.key.split(".")
    wrong = dry_run(prepared, with_value(place, heading, model, ".".join([*parents, f"{name}x"]), 1))
    assert "unknown key" in wrong
    assert f"{name}x" in wrong
