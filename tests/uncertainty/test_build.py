"""Active sets of configurations: in memory, streamed, updated; ranks, kinds, outliers."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.ace import AceModel
from aiida_aceal.common.errors import AceError
from aiida_aceal.uncertainty import ActiveSet, build_active_set, update_active_set
from aiida_aceal.uncertainty.sources import Rows


def shaken(atoms, amplitude, seed):
    rng = np.random.default_rng(seed)
    new = atoms.copy()
    new.positions += rng.normal(0.0, amplitude, new.positions.shape)
    return new


def warm_copper(count, seed=0, amplitude=0.12):
    cell = bulk("Cu", "fcc", 3.61, cubic=True).repeat(2)
    return [shaken(cell, amplitude, 1000 * seed + i) for i in range(count)]


def grades(model, active_set, structures):
    parts = model.projections(structures, kind=active_set.kind)
    return {el: active_set.grade(el, p.rows) for el, p in parts.items() if len(p.rows)}


def test_all_in_memory(copper):
    structures = warm_copper(40)
    active_set = build_active_set(copper, structures)
    k = copper.n_functions["Cu"]
    rows = copper.projections(structures)["Cu"]
    gamma = active_set.grade("Cu", rows.rows)
    assert gamma.max() <= 1.001
    assert gamma.max() == pytest.approx(active_set.tolerance_reached, rel=1e-9)
    assert active_set.rank["Cu"] == k
    # the active environments are the ones that are named
    place = {(s, a): i for i, (s, a) in enumerate(zip(rows.structure, rows.atom))}
    active = rows.rows[[place[tuple(e)] for e in active_set.environments["Cu"]]]
    assert np.allclose(active @ active_set.inverses["Cu"], np.eye(k), atol=1e-8)
    facts = active_set.report()["elements"]["Cu"]
    assert facts["environments"] == 40 * 32
    assert sum(facts["structures"].values()) == k


def test_unfitted_potential_grades(copper):
    assert not copper.potential.is_fitted
    active_set = build_active_set(copper, warm_copper(20))
    copper.active_set = active_set
    hot = shaken(bulk("Cu", "fcc", 3.61, cubic=True).repeat(2), 0.5, 5)
    assert copper.evaluate(hot, gamma=True).gamma.max() > 5
    copper.active_set = None


def test_streamed_is_as_good(copper):
    """A budget that holds a tenth of the rows: several passes, tolerance kept, volume within 1 %."""
    structures = warm_copper(700)
    whole = build_active_set(copper, structures)
    budget = 0.5 * 700 * 32 * copper.n_functions["Cu"] * 8
    lines = []
    streamed = build_active_set(copper, structures, memory=budget, progress=lines.append)
    assert streamed.extra["streamed"]
    assert streamed.extra["passes"] >= 2
    assert not whole.extra["streamed"]
    assert any("stream" in line for line in lines)
    assert grades(copper, streamed, structures)["Cu"].max() <= 1.001
    assert streamed.tolerance_reached <= 1.001
    assert streamed.log_volume["Cu"] == pytest.approx(whole.log_volume["Cu"], abs=0.01 * abs(whole.log_volume["Cu"]))


def test_too_few_passes_say_how_far_it_got(copper):
    structures = warm_copper(300, amplitude=0.05) + warm_copper(300, seed=1, amplitude=0.3)
    budget = 0.2 * 600 * 32 * copper.n_functions["Cu"] * 8
    short = build_active_set(copper, structures, memory=max(budget, 2**20), max_passes=2)
    measured = grades(copper, short, structures)["Cu"].max()
    assert short.tolerance_reached == pytest.approx(measured, rel=1e-9)
    assert short.converged == (measured <= 1.001)


def test_generator_is_refused(copper):
    with pytest.raises(AceError, match="only once"):
        build_active_set(copper, iter(warm_copper(2)))
    with pytest.raises(AceError, match="no structures"):
        build_active_set(copper, [])


def test_update_swaps_only_where_needed(copper):
    old_structures = warm_copper(60)
    old = build_active_set(copper, old_structures)
    same = update_active_set(old, copper, old_structures[:5])
    assert np.array_equal(same.environments["Cu"], old.environments["Cu"])
    new_structures = warm_copper(3, seed=9, amplitude=0.3)
    new = update_active_set(old, copper, new_structures)
    assert grades(copper, new, new_structures)["Cu"].max() <= 1.001
    assert new.log_volume["Cu"] > old.log_volume["Cu"]
    kept = {tuple(e) for e in new.environments["Cu"]} & {tuple(e) for e in old.environments["Cu"]}
    changed = new.environments["Cu"][new.environments["Cu"][:, 0] > old.environments["Cu"][:, 0].max()]
    assert len(kept) + len(changed) == copper.n_functions["Cu"]
    assert set(changed[:, 0]) <= {old.environments["Cu"][:, 0].max() + 1 + i for i in range(3)}
    # an ordinary generation: the same as MaxVol over old rows and new ones, up to the local optimum
    again = update_active_set(new, copper, old_structures + new_structures)
    assert grades(copper, again, old_structures + new_structures)["Cu"].max() <= 1.001


def test_update_of_a_file(copper, tmp_path):
    """The old rows come back from their inverse; origins from the file's own comment."""
    old = build_active_set(copper, warm_copper(30))
    old.save(tmp_path / "old.asi")
    loaded = ActiveSet.load(tmp_path / "old.asi", potential=copper.potential)
    new_structures = warm_copper(2, seed=3, amplitude=0.25)
    a, b = (update_active_set(s, copper, new_structures) for s in (old, loaded))
    assert np.array_equal(a.environments["Cu"], b.environments["Cu"])


