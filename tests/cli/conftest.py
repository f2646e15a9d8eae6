"""The commands in-process, as a user types them, with an AiiDA configuration of their own."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from aiida_aceal.cli.root import main

sys.path.insert(0, str(Path(__file__).parents[1] / "workflows"))


@pytest.fixture
def codes(aceal_worker_code, aceal_lmp_code):
    """Executable -> code."""
    return {"aceal-worker": aceal_worker_code, "aceal-lmp": aceal_lmp_code}


@pytest.fixture
def cli():
    """Run ``aiida-aceal`` with the given words."""

    def run(*words, code=0):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
        return result.output

    return run
