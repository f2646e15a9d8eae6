"""Local D-optimality: both definitions, the switch rule, files."""

import numpy as np
import pytest
from ase.build import bulk

from aiida_aceal.common.errors import AceError
from aiida_aceal.uncertainty import ActiveSet, build_active_set, build_local_active_set
from aiida_aceal.uncertainty.local import load_with_local, local_file_of


def shaken(atoms, amplitude, seed):
    rng = np.random.default_rng(seed)
    new = atoms.copy()
    new.positions += rng.normal(0.0, amplitude, new.positions.shape)
    return new


@pytest.fixture(scope="module")
def phases():
    """Many fcc, some bcc, few simple cubic: three groups that nobody would mix up."""
    cells = {
        "fcc": (bulk("Cu", "fcc", 3.61, cubic=True).repeat(2), 20),
        "bcc": (bulk("Cu", "bcc", 2.87, cubic=True).repeat(2), 20),
        "sc": (bulk("Cu", "sc", 2.4, cubic=True).repeat(3), 3),
    }
    structures, groups = [], []
    for name, (cell, count) in cells.items():
        structures += [shaken(cell, 0.06, i) for i in range(count)]
        groups += [name] * count
    return structures, groups


def rows_of(model, structures):
    part = model.projections(structures)["Cu"]
    return part.rows, part.structure


def test_clusters_find_the_phases(copper, phases):
    structures, groups = phases
    chosen = [s for s, g in zip(structures, groups) if g != "bcc"]
    local = build_local_active_set(copper, chosen, clusters=2, definition="own")
    rows, structure = rows_of(copper, chosen)
    found = local.classifiers["Cu"](rows)
    fcc = np.array([g == "fcc" for g in groups if g != "bcc"])[structure]
    assert abs(found[fcc].mean() - found[~fcc].mean()) > 0.9


@pytest.mark.parametrize("definition", ["minimum", "own"])
def test_training_is_within_the_tolerance(copper, phases, definition):
    structures, groups = phases
    rows, _ = rows_of(copper, structures)
    for options in ({"clusters": 4}, {"groups": groups}):
        local = build_local_active_set(copper, structures, definition=definition, **options)
        assert local.grade("Cu", rows).max() <= local.tolerance_reached * (1 + 1e-9) <= 1.001 * (1 + 2e-9)
        assert local.tolerance_reached >= max(s.tolerance_reached for s in local.clusters["Cu"])


@pytest.mark.parametrize("switch", [None, 1.1])
def test_groups_that_overlap(copper, switch):
    """Some hot environments look cold: they are graded in the other group's cluster, and within the tolerance there."""
    fcc = bulk("Cu", "fcc", 3.61, cubic=True).repeat(2)
    structures = [shaken(fcc, 0.05, i) for i in range(20)] + [shaken(fcc, 0.15, i) for i in range(20)]
    local = build_local_active_set(
        copper, structures, groups=["cold"] * 20 + ["hot"] * 20, definition="own", switch=switch
    )
    rows, structure = rows_of(copper, structures)
    strays = local.classifiers["Cu"](rows) != structure // 20
    assert 0 < strays.sum() < 0.1 * len(rows), "the test would prove nothing"
    assert local.grade("Cu", rows).max() <= 1.001 * (1 + 1e-9)
    counts = [s.n_environments for s in local.clusters["Cu"]]
    assert sum(counts) == len(rows) + strays.sum()


def test_rare_group_is_not_missed(copper):
    """One atom among thousands, in a sample that holds a part of them: it has its cluster."""
    cell = bulk("Cu", "fcc", 3.61, cubic=True).repeat((5, 5, 5))
    structures = [shaken(cell, 0.05, i) for i in range(10)] + [bulk("Cu", "bcc", 2.87)]
    local = build_local_active_set(copper, structures, groups=["fcc"] * 10 + ["bcc"], memory="1MiB", definition="own")
    assert local.names["Cu"] == ["bcc", "fcc"]
    assert local.clusters["Cu"][0].n_environments == 1
    rows, _ = rows_of(copper, structures[-1:])
    assert local.classifiers["Cu"](rows).tolist() == [0]


def test_definitions_are_what_they_say(copper, phases):
    structures, groups = phases
    local = build_local_active_set(copper, structures, groups=groups)
    assert local.names["Cu"] == ["bcc", "fcc", "sc"]
    probe, _ = rows_of(copper, [shaken(s, 0.15, 7) for s in structures[::5]])
    each = np.array([np.abs(probe @ s.inverse).max(axis=1) for s in local.clusters["Cu"]])
    everywhere = np.abs(probe @ local.sets["Cu"].inverse).max(axis=1)
    cluster = local.classifiers["Cu"](probe)
    own = each[cluster, np.arange(len(probe))]
    assert np.allclose(local.grade("Cu", probe), each.min(axis=0), rtol=1e-12)
    assert np.allclose(local.with_definition("own").grade("Cu", probe), own, rtol=1e-12)
    # sc has 81 of 1041 environments: the only one below half of a third
    switched = local.with_definition("own", switch=0.5)
    assert switched.under_represented("Cu").tolist() == [False, False, True]
    few = switched.under_represented("Cu")[cluster]
    assert 0 < few.sum() < len(few)
    assert np.allclose(switched.grade("Cu", probe), np.where(few, own, everywhere), rtol=1e-12)


