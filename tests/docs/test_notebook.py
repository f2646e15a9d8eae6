"""The notebook of the demo runs."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "demo.ipynb"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not NOTEBOOK.is_file(), reason="docs/ is not part of this installation"),
]


@pytest.mark.timeout(900)
def test_the_notebook_runs(aiida_profile, tmp_path, monkeypatch, capsys):
    """All cells in their order, in the profile of the tests, with one generation."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell.get("outputs") for cell in cells), "outputs are not kept in the repository"
    code[0] = re.sub(r'"aceal-demo"', repr(aiida_profile.name), code[0]).replace("GENERATIONS = 15", "GENERATIONS = 1")
    namespace: dict = {}
    for text in code:
        exec(compile(text, "demo.ipynb", "exec"), namespace)
    printed = capsys.readouterr().out
    assert namespace["node"].exit_status in (0, 410)
    assert "Not converged after 1 generations" in printed or "converged" in printed
    assert len(namespace["rows"]) == 2
    assert len(re.findall(r"a = \d\.\d A: -?\d+\.\d+ eV/atom, gamma \d", printed)) == 4
