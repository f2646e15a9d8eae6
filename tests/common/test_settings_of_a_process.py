"""Memory and threads are read in one way everywhere; the room imports nothing of the others."""

import ast
from pathlib import Path

import pytest

import aiida_aceal.common
from aiida_aceal.ace import AceModel, build_potential
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.memory import parse_memory
from aiida_aceal.common.threads import available_cores, thread_count
from aiida_aceal.fitting import FitSettings
from aiida_aceal.jobs.label import share_cores
from aiida_aceal.uncertainty.threads import Team


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2GiB", 2**31), ("2G", 2**31), ("500 MB", 5 * 10**8), ("1.5g", 1.5 * 2**30), (3e6, 3_000_000),
        ("1e9", 10**9), (1e9, 10**9), (2**31, 2**31), ("1.5e3MB", 15 * 10**8), ("1TiB", 2**40), ("2048 kib", 2**21),
    ],
)  # fmt: skip
def test_sizes_of_memory(text, value):
    assert parse_memory(text) == int(value)
    assert FitSettings.read({"memory": text}).memory_bytes == int(value)


@pytest.mark.parametrize(
    "text", ["much", "2 parsecs", "1kB", "-2GiB", "1.2.3GB", "", 0, True, None, "1e999", "nan", float("inf"), "2"]
)
def test_sizes_that_are_none(text):
    with pytest.raises(AceError, match="2GiB"):
        parse_memory(text)


@pytest.mark.parametrize(("text", "count"), [("3", 3), ("2,1", 2), (" 4 , 2,1", 4)])
def test_nested_thread_lists_are_read_alike(monkeypatch, text, count):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    potential = build_potential(
        {
            "deltaSplineBins": 0.001,
            "elements": ["Cu"],
            "embeddings": {"ALL": {"npot": "FinnisSinclairShiftedScaled", "fs_parameters": [1, 1], "ndensity": 1}},
            "bonds": {"ALL": {"radbase": "ChebExpCos", "radparameters": [5.25], "rcut": 5, "dcut": 0.01}},
            "functions": {"ALL": {"nradmax_by_orders": [3], "lmax_by_orders": [0]}},
        }
    )
    assert thread_count() == Team().threads == AceModel(potential).threads == count
    assert share_cores(100, None) == (count, 1)


@pytest.mark.parametrize("text", ["", "0", "-1", "two", ",2"])
def test_thread_lists_without_a_number_do_not_count(monkeypatch, text):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert thread_count() == available_cores()


def test_given_threads_go_first(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert thread_count(2) == 2
    with pytest.raises(AceError, match="at least 1"):
        thread_count(0)


def test_room_imports_no_aiida_and_no_other_room():
    sources = sorted(Path(aiida_aceal.common.__file__).parent.glob("*.py"))
    assert len(sources) > 3
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                assert not isinstance(node, ast.ImportFrom) or node.level == 1, f"{source.name} leaves the room"
            for name in names:
                assert name.split(".")[0] != "aiida", f"{source.name} imports {name}"
                assert not name.startswith("aiida_aceal") or name.startswith("aiida_aceal.common"), source.name


def test_the_exception_is_one_class_under_all_its_names():
    from aiida_aceal import ace
    from aiida_aceal.common import errors

    assert ace.AceError is errors.AceError is AceError
