"""Local environments: the centre is kept exactly, all others become unremarkable."""

import numpy as np
import pytest

from aiida_aceal.common.errors import AceError
from aiida_aceal.exploration.extract import ExtractSettings, extract_environments
from aiida_aceal.exploration.initial import generate
from aiida_aceal.exploration.objective import StructureGrader

CU = {"bulk": "Cu", "crystal": "fcc", "a": 3.61, "cubic": True}


@pytest.fixture(scope="module")
def big():
    """864 warm copper atoms, one of them far out of place."""
    atoms = generate([{"kind": "rattled", "structure": CU, "supercell": 6, "count": 1, "amplitude": 0.13}], 5)[0]
    atoms.positions[400] += [0.6, 0.3, 0.0]
    return atoms


def test_outer_atoms_become_unremarkable_and_the_centre_is_kept(copper, big):
    _, model, aset, _ = copper
    grader = StructureGrader(model, aset)
    gamma = grader.gamma(big)
    centre = int(np.argmax(gamma))
    settings = ExtractSettings(gamma_lo=2.5, max_atoms=110, max_cuts=1)
    found = extract_environments(model, aset, big, settings)
    report, cell = found.reports[0], found.cells[0]
    assert report["status"] == "ok"
    assert report["centre"] == centre
    assert len(cell) <= 110
    assert cell.pbc.all()
    assert report["projection_distance"] < 1e-10
    assert report["gamma_centre"] == pytest.approx(gamma[centre], rel=1e-9)
    assert report["gamma_others_after"] < 2.5
    # what is reported is what the cell has
    fresh = grader.gamma(cell)
    np.testing.assert_allclose(fresh, cell.arrays["gamma"], rtol=1e-7)
    group = np.isin(cell.arrays["origin"], report["group"]) & (cell.arrays["inner"] == 1)
    assert fresh[~group].max() < 2.5
    # inner atoms are where they were, relative to the centre
    inner = np.flatnonzero(cell.arrays["inner"])
    index = cell.info["centre"]
    ours = cell.get_distances(index, inner, mic=True, vector=True)
    theirs = big.get_distances(centre, cell.arrays["origin"][inner], mic=True, vector=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


def test_relaxation_lowers_the_grades_of_a_bad_seam(copper, big):
    """With one size only, the box cannot fit the crystal: relaxation has to repair the seam."""
    _, model, aset, _ = copper
    common = {"gamma_lo": 2.5, "max_atoms": 90, "max_cuts": 1, "sizes": 1, "tries": 1}
    rough = extract_environments(model, aset, big, ExtractSettings(**common, relax=False)).reports[0]
    fine = extract_environments(model, aset, big, ExtractSettings(**common, max_evaluations=150)).reports[0]
    assert rough["gamma_others_after"] == rough["gamma_others_before"] > 2.5
    assert fine["gamma_others_before"] == pytest.approx(rough["gamma_others_before"], rel=1e-9)
    assert fine["gamma_others_after"] < 0.8 * fine["gamma_others_before"]
    assert fine["projection_distance"] < 1e-10


def test_cluster_mode(copper, big):
    _, model, aset, _ = copper
    settings = ExtractSettings(mode="cluster", gamma_lo=2.5, max_cuts=1, relax=False)
    found = extract_environments(model, aset, big, settings)
    cell, report = found.cells[0], found.reports[0]
    assert not cell.pbc.any()
    assert report["projection_distance"] < 1e-10
    assert report["gamma_others_after"] > report["gamma_centre"]  # surface atoms are unknown to bulk data


def test_compound_cells_are_stoichiometric(iodide):
    _, model, sets, _ = iodide
    spec = [{"kind": "rattled", "count": 1, "amplitude": 0.1, "supercell": 4, "structure": {}}]
    spec[0]["structure"] = {"bulk": "CuI", "crystal": "zincblende", "a": 6.05, "cubic": True}
    big = generate(spec, 2)[0]
    settings = ExtractSettings(gamma_lo=1.2, max_cuts=2, max_atoms=90, max_evaluations=40, sizes=6, tries=1)
    found = extract_environments(model, sets["linear"], big, settings)
    assert found.cells
    for cell, report in zip(found.cells, [r for r in found.reports if r["status"] in ("ok", "others_above_gamma_lo")]):
        assert cell.symbols.count("Cu") == cell.symbols.count("I")
        assert report["formula"] == "CuI"
        assert report["projection_distance"] < 1e-10


def test_what_cannot_be_cut_costs_only_itself(copper, big):
    _, model, aset, _ = copper
    found = extract_environments(model, aset, big, ExtractSettings(gamma_lo=2.5, max_atoms=20, max_cuts=1))
    assert not found.cells
    assert found.reports[0]["status"] == "failed"
    assert "max_atoms" in found.reports[0]["reason"]
    assert all(report["status"] == "skipped" for report in found.reports[1:])
    assert extract_environments(model, aset, big, ExtractSettings(gamma_lo=1e6)).reports == []


@pytest.mark.parametrize("wrong", [{"mode": "ball"}, {"max_atoms": 0}, {"gamma_lo": -1}, {"relax_to": 2.0}])
def test_wrong_settings(wrong):
    with pytest.raises(AceError, match=next(iter(wrong))):
        ExtractSettings(**wrong)
