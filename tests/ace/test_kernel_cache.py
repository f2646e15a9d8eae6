"""Compiled kernels are found again, also where the package cannot be written. In processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import aiida_aceal

CODE = """
import json
import aiida_aceal
from aiida_aceal.ace.embedding import embed, embed2
embed(0, 0.5, 0.3)
embed2(0, 0.5, 0.3)
count = [sum(kind.values()) for f in (embed, embed2) for kind in (f.stats.cache_hits, f.stats.cache_misses)]
print(json.dumps([aiida_aceal.__file__, *count]))
"""


@pytest.fixture
def frozen(tmp_path):
    """A copy of the package in whose folders nothing can be cached, whoever runs this."""
    root = tmp_path / "site"
    source = Path(aiida_aceal.__file__).parent
    shutil.copytree(source, root / "aiida_aceal", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [root / "aiida_aceal", *(p for p in (root / "aiida_aceal").rglob("*") if p.is_dir())]:
        (folder / "__pycache__").write_text("not a folder")
    return root


def run(root, home, temporary):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA", "XDG", "PYTHON"))}
    environment.update(HOME=str(home), TMPDIR=str(temporary), PYTHONPATH=str(root))
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, cwd=root)
    assert done.returncode == 0, done.stderr
    path, *counts = json.loads(done.stdout.splitlines()[-1])
    assert path.startswith(str(root))
    return counts


@pytest.mark.parametrize("home", ["home", "/dev/null"])
def test_read_only_installation(frozen, tmp_path, home):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    home = tmp_path / home
    assert run(frozen, home, temporary) == [0, 1, 0, 1]
    assert run(frozen, home, temporary) == [1, 0, 1, 0]
    kept = list(temporary.glob("aceal-kernels-*"))
    assert len(kept) == (home == Path("/dev/null"))
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in kept)


def test_a_folder_that_others_can_write_is_not_used(frozen, tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    foreign = temporary / f"aceal-kernels-{os.getuid()}"
    foreign.mkdir()
    foreign.chmod(0o777)
    assert run(frozen, "/dev/null", temporary) == [0, 1, 0, 1]
    assert not list(foreign.iterdir())


@pytest.mark.parametrize("what", ["nbi", "nbc", "both"])
def test_truncated_cache_files_are_made_anew(tmp_path, what):
    home, cache = tmp_path / "home", tmp_path / "cache"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "NUMBA_CACHE_DIR": str(cache)}

    def counts():
        done = subprocess.run(
            [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)[1:]

    assert counts() == [0, 1, 0, 1]
    assert counts() == [1, 0, 1, 0]
    files = [path for path in cache.rglob("*.nb*") if what in ("both", path.suffix[1:])]
    assert files
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    hits = counts()
    assert hits[1] == hits[3] == 1
    assert counts() == [1, 0, 1, 0]


def test_truncated_cache_of_kernels_compiled_at_import(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    code = """
import numpy as np
from aiida_aceal.uncertainty.kernels import row_maxima
out = np.empty(1)
row_maxima(np.array([[1.0, -3.0]]), out)
print(out[0], sum(row_maxima.stats.cache_hits.values()))
"""

    def run_once():
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert run_once() == ["3.0", "0"]
    for path in tmp_path.rglob("*row_maxima*"):
        path.write_bytes(path.read_bytes()[:20])
    assert run_once() == ["3.0", "0"]
    assert run_once() == ["3.0", "1"]
