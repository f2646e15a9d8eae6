"""aceal-worker properties: files, options, comparison, the seam between structures and numbers."""

import json

import pytest
from ase.calculators.emt import EMT
from click.testing import CliRunner

from aiida_aceal.common.configurations import read_configurations, write_configurations
from aiida_aceal.properties import Engine, compare_properties
from aiida_aceal.worker.main import main


def run(folder, *words, code=0):
    words = ["properties", folder / "pot.yaml", folder / "cu.extxyz", *words]
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result.output


def test_potential_against_its_reference(copper_files, tmp_path):
    reference, ours, report = tmp_path / "ref.json", tmp_path / "pot.json", tmp_path / "report.json"
    names = ["--properties", "eos,elastic"]
    run(copper_files, *names, "--calculator", "emt", "-o", reference)
    asi = ["--asi", copper_files / "set.asi"]
    table = run(copper_files, *names, *asi, "-o", ours, "--reference", reference, "--report", report)
    assert "eos.fcc.bulk_modulus_GPa" in table
    found, wanted = json.loads(ours.read_text()), json.loads(reference.read_text())
    a, b = found["eos"]["fcc"], wanted["eos"]["fcc"]
    assert a["volume_A3_per_atom"] == pytest.approx(b["volume_A3_per_atom"], rel=0.01)
    assert a["bulk_modulus_GPa"] == pytest.approx(b["bulk_modulus_GPa"], rel=0.1)
    assert b["gamma_max"] is None
    assert 0 < a["gamma_max"] < 3
    rows = json.loads(report.read_text())["comparison"]
    row = next(r for r in rows if r["quantity"] == "independent_GPa.C44")
    c44 = [n["elastic"]["independent_GPa"]["C44"] for n in (found, wanted)]
    assert row["difference"] == pytest.approx(c44[0] - c44[1])
    assert row["relative_percent"] == pytest.approx(100 * (c44[0] / c44[1] - 1))
    assert row["gamma_max"] == found["elastic"]["gamma_max"]


def test_labels_may_come_from_elsewhere(copper_files, tmp_path):
    """Structures of the potential, labelled by another program and analysed: as single points in one go."""
    names = ["--properties", "eos,elastic"]
    run(copper_files, *names, "--structures-only", "--structures", tmp_path / "todo.extxyz")
    write_configurations(tmp_path / "done.extxyz", Engine(EMT).label(read_configurations(tmp_path / "todo.extxyz")))
    run(copper_files, *names, "--labelled", tmp_path / "done.extxyz", "-o", tmp_path / "two.json")
    run(copper_files, *names, "--calculator", "emt", "--relax-with", "potential", "--asi", copper_files / "set.asi",
        "-o", tmp_path / "one.json")  # fmt: skip
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert two["elastic"]["C_GPa"] == one["elastic"]["C_GPa"]
    assert two["eos"]["fcc"]["bulk_modulus_GPa"] == one["eos"]["fcc"]["bulk_modulus_GPa"]
    # EMT's lattice is another one than the potential's: that is said
    assert abs(one["elastic"]["residual_pressure_GPa"]) > 1e-3
    assert one["elastic"]["gamma_max"] > 0


def test_messages(copper_files, tmp_path):
    output = run(copper_files, "--properties", "eos,foo", code=2)
    assert "names among eos, elastic" in output
    output = run(copper_files, "--calculator", "emtt", code=2)
    assert "did you mean 'emt'" in output
    (tmp_path / "ref.json").write_text("[1]")
    output = run(copper_files, "--reference", tmp_path / "ref.json", code=2)
    assert "expected the numbers" in output


def test_comparison_names_what_is_missing():
    reference = {"eos": {"fcc": {"a": 2.0, "gamma_max": None}, "bcc": {"a": 1.0}}, "elastic": {"c": 0.0, "ok": True}}
    potential = {"eos": {"fcc": {"a": 1.0, "gamma_max": 1.5}, "bcc": {"error": "gone"}}, "elastic": {"error": "bad"},
                 "phonon": {"error": "why"}}  # fmt: skip
    reference["pairs"], potential["pairs"] = {"Cu-Cu": {"hole_A": None}}, {"Cu-Cu": {"hole_A": 1.5}}
    rows = {(r["property"], r["quantity"]): r for r in compare_properties(reference, potential)}
    assert rows["pairs", "Cu-Cu.hole_A"]["potential"] == 1.5  # the reference says that it has none: no failure
    assert "error" not in rows["pairs", "Cu-Cu.hole_A"]
    assert rows["eos", "fcc.a"]["difference"] == -1.0
    assert rows["eos", "fcc.a"]["relative_percent"] == -50.0
    assert rows["eos", "fcc.a"]["gamma_max"] == 1.5
    assert rows["eos", "bcc.a"]["error"] == "potential: gone"
    assert rows["elastic", "c"]["error"] == "potential: bad"
    assert rows["phonon", ""]["error"] == "why"
