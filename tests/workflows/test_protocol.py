"""Protocols: complete, overridable, and a builder that the ports accept."""

import pytest

from aiida_aceal.ace import build_potential
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.active_learning import ActiveLearningWorkChain
from aiida_aceal.workflows.protocol import default_protocol, protocol_inputs, protocol_names


@pytest.mark.parametrize("name", protocol_names())
@pytest.mark.parametrize("elements", [["Cu"], ["Cu", "I"]])
def test_every_protocol_gives_a_basis_of_the_stated_size(name, elements):
    inputs = protocol_inputs(name)
    wanted = inputs["basis"]["number_of_functions_per_element"]
    potential = build_potential({"elements": elements, **inputs["basis"]})
    assert all(0.7 * wanted <= count <= wanted for count in potential.n_functions.values())


@pytest.mark.parametrize("name", protocol_names())
def test_a_preset_is_taken_whole(name):
    basis = protocol_inputs(name, {"basis": {"preset": "Li", "cutoff": 6.5}})["basis"]
    assert basis == {"preset": "Li", "cutoff": 6.5}
    assert build_potential({"elements": ["Li"], **basis}).n_functions == {"Li": 308}
    assert "number_of_functions_per_element" in protocol_inputs(name)["basis"]


def test_protocols_grow_in_cost():
    sizes = [
        protocol_inputs(name)["basis"]["number_of_functions_per_element"] for name in ("fast", "balanced", "precise")
    ]
    assert sizes == sorted(sizes)
    assert default_protocol() == "balanced"


def test_overrides_win_key_by_key():
    inputs = protocol_inputs("fast", {"selection": {"count": 3}, "explore": {"temperature_K": 900.0}})
    assert inputs["selection"] == {"strategy": "d_optimal", "count": 3}
    assert inputs["explore"]["temperature_K"] == 900.0
    assert inputs["explore"]["steps"] == protocol_inputs("fast")["explore"]["steps"]


@pytest.mark.parametrize(("arguments", "word"), [(("fats",), "'fast'"), (("fast", {"selektion": {}}), "'selection'")])
def test_unknown_names_are_refused(arguments, word):
    with pytest.raises(ValueError, match=f"did you mean {word}"):
        protocol_inputs(*arguments)


@pytest.fixture
def arguments(aceal_worker_code, aceal_lmp_code, cu_atoms):
    return {
        "worker_code": aceal_worker_code,
        "lammps_code": aceal_lmp_code.full_label,
        "initial": cu_atoms(3, labelled=False),
        "validation": cu_atoms(2, seed=1),
        "start": cu_atoms(1, seed=2, labelled=False),
        "protocol": "fast",
    }


def test_builder_passes_the_checks_of_the_campaign(arguments):
    builder = ActiveLearningWorkChain.get_builder_from_protocol(
        **arguments,
        calculator="emt",
        overrides={"loop": {"max_generations": 2}},
        options={"queue_name": "short"},
        seed=5,
    )
    assert ActiveLearningWorkChain.spec().inputs.validate(dict(builder._inputs(prune=True))) is None
    assert builder.potential.elements == ["Cu"]
    assert not builder.potential.is_fitted
    assert builder.loop["max_generations"] == 2
    assert builder.seed.value == 5
    assert builder.labeller["settings"]["calculator"] == "emt"
    for step in (builder.worker, builder.fitter, builder.explorers["md"]):
        assert step["options"]["queue_name"] == "short"


def test_builder_takes_the_sets_from_labelled_structures(arguments, cu_atoms):
    del arguments["validation"]
    make = lambda **changes: ActiveLearningWorkChain.get_builder_from_protocol(  # noqa: E731
        **{**arguments, **changes}, calculator="emt"
    )
    with pytest.raises(ValueError, match="validation: give structures"):
        make()
    builder = make(initial=cu_atoms(60))
    assert [len(builder[name]) for name in ("initial", "validation", "test")] == [48, 6, 6]
    assert ActiveLearningWorkChain.spec().inputs.validate(dict(builder._inputs(prune=True))) is None
    stored = ConfigurationsData.from_atoms(cu_atoms(60), source="initial").store()
    again = make(initial=stored, validation=0.2, test=0)
    assert [len(again[name]) for name in ("initial", "validation")] == [48, 12]
    assert "test" not in again._inputs(prune=True)
    assert again.validation.creator.inputs.configurations.uuid == stored.uuid


def test_builder_with_a_labeller_and_a_potential_of_the_user(arguments, cu_potential, aceal_worker_code):
    from aiida import orm

    labeller = {
        "entry_point": orm.Str("aceal.label.ase"),
        "code": aceal_worker_code,
        "settings": orm.Dict({"calculator": "emt"}),
    }
    potential = cu_potential()
    builder = ActiveLearningWorkChain.get_builder_from_protocol(**arguments, labeller=labeller, potential=potential)
    assert builder.potential is potential
    with pytest.raises(ValueError, match="either `calculator`"):
        ActiveLearningWorkChain.get_builder_from_protocol(**arguments)


def test_a_number_of_functions_alone_keeps_the_rest_of_the_basis():
    plain = protocol_inputs("balanced")["basis"]
    other = protocol_inputs("balanced", {"basis": {"number_of_functions_per_element": 30}})["basis"]
    assert other == {**plain, "number_of_functions_per_element": 30}
    own = protocol_inputs("balanced", {"basis": {"nradmax_by_orders": [4], "lmax_by_orders": [0]}})["basis"]
    assert "number_of_functions_per_element" not in own
    assert "functions" not in own


@pytest.mark.parametrize(
    "given",
    [
        {
            "embeddings": {
                "ALL": {"npot": "FinnisSinclairShiftedScaled", "fs_parameters": [1, 1, 1, 0.5], "ndensity": 2}
            }
        },
        {"embeddings": {"Cu": {"fs_parameters": [1, 1, 1, 0.5]}}},
        {"ndensity": 2},
        {"fs_parameters": [1, 1, 1, 0.5]},
        {"embedding": "sqrt"},
    ],
)
def test_embedding_in_any_form_wins_over_the_default(given):
    basis = protocol_inputs("fast", {"basis": given})["basis"]
    species = build_potential({"elements": ["Cu"], **basis}).species["Cu"]
    assert species.parameters == (1, 1, 1, 0.5)