def test_one_set_misses_what_local_sets_see(copper, phases):
    """Between the phases all is interpolation for one set; no cluster knows it."""
    structures, groups = phases
    local = build_local_active_set(copper, structures, groups=groups)
    bain = bulk("Cu", "bcc", 2.87, cubic=True).repeat(2)
    bain.set_cell(bain.cell.array @ np.diag([1.0, 1.0, 1.12]), scale_atoms=True)
    rows, _ = rows_of(copper, [shaken(bain, 0.02, 1)])
    assert local.grade("Cu", rows).mean() > 1.5 * local.global_set().grade("Cu", rows).mean()


def test_global_set_is_the_usual_one(copper, phases):
    structures, _ = phases
    local = build_local_active_set(copper, structures, clusters=2)
    plain = build_active_set(copper, structures)
    assert np.array_equal(local.global_set().inverses["Cu"], plain.inverses["Cu"])


def test_file_round_trip(copper, phases, tmp_path):
    structures, groups = phases
    local = build_local_active_set(copper, structures, groups=groups, definition="own", switch=0.7)
    local.save(tmp_path / "local.npz")
    loaded = ActiveSet.load(tmp_path / "local.npz", potential=copper.potential)
    rows, _ = rows_of(copper, [shaken(s, 0.2, 3) for s in structures[::7]])
    assert np.array_equal(loaded.grade("Cu", rows), local.grade("Cu", rows))
    assert loaded.report() == local.report()
    local.global_set().save(tmp_path / "global.asi")
    assert type(ActiveSet.load(tmp_path / "global.asi")) is ActiveSet
    # the engine takes it like any other set
    copper.active_set = loaded
    atoms = shaken(structures[0], 0.2, 5)
    assert np.allclose(copper.evaluate(atoms, gamma=True).gamma, loaded.grade("Cu", rows_of(copper, [atoms])[0]))
    copper.active_set = None
    data = dict(np.load(tmp_path / "local.npz"))
    del data["cluster/Cu/1"]
    np.savez((tmp_path / "broken.npz").open("wb"), **data)
    with pytest.raises(AceError, match=r"broken.npz"):
        ActiveSet.load(tmp_path / "broken.npz")


def test_local_set_beside_the_asi(copper, phases, tmp_path):
    """What aceal-lmp reads: the local set if it lies beside the .asi and belongs to it."""
    structures, groups = phases
    asi = tmp_path / "set.asi"
    local = build_local_active_set(copper, structures, groups=groups)
    local.global_set().save(asi)
    assert type(load_with_local(asi, copper.potential)) is ActiveSet
    local.save(local_file_of(asi))
    found = load_with_local(asi, copper.potential)
    rows, _ = rows_of(copper, [shaken(structures[0], 0.2, 3)])
    assert np.array_equal(found.grade("Cu", rows), local.grade("Cu", rows))
    local.save(tmp_path / "direct.npz")
    assert np.array_equal(load_with_local(tmp_path / "direct.npz").grade("Cu", rows), local.grade("Cu", rows))
    build_active_set(copper, structures[:5]).save(asi)
    with pytest.raises(AceError, match="belongs to another active set"):
        load_with_local(asi, copper.potential)


def test_cluster_smaller_than_the_basis(copper):
    """Fewer environments than functions in a cluster: its rank is reported, nothing is lost."""
    fcc = bulk("Cu", "fcc", 3.61, cubic=True)
    structures = [shaken(fcc.repeat(2), 0.08, i) for i in range(6)] + [bulk("Cu", "bcc", 2.87)]
    local = build_local_active_set(copper, structures, groups=["fcc"] * 6 + ["bcc"])
    ranks = dict(zip(local.names["Cu"], (s.rank for s in local.clusters["Cu"])))
    assert ranks["bcc"] == 1
    rows, _ = rows_of(copper, structures)
    assert np.isfinite(local.grade("Cu", rows)).all()
    facts = local.report()["local"]["clusters"]["Cu"]
    assert [f["rank"] for f in facts] == [1, local.clusters["Cu"][1].rank]


def test_bad_arguments(copper, phases):
    structures, groups = phases
    with pytest.raises(AceError, match="definition"):
        build_local_active_set(copper, structures[:2], clusters=1, definition="mean")
    with pytest.raises(AceError, match="groups were given"):
        build_local_active_set(copper, structures, groups=groups[:-1])
    with pytest.raises(AceError, match="clusters"):
        build_local_active_set(copper, structures, clusters=0)
    with pytest.raises(AceError, match="switch"):
        build_local_active_set(copper, structures[:2], clusters=1, switch=0.0)
