"""Blocks of README and docs are what a reader can use: YAML passes the checks of `run`, commands have their options."""

from __future__ import annotations

import re
import shlex
from importlib import metadata
from pathlib import Path

import click
import pytest
import yaml
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

from aiida_aceal.common.settings import build
from aiida_aceal.common.yaml import load_yaml
from aiida_aceal.inputs.campaign import make_builder, prepare
from aiida_aceal.inputs.schema import Campaign, check_campaign

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="docs/ is not part of this installation")

BLOCK = re.compile(r"^(?:% (\w+)[^\n]*\n)?^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: entry points of labellers and fitters that need a code on a cluster -> declaration of their settings
FAR = {
    "aceal.label.vasp": "aiida_aceal.workflows.labellers.vasp:VaspLabelSettings",
    "aceal.label.quantumespresso": "aiida_aceal.workflows.labellers.quantumespresso:QuantumEspressoLabelSettings",
    "aceal.fit.pacemaker": "aiida_aceal.fitting.pacemaker:PacemakerSettings",
}
#: blocks that are files of other commands: a key that only they have -> declaration
OTHER = {
    "mode": "aiida_aceal.jobs.explore_files:{}File",
    "data": "aiida_aceal.fitting.settings:FitFile",
    "nonlinear": "aiida_aceal.fitting.settings:FitFile",  # the part of such a file that differs
    "relaxation": "aiida_aceal.properties.settings:ValidateSettings",
}


def pages() -> list[Path]:
    """README and the pages written by hand."""
    found = [path for path in DOCS.rglob("*.md") if "generated" not in path.parts and "_build" not in path.parts]
    return [ROOT / "README.md", *sorted(found)]


def blocks(*languages: str) -> list:
    """(page, text) of all blocks in these languages, those aside that are files of an example package."""
    found = []
    for path in pages() if DOCS.is_dir() else []:
        matches = [m for m in BLOCK.finditer(path.read_text(encoding="utf-8")) if m.group(2) in languages]
        found += [
            pytest.param(m.group(3), id=f"{path.stem}-{number}")
            for number, m in enumerate(matches)
            if m.group(1) is None and path.name != "extend.md"
        ]
    return found


def test_nothing_is_left_out():
    """No block says `[...]` or `(...)`: a reader could not use it."""
    for param in blocks("yaml", "python", "bash", "toml"):
        text = re.sub(r" #.*$", "", param.values[0], flags=re.MULTILINE)
        assert not re.search(r"\[\.\.\.\]|\(\.\.\.\)|(?<![\w.])\.\.\.\s*$", text, re.MULTILINE), param.id


# --- YAML ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory, small_potential):
    """The files that the pages speak of."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "old").mkdir()
    many = ("train", "labelled", "old/training", "mine")
    for number, name in enumerate(
        (*many, "old/validation", "old/test", "test", "pool", "melt", "vacancy", "old_structures")
    ):
        frames = []
        for k in range(60 if name in many else 2):
            atoms = bulk("Cu", cubic=True) * (2, 1, 1)
            atoms.rattle(0.05, seed=100 * number + k)
            atoms.calc = EMT()
            forces = atoms.get_forces()
            if name == "mine":  # labels under names of one's own
                atoms.info["PBE_energy"] = atoms.get_potential_energy()
                atoms.arrays["PBE_forces"], atoms.calc = forces, None
            frames.append(atoms)
        write(folder / f"{name}.extxyz", frames, format="extxyz")
    write(folder / "my_cell.cif", bulk("Cu", cubic=True))
    for name in ("potential", "old/potential"):
        small_potential().write(folder / f"{name}.yaml")
    return folder


def load(where: str):
    import importlib

    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


def check_validation(data, folder, worker):
    """Input of `aiida-aceal validate`: read as the command reads it, with a blank potential for its crystals."""
    from aiida_aceal.ace import build_potential
    from aiida_aceal.data.potential import AcePotentialData
    from aiida_aceal.inputs.validate import Subject, crystals, make_validation_builder, read_validation

    data.pop("active_set", None)  # a file
    path = folder / "validation.yaml"
    path.write_text(yaml.safe_dump(data))
    validation, where = read_validation(path)
    atoms = crystals(validation.validate.structure, ("Cu",), where)
    basis = {"elements": sorted({str(symbol) for one in atoms for symbol in one.symbols}), "cutoff": 5.0}
    build_potential({**basis, "nradmax_by_orders": [4, 2], "lmax_by_orders": [0, 1]}).write(folder / "blank.yaml")
    subject = Subject(AcePotentialData(file=folder / "blank.yaml"))
    make_validation_builder(validation, where, subject, lambda label, default, words: worker, store=False)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml(text, files, aceal_worker_code, aceal_lmp_code):
    data = load_yaml(text, "block")
    other = next((where for key, where in OTHER.items() if key in data and "explore" not in data), None)
    if "preset" in data or {"elements", "cutoff"} <= set(data):
        from aiida_aceal.ace import build_potential

        assert build_potential({"elements": ["Li"], **data}).elements
        return
    if other is not None:
        rest = {"data": ["train.extxyz"], "output": "x.yaml"} if other.endswith("FitFile") else {}
        build(load(other.format(str(data.get("mode")).capitalize())), {**rest, **data}, "block")
        return
    if set(data) <= {"validate", "label", "active_set"} and {"validate", "label"} <= set(data):
        check_validation(data, files, aceal_worker_code)
        return
    assert set(data) <= set(Campaign.model_fields), "neither a campaign nor a file of another command"
    base = {"initial": [{"kind": "rattled", "structure": {"bulk": "Cu", "cubic": True}, "count": 6}],
            "validation": 0.3, "label": {"settings": {"calculator": "emt"}}}  # fmt: skip
    if "dataset" in data and "initial" not in data:
        del base["initial"]
    if isinstance(data.get("dataset"), list) and data.get("validation") is None:
        del base["validation"]
    explore = data.get("explore", {}).values()
    if "initial" not in base and not any("start" in step for step in explore):
        base["explore"] = {"md": {"start": [{"kind": "files", "paths": ["melt.extxyz"]}]}}
    if "properties" in data.get("gate", {}):
        base["validate"] = {"structure": [{"bulk": "Cu", "a": 3.6}], "properties": "elastic,vacancy"}
    data = {**base, **data}
    if "dataset" in data:  # folders of outputs and data frames: tests of the readers
        data["dataset"] = [name for name in data["dataset"] if not name.endswith(("/", ".gzip"))]
        assert data["dataset"]
    for section in ("label", "fit"):
        step = data.get(section)
        if isinstance(step, dict) and step.get("entry_point") in FAR:  # its code and its families are far away
            build(load(FAR[step["entry_point"]]), step["settings"], section)
            assert set(step) <= {"entry_point", "code", "settings", "options"}
            data[section] = base.get(section, {})
    codes = {"aceal-worker": aceal_worker_code, "aceal-lmp": aceal_lmp_code,
             "aceal-worker@cluster": aceal_worker_code, "lmp@cluster": aceal_lmp_code}  # fmt: skip
    prepared = prepare(check_campaign(data), files)
    make_builder(prepared, lambda label, default, where: codes[label or default], store=False)


# --- commands --------------------------------------------------------------------------------------------------------


def command_lines() -> list:
    found = []
    for param in blocks("bash"):
        for number, line in enumerate(param.values[0].replace("\\\n", " ").splitlines()):
            for part in re.split(r"&&|;", line.partition(" #")[0]):
                if part.strip():
                    found.append(
                        pytest.param(part.strip(), id=f"{param.id}-{number}-{part.split()[0].rpartition('/')[2]}")
                    )
    return found


def leaf(group: click.Command, words: list[str]) -> tuple[click.Context, click.Command, list[str]]:
    """The command that the words name, and its arguments."""
    context = click.Context(group, info_name="x")
    while isinstance(group, click.Group):
        rest = group.make_parser(context).parse_args(list(words))[1]
        name, group, words = group.resolve_command(context, rest)
        context = click.Context(group, info_name=name, parent=context)
    return context, group, words


@pytest.mark.parametrize("line", command_lines())
def test_commands(line):
    words = [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=\S+", word)]
    if words[0] == "sudo":
        return
    program, rest = words[0].rpartition("/")[2], words[1:]
    groups = {
        "aiida-aceal": "aiida_aceal.cli.root:main",
        "aceal-worker": "aiida_aceal.worker.main:main",
        "verdi": "aiida.cmdline.commands.cmd_verdi:verdi",
    }
    if program in groups:
        context, command, rest = leaf(load(groups[program]), rest)
        _, left, _ = command.make_parser(context).parse_args(list(rest))  # unknown options and missing values raise
        assert not left or isinstance(command, click.Group), left
    elif program == "pip":
        known = set(metadata.metadata("aiida-aceal").get_all("Provides-Extra"))
        for extras in re.findall(r"\[([\w,]+)\]", line):
            assert set(extras.split(",")) <= known
    elif program in ("python", "python3"):
        assert rest[0] == "-m" or (ROOT / rest[0]).is_file(), rest[0]
    else:
        assert program in KNOWN, f"no rule for {program}"


#: programs of others, or of the system
KNOWN = {"aceal-lmp", "pytest", "aiida-pseudo", "aiida-vasp", "cd", "ssh", "createdb", "psql", "ruff"}


# --- Python ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", blocks("python"))
def test_python_compiles(text):
    """Names that a block takes from aiida_aceal exist. (Run: test_docs, test_recipes, test_from_python.)"""
    compile(text, "block", "exec")
    for line in re.findall(r"^from aiida_aceal\S* import .*$", text, re.MULTILINE):
        exec(line, {})


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_from_python(aiida_profile, tmp_path, monkeypatch, capsys):
    """The block of the page on one's own system, as printed but for the name of the profile, ends well."""
    page = (DOCS / "howto" / "own_system.md").read_text(encoding="utf-8")
    text = next(m.group(3) for m in BLOCK.finditer(page) if m.group(2) == "python")
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    exec(text.replace('"aceal-demo"', repr(aiida_profile.name)), namespace)
    node = namespace["node"]
    assert node.exit_status == 0, node.exit_message
    assert (tmp_path / "cu.yaml").is_file()
    assert yaml.safe_load((tmp_path / "cu.yaml").read_text())["species"]