def test_single_impurity_and_absent_element(alloy):
    """One Ni atom in Al, and no structure of pure Ni: usable, rank reported, new directions large."""
    host = bulk("Al", "fcc", 4.05, cubic=True).repeat(2)
    impurity = host.copy()
    impurity.symbols[0] = "Ni"
    structures = [host, impurity, *(shaken(host, 0.1, i) for i in range(12))]
    active_set = build_active_set(alloy, structures)
    assert active_set.rank["Ni"] == 1
    assert active_set.converged
    assert all(np.isfinite(x).all() for x in active_set.inverses.values())
    alloy.active_set = active_set
    gamma = [alloy.evaluate(a, gamma=True).gamma[0] for a in (impurity, shaken(impurity, 0.05, 99))]
    assert gamma[0] == pytest.approx(1.0, abs=1e-6)
    assert gamma[1] > 20
    assert alloy.evaluate(bulk("Ni", "fcc", 3.52, cubic=True), gamma=True).gamma.min() > 100
    only_al = build_active_set(alloy, structures[:1])
    assert only_al.rank["Ni"] == 0
    alloy.active_set = only_al
    assert alloy.evaluate(impurity, gamma=True).gamma[0] > 100
    alloy.active_set = None


def test_high_symmetry_is_not_noise(copper):
    """One perfect crystal: rank 1, and the same crystal moved and turned is nothing new."""
    crystal = bulk("Cu", "fcc", 3.61, cubic=True)
    active_set = build_active_set(copper, [crystal])
    assert active_set.rank["Cu"] == 1
    other = crystal.repeat(2)
    other.rotate(37.0, (1, 2, 3), rotate_cell=True)
    other.positions += 0.3
    copper.active_set = active_set
    assert copper.evaluate(other, gamma=True).gamma.max() < 1.01
    assert copper.evaluate(shaken(other, 0.05, 1), gamma=True).gamma.max() > 20
    copper.active_set = None


def test_full_grade(alloy):
    structures = [shaken(bulk("Al", "fcc", 4.05, cubic=True).repeat(2), 0.15, i) for i in range(20)]
    rng = np.random.default_rng(0)
    for atoms in structures:
        atoms.symbols = rng.choice(["Al", "Ni"], len(atoms))
    full = build_active_set(alloy, structures, kind="full")
    linear = build_active_set(alloy, structures)
    for el, k in alloy.n_functions.items():
        assert len(full.inverses[el]) == 2 * k
        assert len(linear.inverses[el]) == k
    assert max(g.max() for g in grades(alloy, full, structures).values()) <= 1.001
    # the linear set does not depend on the coefficients, the full one does
    other = AceModel(
        alloy.potential.with_coefficients({el: 2 * alloy.potential.coefficients(el) ** 2 for el in alloy.elements})
    )
    assert np.array_equal(build_active_set(other, structures).inverses["Al"], linear.inverses["Al"])
    assert not np.allclose(build_active_set(other, structures, kind="full").inverses["Al"], full.inverses["Al"])


