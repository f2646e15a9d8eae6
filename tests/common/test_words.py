"""Words that depend on a number."""

import pytest

from aiida_aceal.common.words import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 structures"), (1, "1 structure"), (2, "2 structures"), (1000, "1000 structures")]
)
def test_one_is_singular(number, text):
    assert counted(number, "structure") == text


def test_irregular_plural():
    assert counted(1, "entry", "entries") == "1 entry"
    assert counted(3, "entry", "entries") == "3 entries"
