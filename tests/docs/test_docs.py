"""The site builds without warnings, names every entry point, has no dead links, and its marked examples run."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
NEEDED = {
    "sphinx": "sphinx",
    "myst_parser": "myst-parser",
    "furo": "furo",
    "latex2mathml": "latex2mathml",
    "sphinx_copybutton": "sphinx-copybutton",
}
#: a marked block: `% run` before Python that is executed, `% output` before what the last one printed
BLOCK = re.compile(r"^% (run|output)\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="docs/ is not part of this installation")


def pages() -> list[Path]:
    """Pages written by hand."""
    return sorted(path for path in DOCS.rglob("*.md") if "generated" not in path.parts and "_build" not in path.parts)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site; a warning is an error. Built from a copy, so that the checkout is not changed."""
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, folder / "docs", ignore=shutil.ignore_patterns("_build", "generated", "__pycache__"))
    shutil.copytree(ROOT / "examples", folder / "examples")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", "html"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "html"


class _Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.anchors.add(found["id"])
        for key in ("href", "src"):
            if found.get(key):
                self.links.append(found[key])


def test_every_entry_point_is_in_the_reference(site):
    html = (site / "reference" / "generated" / "entry_points.html").read_text(encoding="utf-8")
    points = list(metadata.distribution("aiida-aceal").entry_points)
    assert {"aceal.generation", "aceal.lammps", "aceal-worker"} <= {point.name for point in points}
    for point in points:
        assert f">{point.name}<" in html, f"{point.group}: {point.name}"
        assert f">{point.value}<" in html, f"{point.group}: {point.value}"


def test_every_exit_code_is_in_the_reference(site):
    from aiida.plugins import CalculationFactory, WorkflowFactory

    html = (site / "reference" / "generated" / "exit_codes.html").read_text(encoding="utf-8")
    for cls in (CalculationFactory("aceal.lammps"), WorkflowFactory("aceal.active_learning")):
        own = [
            label
            for label in cls.spec().exit_codes
            if label.startswith("ERROR_") and 300 < cls.spec().exit_codes[label].status < 420
        ]
        assert len(own) > 3
        for label in own:
            assert f">{label}<" in html, label


def test_every_key_of_the_input_is_in_the_reference(site):
    from aiida_aceal.common.settings import describe
    from aiida_aceal.inputs.reference import parts

    html = (site / "reference" / "generated" / "input_schema.html").read_text(encoding="utf-8")
    html += (site / "reference" / "generated" / "settings.html").read_text(encoding="utf-8")
    keys = [(place, row.key) for place, _, model in parts() for row in describe(model)]
    assert len(keys) > 250
    for place, key in keys:
        name = key.rpartition(".")[2]
        assert f">{key}<" in html or f">{name}<" in html, f"{place}.{key}"


def test_formulas_need_no_network(site):
    """Formulas are MathML of known commands, and no page loads a script or a style from elsewhere."""
    theory = (site / "topics" / "theory.html").read_text(encoding="utf-8")
    assert theory.count("<math") > 50
    for path in site.rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        assert not re.search(r'<(?:script|link)[^>]*(?:src|href)="https?:', html), path.relative_to(site)
        for formula in re.findall(r"<math.*?</math>", html, re.DOTALL):
            assert "\\" not in formula, f"{path.relative_to(site)}: {formula}"


def test_links_resolve(site):
    parsed = {path: _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert len(parsed) > 20
    checked = 0
    for path, page in parsed.items():
        for link in page.links:
            if re.match(r"[a-z]+:|//", link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / unquote(name.partition("?")[0])).resolve() if name else path
            assert target.exists(), f"{path.relative_to(site)}: {link}"
            if anchor and target.suffix == ".html" and target in parsed:
                assert unquote(anchor) in parsed[target].anchors, f"{path.relative_to(site)}: {link}"
            checked += 1
    assert checked > 100


def test_pages_are_clean():
    """No machine paths in what is written by hand."""
    for path in pages():
        found = re.findall(r"(?<![\w.])/(?:work|root|tmp|home)/\S*", path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(DOCS)}: {found}"


def runnable() -> list[Path]:
    """Pages with marked blocks that need no AiiDA profile."""
    return [path for path in pages() if BLOCK.search(path.read_text(encoding="utf-8"))] if DOCS.is_dir() else []


def test_there_are_examples():
    assert "engine.md" in {path.name for path in runnable()}


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in runnable() if path.stem != "queries"])
def test_examples_run(path, tmp_path, monkeypatch):
    """Blocks of a page run one after the other and print what the page says."""
    monkeypatch.chdir(tmp_path)
    run_blocks(path, {})


def run_blocks(path: Path, namespace: dict) -> int:
    """Run the marked blocks of a page; returns how many there were."""
    printed, count = "", 0
    for kind, text in BLOCK.findall(path.read_text(encoding="utf-8")):
        if kind == "output":
            assert printed.strip() == text.strip(), f"{path.name}: a block printed something else"
            continue
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream):
            exec(compile(text, str(path), "exec"), namespace)
        printed, count = stream.getvalue(), count + 1
    return count