def test_full_needs_a_fit_and_densities(copper, alloy):
    with pytest.raises(AceError, match="fitted"):
        build_active_set(copper, warm_copper(2), kind="full")
    fitted = AceModel(copper.potential.with_coefficients({"Cu": np.ones((1, copper.n_functions["Cu"]))}))
    with pytest.raises(AceError, match="one density"):
        build_active_set(fitted, warm_copper(2), kind="full")
    with pytest.raises(AceError, match="unknown"):
        build_active_set(alloy, warm_copper(2), kind="quadratic")


def test_outliers_are_left_out(copper):
    """Labels of the model itself, but for two atoms with wrong forces: those two are named and take no part."""
    rng = np.random.default_rng(1)
    model = AceModel(copper.potential.with_coefficients({"Cu": rng.normal(0, 0.1, (1, copper.n_functions["Cu"]))}))
    structures = warm_copper(20)
    for atoms in structures:
        forces = model.evaluate(atoms).forces + rng.normal(0, 0.01, (len(atoms), 3))
        atoms.calc = SinglePointCalculator(atoms, forces=forces)
    structures[3].calc.results["forces"][7] += 5.0
    structures[11].calc.results["forces"][2] -= 4.0
    active_set = build_active_set(model, structures, exclude_outliers=True)
    facts = active_set.report()["excluded"]
    assert {(3, 7), (11, 2)} <= {tuple(e) for e in facts["environments"]}
    assert facts["count"] < 0.05 * 640
    assert not {tuple(e) for e in facts["environments"]} & {tuple(e) for e in active_set.environments["Cu"].tolist()}
    assert active_set.report()["elements"]["Cu"]["environments"] == 640 - facts["count"]


def test_identities_of_structures(copper, tmp_path):
    structures = warm_copper(10)
    for i, atoms in enumerate(structures):
        atoms.info["aceal_hash"] = f"hash{i}"
    active_set = build_active_set(copper, structures)
    names = active_set.sets["Cu"].identifiers
    assert all(name == f"hash{s}" for name, s in zip(names, active_set.environments["Cu"][:, 0]) if s >= 0)
    active_set.save(tmp_path / "x.asi")
    assert ActiveSet.load(tmp_path / "x.asi").report() == active_set.report()


def test_identities_are_not_held_for_all_structures(copper, monkeypatch):
    """Of very many structures only those with kept rows are remembered, and still all that are needed at the end."""
    monkeypatch.setattr("aiida_aceal.uncertainty.sources._IDENTITIES", 20)
    held = []
    forget = Rows.forget_identifiers

    def watch(self, kept_labels):
        forget(self, kept_labels)
        held.append(len(self.identifiers))

    monkeypatch.setattr(Rows, "forget_identifiers", watch)
    # of two kinds, the first of which soon leaves the active set
    structures = warm_copper(500, amplitude=0.05) + warm_copper(200, seed=1, amplitude=0.3)
    for i, atoms in enumerate(structures):
        atoms.info["aceal_hash"] = f"hash{i}"
    budget = 0.3 * 700 * 32 * copper.n_functions["Cu"] * 8
    active_set = build_active_set(copper, structures, memory=budget)
    assert active_set.extra["streamed"]
    assert max(held) < 500
    names, of = active_set.sets["Cu"].identifiers, active_set.environments["Cu"][:, 0]
    assert len(names) == len(of) == copper.n_functions["Cu"]
    assert list(names) == [f"hash{s}" for s in of]


def test_long_comment_is_shortened(copper, tmp_path):
    """What does not fit into the comment of the archive is dropped from it, never the numbers."""
    structures = warm_copper(40)
    for i, atoms in enumerate(structures):
        atoms.info["aceal_hash"] = f"{i:02d}" * 10000
    active_set = build_active_set(copper, structures)
    active_set.save(tmp_path / "x.asi")
    loaded = ActiveSet.load(tmp_path / "x.asi")
    assert np.array_equal(loaded.inverses["Cu"], active_set.inverses["Cu"])
    assert np.array_equal(loaded.environments["Cu"], active_set.environments["Cu"])
    assert loaded.sets["Cu"].identifiers == ()


def test_chunks_cover_everything(copper):
    structures = warm_copper(9)
    source = Rows(copper, structures, "linear", chunk_bytes=1)
    assert source.atoms_per_chunk == 64
    rows = np.concatenate([part["Cu"][0] for part in source])
    assert np.array_equal(rows, copper.projections(structures)["Cu"].rows)
