"""Findings of the papers this package follows, each a study that one command runs: ``aiida-aceal reproduce``.

A study (`aiida_aceal.reproduce.study.Study`) states what is computed in a short and a full form, which public data it
needs (`aiida_aceal.reproduce.sources`), and how numbers and figures follow. Its jobs are those of the plugin, run and
cached by `aiida_aceal.reproduce.bench`; the studies themselves do not import AiiDA.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import nearest

if TYPE_CHECKING:
    from .study import Study

#: name on the command line -> module of this package that holds the study as ``STUDY``
STUDIES = {
    "al-ni": "al_ni",
    "committee": "committee",
    "ensembles": "ensembles",
    "frenkel": "frenkel",
    "geometries": "geometries",
    "indicators": "indicators",
    "linear-full": "linear_full",
    "pool": "pool",
    "usefulness": "usefulness",
}


def find_study(name: str) -> Study:
    """The study of this name.

    :raises AceError: no such study; the nearest one is named
    """
    if name not in STUDIES:
        raise AceError(f"no study is called {name!r}; {nearest(name, STUDIES)}")
    return import_module(f"{__name__}.{STUDIES[name]}").STUDY
