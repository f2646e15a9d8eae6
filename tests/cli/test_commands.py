"""Help, bad input and the small commands. (Whole campaigns: tests/workflows/test_campaign.py.)"""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aiida_aceal.cli import check as check_module
from aiida_aceal.cli.root import COMMANDS

DEMO = Path(check_module.__file__).with_name("demo.yaml")


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_every_command_has_help(cli, name):
    text = cli(*([name] if name else []), "--help")
    assert text.startswith("Usage:")
    assert len(text.splitlines()) > 6


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from aiida_aceal.cli.root import main;"
        "CliRunner().invoke(main, ['--help']);"
        "print([m for m in ('aiida', 'numpy', 'ase', 'numba', 'matplotlib', 'rich') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_unknown_command_names_the_nearest(cli):
    assert "Did you mean 'status'?" in cli("statsu", code=2)


def test_bad_input_is_one_line(cli, tmp_path):
    data = yaml.safe_load(DEMO.read_text())
    data["explorer"] = data.pop("explore")
    (tmp_path / "input.yaml").write_text(yaml.safe_dump(data))
    text = cli("run", tmp_path / "input.yaml", code=2)
    assert "unknown key 'explorer'; did you mean 'explore'?" in text
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("section", "value", "words"),
    [
        ("fit", {"settings": {"regularisation": {}}}, ["fit", "regularisation", "regularization"]),
        ("label", {"settings": {"calculatr": "emt"}}, ["label", "calculatr", "calculator"]),
        ("label", {"entry_point": "aceal.label.asee"}, ["aceal.label.asee", "aceal.label.ase"]),
        ("explore", {"md": {"settings": {"temperature": 300}}}, ["explore.md", "temperature_K"]),
        ("explore", {"md": {"start": [{"kind": "supercells", "structure": {"bulk": "Au"}}]}}, ["Au", "Cu"]),
        ("selection", {"cuont": 3}, ["selection", "cuont", "count"]),
        ("loop", {"max_generation": 3}, ["loop", "max_generations"]),
        ("window", {"gamma_lo": 20.0}, ["window", "gamma_lo", "gamma_hi"]),
        ("codes", {"lammps": "lmp@nowhere"}, ["codes.lammps", "lmp@nowhere", "verdi code create"]),
    ],
)
def test_wrong_settings_are_found_before_anything_is_stored(cli, tmp_path, section, value, words, aiida_profile):
    from aiida.orm import Data, InstalledCode, QueryBuilder

    def stored():
        query = QueryBuilder().append(Data, project="*")
        return {node.uuid for node in query.all(flat=True) if not isinstance(node, InstalledCode)}

    data = yaml.safe_load(DEMO.read_text())
    data["elements"] = ["Cu"]
    data[section] = value
    (tmp_path / "input.yaml").write_text(yaml.safe_dump(data))
    before = stored()
    text = cli("run", tmp_path / "input.yaml", "--profile", aiida_profile.name, code=2)
    for word in words:
        assert word in text
    assert "Error occurred validating port" not in text
    assert stored() == before


def test_dry_run_says_what_would_be_done(cli):
    text = cli("run", DEMO, "--dry-run")
    assert "20 structures of 32 atoms" in text
    assert "1 MD run of 108 atoms with the reference method" in text
    assert "aceal.label.ase emt" in text


def test_a_dry_run_that_fails_leaves_the_loaded_profile(cli, tmp_path, aiida_profile):
    from aiida.manage import get_manager

    (tmp_path / "input.yaml").write_text(DEMO.read_text().replace("max_generations", "max_generation"))
    cli("run", tmp_path / "input.yaml", "--dry-run", code=2)
    assert get_manager().get_profile().name == aiida_profile.name


@pytest.mark.parametrize("name", ["aceal_stranger:Calculator", "aceal_other.inside:Calculator"])
def test_dry_run_runs_no_code_that_the_input_names(cli, tmp_path, monkeypatch, name):
    package = tmp_path / name.split(":")[0].split(".")[0]
    package.mkdir()
    for file in ("__init__.py", "inside.py"):
        (package / file).write_text(f"open({str(tmp_path / 'was_run')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    data = yaml.safe_load(DEMO.read_text())
    data["label"]["settings"]["calculator"] = name
    Path("input.yaml").write_text(yaml.safe_dump(data))
    text = cli("run", "input.yaml", "--dry-run")
    assert f"aceal.label.ase {name}" in text
    assert not Path("was_run").exists()
    __import__(name.split(":")[0])
    assert Path("was_run").exists()


def test_dry_run_in_the_docs_is_that_of_today(cli):
    page = Path(__file__).parents[2] / "docs" / "howto" / "own_system.md"
    if not page.is_file():
        pytest.skip("docs/ is not part of this installation")
    shown = page.read_text(encoding="utf-8").split("```text\n")[1].split("```")[0]
    assert cli("run", DEMO, "--dry-run").strip() == shown.strip()


def test_example_is_the_demo():
    assert (Path(__file__).parents[2] / "examples" / "cu_emt.yaml").read_text() == DEMO.read_text()


def test_unknown_calculator_is_found_at_once(cli):
    text = cli("demo", "--calculator", "emtt", code=2)
    assert "emtt" in text
    assert "'emt'" in text


@pytest.mark.parametrize("command", ["status", "report"])
def test_status_and_report_need_a_campaign(cli, command, aiida_profile):
    from aiida.orm import Int

    assert "no node '999999'" in cli(command, "999999", "--profile", aiida_profile.name, code=1)
    other = Int(1).store()
    assert f"node {other.pk} is of type Int" in cli(command, other.pk, "--profile", aiida_profile.name, code=1)


def test_profile_that_does_not_exist(cli):
    assert "there is no AiiDA profile 'nonesuch'" in cli("status", "1", "--profile", "nonesuch", code=1)


def test_check_runs_the_self_test(cli, aiida_profile):
    text = cli("check", "--profile", aiida_profile.name)
    assert "on training atoms" in text
    assert "All checks passed." in text


def test_check_fails_if_gamma_is_wrong(cli, aiida_profile, monkeypatch):
    def broken():
        raise check_module.Failed("gamma of the training atoms is 3; it must be <= 1")

    monkeypatch.setattr(check_module, "gamma_means_what_it_should", broken)
    text = cli("check", "--profile", aiida_profile.name, code=1)
    assert "gamma of the training atoms is 3" in text
    assert "Some checks failed" in text


def test_check_says_which_package_is_missing(cli, aiida_profile, monkeypatch):
    monkeypatch.setitem(check_module.PACKAGES, "no-such-package", None)
    assert "no-such-package" in cli("check", "--profile", aiida_profile.name, code=1)
