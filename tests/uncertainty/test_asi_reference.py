"""Grades from the .asi of other engines and from those we write."""

import itertools
import zipfile

import numpy as np
import pytest

from aiida_aceal.common.errors import AceError
from aiida_aceal.uncertainty import ActiveSet, from_rows, maxvol

LINEAR = [
    "cu_lin",
    "cu_fs",
    "cu_zbl",
    "cu_cheblin_nd3",
    "cu_large",
    "alni_lin",
    "alcuni_mixed_ndens",
    "fit_cu_small_fs2",
]


def reference_rows(case):
    """Per element: projections [N, K] and the other engine's gamma [N]."""
    from ase.data import chemical_symbols

    rows, grades = {}, {}
    inverses = np.load(case / "pot.asi")
    with np.load(case / "reference.npz") as data:
        for key in data.files:
            if not key.endswith("/projections") or key.replace("projections", "gamma_lin") not in data:
                continue
            symbols = np.array(chemical_symbols)[data[key.replace("projections", "numbers")]]
            for el in np.unique(symbols):
                k = len(inverses[el])
                rows.setdefault(el, []).append(data[key][symbols == el][:, :k])
                grades.setdefault(el, []).append(data[key.replace("projections", "gamma_lin")][symbols == el])
    return {el: np.concatenate(r) for el, r in rows.items()}, {el: np.concatenate(g) for el, g in grades.items()}


@pytest.mark.parametrize("name", LINEAR)
def test_grade_agrees_with_reference(reference_case, name):
    case = reference_case(name, "pot.asi")
    active_set = ActiveSet.load(case / "pot.asi")
    rows, grades = reference_rows(case)
    assert set(rows) == set(active_set.elements)
    for el, r in rows.items():
        assert np.allclose(active_set.grade(el, r), grades[el], rtol=2e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["cu_lin", "cu_cheblin_nd3", "cu_large", "alni_lin"])
def test_active_rows_give_reference_volume(reference_case, name):
    """The active rows of the other engine are a dominant set for us as well: nothing to swap, the same inverse."""
    case = reference_case(name, "pot.asi", "active_set.npz")
    with np.load(case / "active_set.npz") as active, np.load(case / "pot.asi") as inverses:
        for el in active.files:
            result = maxvol(active[el])
            assert result.rank == len(active[el])
            assert sorted(result.indices) == list(range(len(active[el])))
            assert result.log_volume == pytest.approx(np.linalg.slogdet(active[el])[1], abs=1e-6)
            order = np.argsort(result.indices)
            assert np.allclose(
                result.inverse[:, order], inverses[el], rtol=1e-4, atol=1e-6 * np.abs(inverses[el]).max()
            )


def test_file_is_what_ml_pace_reads(tmp_path):
    rng = np.random.default_rng(3)
    built = from_rows({"Cu": rng.normal(size=(50, 7)), "Al": rng.normal(size=(40, 5))})
    path = tmp_path / "x.asi"
    built.save(path)
    with zipfile.ZipFile(path) as archive:
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        assert [info.filename for info in archive.infolist()] == ["Cu.npy", "Al.npy"]
        for info in archive.infolist():
            with archive.open(info) as handle:
                assert np.lib.format.read_magic(handle) == (1, 0)
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(handle)
            assert not fortran
            assert dtype == np.dtype("<f8")
            assert shape[0] == shape[1]
    again = ActiveSet.load(path)
    for el in ("Cu", "Al"):
        assert np.array_equal(again.inverses[el], built.inverses[el])
        assert np.array_equal(again.environments[el], built.environments[el])
        assert again.rank[el] == built.rank[el]
    assert again.tolerance_reached == built.tolerance_reached


class Potential:
    elements = ("Al", "Cu")
    n_functions = {"Al": 5, "Cu": 7}  # noqa: RUF012
    n_densities = {"Al": 2, "Cu": 1}  # noqa: RUF012


def save(path, **sizes):
    np.savez(path.open("wb"), **{el: np.eye(n) for el, n in sizes.items()})
    return path


def test_kind_is_checked_against_the_potential(tmp_path):
    assert ActiveSet.load(save(tmp_path / "a.asi", Al=5, Cu=7), Potential).kind == "linear"
    assert ActiveSet.load(save(tmp_path / "b.asi", Al=10, Cu=7), Potential).kind == "full"
    with pytest.raises(AceError, match="full"):
        ActiveSet.load(tmp_path / "b.asi", Potential, kind="linear")
    with pytest.raises(AceError, match="Al has 6 rows"):
        ActiveSet.load(save(tmp_path / "c.asi", Al=6, Cu=7), Potential)
    with pytest.raises(AceError, match="Cu"):
        ActiveSet.load(save(tmp_path / "d.asi", Cu=7), Potential)
    with pytest.raises(AceError, match="Ni"):
        ActiveSet.load(save(tmp_path / "e.asi", Al=5, Cu=7, Ni=5), Potential)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(AceError, match="no such"):
        ActiveSet.load(tmp_path / "absent.asi")
    (tmp_path / "text.asi").write_text("hello")
    with pytest.raises(AceError, match=r"text.asi"):
        ActiveSet.load(tmp_path / "text.asi")
    np.savez((tmp_path / "flat.asi").open("wb"), Cu=np.zeros(4))
    with pytest.raises(AceError, match="square"):
        ActiveSet.load(tmp_path / "flat.asi")
    np.savez((tmp_path / "nan.asi").open("wb"), Cu=np.full((2, 2), np.nan))
    with pytest.raises(AceError, match="NaN"):
        ActiveSet.load(tmp_path / "nan.asi")
    data = save(tmp_path / "cut.asi", Cu=30).read_bytes()
    (tmp_path / "cut.asi").write_bytes(data[: len(data) // 2])
    with pytest.raises(AceError, match=r"cut.asi"):
        ActiveSet.load(tmp_path / "cut.asi")


def test_exhaustive_search_is_not_beaten_much():
    """On small matrices the best submatrix is known: a dominant one is within the bound of the theory, mostly equal."""
    rng = np.random.default_rng(11)
    equal = 0
    for _ in range(40):
        rows = rng.normal(size=(9, 3))
        best = max(abs(np.linalg.det(rows[list(s)])) for s in itertools.combinations(range(9), 3))
        result = maxvol(rows, 1.0)
        volume = np.exp(result.log_volume)
        assert volume <= best * (1 + 1e-12)
        assert volume >= best / 3 ** (3 / 2)
        assert result.tolerance_reached <= 1 + 2e-9
        equal += volume > best * (1 - 1e-9)
    assert equal >= 30
