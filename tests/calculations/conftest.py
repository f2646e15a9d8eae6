"""A potential that has learned something, and its active set."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def fitted(cu_atoms, small_potential):
    """A potential fitted to EMT copper and its active set: (AcePotential, ActiveSet)."""
    from aiida_aceal.ace import AceModel
    from aiida_aceal.fitting import fit_linear
    from aiida_aceal.uncertainty import from_rows

    # compressed cells too, so that atoms that come close are pushed back
    frames = [*cu_atoms(20, seed=5, repeat=(2, 2, 1), rattle=0.25), *cu_atoms(10, seed=6, rattle=0.1)]
    potential = fit_linear(small_potential(scale=0.0), frames).potential
    model = AceModel(potential, threads=1)
    rows = model.projections(frames[20:])
    return potential, from_rows({el: one.rows for el, one in rows.items()})


@pytest.fixture
def learned(aiida_profile, fitted, tmp_path):
    """The same as unstored nodes: (AcePotentialData, ActiveSetData)."""
    from aiida_aceal.data.active_set import ActiveSetData
    from aiida_aceal.data.potential import AcePotentialData

    potential = AcePotentialData(potential=fitted[0])
    return potential, ActiveSetData.from_active_set(fitted[1], potential)
