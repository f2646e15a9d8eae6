"""The input file: everything wrong is found before anything is stored, with its place and the nearest known key."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from aiida_aceal.common.errors import AceError
from aiida_aceal.inputs.campaign import make_builder, prepare
from aiida_aceal.inputs.schema import check_campaign, read_campaign
from aiida_aceal.workflows.protocol import merged

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.fixture
def data():
    return {
        "basis": {"cutoff": 4.5, "nradmax_by_orders": [4, 2], "lmax_by_orders": [0, 1]},
        "initial": [{"kind": "rattled", "structure": {"bulk": "Cu", "cubic": True}, "count": 3, "amplitude": 0.1}],
        "validation": [{"kind": "rattled", "structure": {"bulk": "Cu", "cubic": True}, "count": 2, "amplitude": 0.2}],
        "label": {"settings": {"calculator": "emt"}},
    }


def test_a_small_input_is_complete(data):
    prepared = prepare(check_campaign(data))
    assert len(prepared.structures["initial"][2]) == 3
    assert prepared.potential.elements == ("Cu",)
    assert prepared.potential.cutoff == 4.5
    assert prepared.sections["selection"]["strategy"] == "d_optimal"


def test_sizes_of_the_basis_replace_those_of_the_protocol(data):
    own = prepare(check_campaign(data)).potential.n_functions["Cu"]
    del data["basis"]
    assert prepare(check_campaign({**data, "protocol": "fast"})).potential.n_functions["Cu"] == 100
    assert own < 30


def test_same_seed_same_structures(data):
    first, second, other = (prepare(check_campaign({**data, "seed": seed})) for seed in (1, 1, 2))
    positions = [p.structures["initial"][2][0].positions for p in (first, second, other)]
    assert (positions[0] == positions[1]).all()
    assert (positions[0] != positions[2]).any()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid(path):
    campaign, folder = read_campaign(path)
    prepared = prepare(campaign, folder)
    assert all(count > 50 for count in prepared.potential.n_functions.values())


CASES = [
    ({"initail": []}, ["unknown key 'initail'", "did you mean 'initial'"]),
    ({"label": {"entrypoint": "x"}}, ["unknown key 'label.entrypoint'", "did you mean 'entry_point'"]),
    ({"explore": {"md": {"seting": {}}}}, ["explore.md.seting", "did you mean 'settings'"]),
    ({"codes": {"lamps": "x"}}, ["codes.lamps", "did you mean 'lammps'"]),
    ({"validation": {"start": [], "temprature": [1, 2]}}, ["temprature", "did you mean 'temperature'"]),
    ({"validation": {"start": []}}, ["validation.temperature' is missing"]),
    ({"test": {"start": []}}, ["test.temperature' is missing"]),
    ({"test": "mine.xyz"}, ["test", "number", "mine.xyz"]),
    ({"validation": 1.0}, ["validation", "a number of at least 0 and below 1"]),
    ({"validation": 0}, ["validation", "0 leaves nothing to decide by"]),
    ({"seed": -1}, ["seed", "-1"]),
    ({"seed": "one"}, ["seed", "integer", "one"]),
    ({"potential": "a.yaml"}, ["potential", "basis", "not both"]),
    ({"initial": []}, ["initial", "dataset"]),
    ({"explore": {}}, ["explore"]),
]


@pytest.mark.parametrize(("change", "words"), CASES, ids=[" ".join(case[1])[:40] for case in CASES])
def test_wrong_keys_and_types(data, change, words):
    with pytest.raises(AceError) as caught:
        check_campaign({**data, **change}, "input.yaml")
    assert str(caught.value).startswith("input.yaml: ")
    for word in words:
        assert word in str(caught.value)


LATER = [
    ({"protocol": "fats"}, ["unknown protocol 'fats'", "did you mean 'fast'"]),
    ({"basis": {"cutof": 5.0}}, ["basis", "cutof", "cutoff"]),
    ({"initial": [{"kind": "ratled"}]}, ["initial", "ratled", "rattled"]),
    ({"initial": [{"kind": "files", "paths": ["none.xyz"]}]}, ["initial", "none.xyz", "no such file"]),
    ({"validation": None}, ["validation", "if there are 50, and there are 0"]),
    ({"validation": 0.5, "test": 0.5}, ["leave nothing for training"]),
    ({"dataset": ["none.xyz"]}, ["dataset", "none.xyz", "no such file"]),
    ({"potential": "none.yaml", "basis": {}}, ["potential", "none.yaml", "no such file"]),
]


@pytest.mark.parametrize(("change", "words"), LATER, ids=[" ".join(case[1])[:40] for case in LATER])
def test_wrong_content(data, change, words, tmp_path):
    with pytest.raises(AceError) as caught:
        prepare(check_campaign({**data, **change}, "input.yaml"), tmp_path)
    for word in words:
        assert word in str(caught.value)


def test_a_fraction_of_the_first_structures(data, codes):
    """The plain arrays that are checked, and the nodes that are stored, are split alike."""
    data["initial"][0]["count"] = 20
    prepared = prepare(check_campaign({**data, "validation": 0.2, "test": 0.1}))
    sizes = {name: len(found) for name, (_, _, found) in prepared.structures.items()}
    assert sizes == {"initial": 14, "validation": 4, "test": 2}
    find = lambda label, default, where: codes[default]  # noqa: E731
    plain, stored = (make_builder(prepared, find, store=store) for store in (False, True))
    for role in sizes:
        assert stored[role].hashes == plain[role].hashes
        assert stored[role].creator.process_label == "split_configurations"
    assert len({digest for role in sizes for digest in stored[role].hashes}) == 20


def test_a_fraction_of_labelled_data(data, tmp_path, cu_atoms):
    """Frames of one run go to one side, and nothing is lost; by default where there are enough of them."""
    from ase.io import write

    for name, seed in (("one", 1), ("two", 2)):
        frames = cu_atoms(40, seed=seed)
        for k, atoms in enumerate(frames):
            atoms.info["origin"] = f"{name} {k // 4}"
        write(tmp_path / f"{name}.extxyz", frames)
    del data["initial"], data["validation"]
    data = {**data, "dataset": ["one.extxyz", "two.extxyz"]}
    prepared = prepare(check_campaign(data), tmp_path)
    assert prepared.fractions == {"validation": 0.1, "test": 0.1}
    parts = {role: prepared.structures[role][2] for role in ("validation", "test")}
    parts["training"] = [atoms for found in prepared.datasets.values() for atoms in found]
    assert {role: len(found) for role, found in parts.items()} == {"validation": 8, "test": 8, "training": 64}
    origins = [{atoms.info["origin"] for atoms in found} for found in parts.values()]
    assert sum(map(len, origins)) == 20
    assert "test" not in prepare(check_campaign({**data, "test": 0}), tmp_path).structures


def test_foreign_names_of_labels_are_taken_and_said(data, tmp_path, cu_atoms):
    from ase.io import write

    frames = cu_atoms(6)
    for atoms in frames:
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["my_forces"] = 2 * atoms.get_forces()
        atoms.calc = None
    write(tmp_path / "mine.extxyz", frames[:4])
    write(tmp_path / "held.extxyz", frames[4:])
    data = {**data, "initial": [], "dataset": ["mine.extxyz"]}
    data |= {"explore": {"md": {"start": data["validation"]}}}
    data |= {"validation": [{"kind": "files", "paths": ["held.extxyz"]}], "test": 0}
    with pytest.raises(AceError, match=r"mine.extxyz, structure 0: lacks energy or forces \(found: .*my_forces"):
        prepare(check_campaign(data), tmp_path)
    prepared = prepare(check_campaign({**data, "forces_key": "my_forces"}), tmp_path)
    for atoms in [*prepared.datasets["file_00"], *prepared.structures["validation"][2]]:
        assert atoms.calc.results["energy"] == atoms.info["REF_energy"]
        assert np.array_equal(atoms.calc.results["forces"], atoms.arrays["my_forces"])
    assert [note.split("/")[-1] for note in prepared.notes] == [
        "held.extxyz: energy from REF_energy", "mine.extxyz: energy from REF_energy",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": {"settings": {"calculator": "emmt"}}}, r"unknown calculator 'emmt': did you mean 'emt'"),
        ({"elements": ["Cu", "Si"]}, r"labeller: calculator 'emt' cannot label Si"),
        ({"explore": {"md": {"settings": {"timestep_ps": 2.0}}}}, r"timestep_ps: must be a number \(ps\) above 0"),
        ({"explore": {"md": {"settings": {"temperature_K": -300.0}}}}, "temperature_K: must be a number"),
        ({"explore": {"md": {"settings": {"ensemble": "npt"}, "start": [{"kind": "dimers", "pairs": ["Cu-Cu"]}]}}},
         r"explorers\.md: configurations, structure 0 \(Cu2\) is not periodic in three directions"),
        ({"explore": {"md": {"start": [{"kind": "dimers", "pairs": ["Cu"], "distance": [0.2, 2], "count": 3}]}}},
         r"explorers\.md: configurations, structure 0 .*: atoms 0 and 1 \(Cu-Cu\) are 0\.2 A apart, on top of each"),
        ({"initial": [{"kind": "dimers", "pairs": ["Cu"], "distance": [0.2, 2], "count": 3}]},
         r"initial, structure 0 .* are 0\.2 A apart"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_known_before_anything_runs(data, aiida_profile, tmp_path, changes, words):
    from aiida_aceal.cli.dry import describe

    settings = {"steps": 100, "temperature_K": 300.0}
    explore = {"md": {"start": data["validation"], "settings": settings}}
    given = merged({**data, "explore": explore}, changes)
    with pytest.raises(AceError, match=words):
        describe(check_campaign(given), tmp_path)


def test_walkers_share_the_cores_and_odd_settings_are_said(data, tmp_path, monkeypatch):
    monkeypatch.setattr("aiida_aceal.inputs.dynamics.available_cores", lambda: 2)
    settings = {"steps": 100, "timestep_ps": 0.01, "walkers": 2}
    given = {**data, "explore": {"md": {"start": data["validation"], "settings": settings}}}
    prepared = prepare(check_campaign(given), tmp_path)
    assert (prepared.shares["md"].walkers, prepared.shares["md"].threads) == (2, 1)
    assert prepared.notes == [
        "explore.md: timestep_ps 0.01 is long for most materials (usual: up to 0.005); runs may explode",
        "explore.md: 2 walkers at a time instead of 4, with 1 core each: this machine has 2",
    ]
    elsewhere = merged(given, {"explore": {"md": {"code": "lmp@cluster"}}})
    assert prepare(check_campaign(elsewhere), tmp_path).shares["md"] is None


def test_an_active_set_goes_with_its_potential(data, tmp_path, cu_atoms, codes):
    from ase.io import write

    from aiida_aceal.ace import AceModel, build_potential
    from aiida_aceal.fitting import fit_linear
    from aiida_aceal.uncertainty import build_active_set

    frames = cu_atoms(12)
    fitted = fit_linear(build_potential({"elements": ["Cu"], **data["basis"]}, seed=0), frames).potential
    fitted.write(tmp_path / "mine.yaml")
    fitted.write(tmp_path / "mine.yace")
    build_active_set(AceModel(fitted), frames).save(tmp_path / "mine.asi")
    write(tmp_path / "mine.extxyz", frames)
    explore = (
        {"md": {**data["explore"]["md"], "start": data["validation"]["start"]}}
        if isinstance(data["validation"], dict)
        else {"md": {"start": data["validation"]}}
    )
    given = {key: value for key, value in data.items() if key not in ("basis", "initial")}
    given |= {"explore": explore, "dataset": ["mine.extxyz"], "potential": "mine.yaml", "active_set": "mine.asi"}
    find = lambda label, default, where: codes[default]  # noqa: E731
    builder = make_builder(prepare(check_campaign(given), tmp_path), find, store=False)
    assert builder.active_set.check_potential(builder.potential) is None
    with pytest.raises(AceError, match=r"active_set: other\.asi: no such file"):
        make_builder(prepare(check_campaign({**given, "active_set": "other.asi"}), tmp_path), find, store=False)
    with pytest.raises(AceError, match="active_set: give the `potential` it belongs to"):
        check_campaign({**given, "potential": None})
    with pytest.raises(AceError, match="active_set: give the labelled structures of `potential` as `dataset`"):
        check_campaign({**given, "initial": data["initial"]})
    with pytest.raises(AceError, match=r"potential: mine\.yace: a \.yace holds what LAMMPS evaluates"):
        prepare(check_campaign({**given, "potential": "mine.yace"}), tmp_path)
    small = build_potential(
        {"elements": ["Cu"], "cutoff": 4.0, "nradmax_by_orders": [3], "lmax_by_orders": [0]}, seed=0
    )
    fit_linear(small, frames).potential.write(tmp_path / "mine.yaml")
    with pytest.raises(AceError, match="active_set: "):
        make_builder(prepare(check_campaign(given), tmp_path), find, store=False)


def test_a_file_in_two_roles_is_refused(data, tmp_path, cu_atoms):
    from ase.io import write

    write(tmp_path / "mine.extxyz", cu_atoms(6))
    write(tmp_path / "copy.extxyz", cu_atoms(6)[2:])
    data = {**data, "initial": [], "dataset": ["mine.extxyz"]}
    data["explore"] = {"md": {"start": data["validation"]}}
    for role in ("validation", "test"):
        copied = {**data, role: [{"kind": "files", "paths": ["copy.extxyz"]}]}
        words = f"{role}: copy.extxyz: all of its 4 structures stand in dataset: mine.extxyz as well"
        with pytest.raises(AceError, match=words):
            prepare(check_campaign(copied), tmp_path)


def test_paths_start_from_the_folder_of_the_input(data, tmp_path, monkeypatch, cu_atoms):
    from ase.io import write

    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "mine.extxyz", cu_atoms(2))
    data["initial"] = [{"kind": "files", "paths": ["mine.extxyz"]}]
    (tmp_path / "sub" / "input.yaml").write_text(yaml.safe_dump(data))
    monkeypatch.chdir(tmp_path)
    prepared = prepare(*read_campaign("sub/input.yaml"))
    assert len(prepared.structures["initial"][2]) == 2


def test_a_data_set_must_have_labels(data, tmp_path, cu_atoms):
    from ase.io import write

    write(tmp_path / "bare.extxyz", cu_atoms(2, labelled=False))
    with pytest.raises(AceError, match=r"bare\.extxyz, structure 0.*initial"):
        prepare(check_campaign({**data, "dataset": ["bare.extxyz"]}), tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [", "is not valid YAML"), ("- 1", "a mapping is expected"), ("", "a mapping is expected")],
)
def test_files_that_are_no_input(text, words, tmp_path):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(AceError, match=words) as caught:
        read_campaign(tmp_path / "bad.yaml")
    assert "bad.yaml" in str(caught.value)
    with pytest.raises(AceError, match=r"none\.yaml: cannot be read"):
        read_campaign(tmp_path / "none.yaml")


def test_yaml_cannot_run_code(tmp_path):
    (tmp_path / "evil.yaml").write_text("title: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(AceError, match="is refused: only plain data"):
        read_campaign(tmp_path / "evil.yaml")


def test_the_name_of_an_explorer_may_say_its_kind(data):
    data["explore"] = {"active": {}, "pool": {}, "md": {}, "hot": {}, "other": {"entry_point": "aceal.explore.active"}}
    found = {name: one.entry_point.rpartition(".")[2] for name, one in check_campaign(data).explore.items()}
    assert found == {"active": "active", "pool": "pool", "md": "md", "hot": "md", "other": "active"}
    data["explore"] = {"active": {"entry_point": "aceal.explore.md"}}
    assert check_campaign(data).explore["active"].entry_point == "aceal.explore.md"


def test_options_of_the_input_win_over_the_default_resources(data):
    data |= {"threads": 3, "options": {"max_wallclock_seconds": 60, "queue_name": "short"}}
    options = check_campaign(data).job_options()
    assert options["resources"]["num_cores_per_mpiproc"] == 3
    assert options["queue_name"] == "short"


def test_element_without_functions(data):
    del data["basis"]["nradmax_by_orders"], data["basis"]["lmax_by_orders"]
    data["basis"]["functions"] = {"Cu": {"nradmax_by_orders": [4], "lmax_by_orders": [0]}}
    with pytest.raises(AceError, match="basis: the basis has no function with Ni as central atom"):
        prepare(check_campaign({**data, "elements": ["Cu", "Ni"]}))
