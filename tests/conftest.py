"""Fixtures shared by all rooms: where the reference numbers of other engines and the DFT sets are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"


def _external(variable: str, name: str) -> Path:
    path = Path(os.environ.get(variable, _SHARED / name))
    if not path.is_dir():
        pytest.skip(f"{name} files are not part of the package: set {variable} to their folder")
    return path


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Folder with ``cases/`` and ``md/``: results of python-ace and native LAMMPS on the same input."""
    return _external("ACEAL_REFERENCE", "reference")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with published DFT data sets in extended XYZ."""
    return _external("ACEAL_DATA", "data")
