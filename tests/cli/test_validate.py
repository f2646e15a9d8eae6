"""``aiida-aceal validate``: from a file and from a campaign, table, report, bad input, reuse of labels."""

import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.calculators.emt import EMT

pytestmark = pytest.mark.long

VALIDATE = {"properties": "eos,elastic", "structure": [{"bulk": "Cu", "a": 3.59}], "eos": {"points": 5}}


@pytest.fixture(scope="module")
def potential_file(tmp_path_factory):
    from aiida_aceal.ace import build_potential
    from aiida_aceal.fitting import fit_linear
    from aiida_aceal.properties import Engine

    rng = np.random.default_rng(0)
    frames = []
    for _ in range(12):
        atoms = bulk("Cu", cubic=True, a=3.6)
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
        frames.append(atoms)
    description = {"elements": ["Cu"], "cutoff": 5.0, "nradmax_by_orders": [6, 2], "lmax_by_orders": [0, 2]}
    path = tmp_path_factory.mktemp("potential") / "pot.yaml"
    fit_linear(build_potential(description), Engine(EMT).label(frames)).potential.write(path)
    return path


@pytest.fixture
def input_file(tmp_path):
    def write(**changes):
        path = tmp_path / "input.yaml"
        data = {"validate": VALIDATE, "label": {"settings": {"calculator": "emt"}}, "threads": 1, **changes}
        path.write_text(yaml.safe_dump(data))
        return path

    return write


def test_table_report_and_reuse(cli, potential_file, input_file, tmp_path, aiida_profile):
    profile = ["--profile", aiida_profile.name]
    text = cli("validate", potential_file, input_file(), "-o", tmp_path / "first.html", *profile)
    assert "independent_GPa.C44" in text
    assert "fcc.bulk_modulus_GPa" in text
    assert "Worst: " in text
    assert "labelling 5 structures: equations of state" in text
    page = (tmp_path / "first.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<img") == 1
    assert 'class="good"' in page
    # a second time with other properties: what is known is not labelled again
    again = cli("validate", potential_file, input_file(validate={**VALIDATE, "properties": "elastic"}), *profile, "-o",
                tmp_path / "out")  # fmt: skip
    assert "labelling" not in again
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"validate": {"propertis": "eos"}}, ["validate.propertis", "did you mean 'properties'"]),
        ({"validate": {"structure": [{"bulk": "Au"}]}}, ["Au"]),
        ({"validate": {"structure": [{"bulkk": "Cu"}]}}, ["validate.structure, entry 0", "bulk"]),
        ({"label": None}, ["label: say who labels"]),
        ({"label": {"settings": {"calculatr": "emt"}}}, ["calculatr", "calculator"]),
        ({"active_set": "no.asi"}, ["no.asi"]),
    ],
)
def test_bad_input_is_one_line(cli, potential_file, input_file, changes, words, aiida_profile):
    text = cli("validate", potential_file, input_file(**changes), "--profile", aiida_profile.name, code=2)
    assert len(text.strip().splitlines()) == 1
    assert all(word in text for word in words), text


def test_dry_run_and_nodes_that_are_no_potentials(cli, potential_file, input_file, aiida_profile):
    from aiida import orm

    profile = ["--profile", aiida_profile.name]
    before = orm.QueryBuilder().append(orm.Node).count()
    text = cli("validate", potential_file, input_file(), "--dry-run", *profile)
    assert "aceal.label.ase" in text
    assert orm.QueryBuilder().append(orm.Node).count() == before
    node = orm.Int(3).store()
    assert "name a potential or a campaign" in cli("validate", node.pk, input_file(), *profile, code=1)
    assert "neither a file" in cli("validate", 987654, input_file(), *profile, code=1)


def test_a_campaign_or_its_potential_by_number(cli, codes, tmp_path, aiida_profile):
    """Labeller and active set are the campaign's; what the campaign labelled for its own validation is reused."""
    from aiida.engine import run_get_node
    from small_campaign import builder_for, small

    wanted = {"properties": "elastic", "lattice": "given", "structure": [{"bulk": "Cu", "a": 3.6}]}
    data = small(validate=wanted, loop={"max_generations": 0}, validation={"steps": 50})
    del data["test"]
    _, node = run_get_node(builder_for(data, codes))
    path = tmp_path / "input.yaml"
    path.write_text(yaml.safe_dump({"validate": wanted, "threads": 1}))
    profile = ["--profile", aiida_profile.name]
    text = cli("validate", node.pk, path, "--dry-run", *profile)
    assert f"small <{node.pk}>" in text
    assert "active_set  given" in text
    assert "label       aceal.label.ase" in text
    text = cli("validate", node.pk, path, "-o", tmp_path / "one.html", *profile)
    assert "independent_GPa.C44" in text
    assert "labelling" not in text
    assert f"Properties of small &lt;{node.pk}&gt;" in (tmp_path / "one.html").read_text()
    # the same by the potential, and another property: the campaign's labeller is asked
    path.write_text(yaml.safe_dump({"validate": {**wanted, "properties": "vacancy", "defects": {"cell_length": 7.0}}}))
    text = cli("validate", node.outputs.potential.pk, path, "-o", tmp_path / "two.html", *profile)
    assert "labelling 1 structure: the same for every potential" in text
    assert "formation_energy_eV" in text
    assert f"Properties of small &lt;{node.pk}&gt;" in (tmp_path / "two.html").read_text()


def test_what_belongs_to_which_potential_of_a_campaign(aiida_profile, potential_file):
    """Of a campaign the best; by number that very potential, with its own active set, not those of the best."""
    from aiida import orm
    from aiida.common.links import LinkType

    from aiida_aceal.cli.validate import subject_of
    from aiida_aceal.data.potential import AcePotentialData

    best, last, middle, stranger = (AcePotentialData(file=potential_file).store() for _ in range(4))
    sets = {node.pk: orm.Dict({"of": node.pk}).store() for node in (best, last, middle)}
    campaign = orm.WorkChainNode(label="two")
    campaign.set_process_label("ActiveLearningWorkChain")
    method = orm.Str("aceal.label.ase").store()
    campaign.base.links.add_incoming(method, LinkType.INPUT_WORK, "labeller__entry_point")
    campaign.store()
    generation = orm.WorkChainNode()
    generation.set_process_label("GenerationWorkChain")
    generation.base.links.add_incoming(campaign, LinkType.CALL_WORK, "generation_001")
    generation.store()
    for process, prefix, node in ((campaign, "", best), (campaign, "latest__", last), (generation, "", middle)):
        node.base.links.add_incoming(process, LinkType.RETURN, f"{prefix}potential")
        sets[node.pk].base.links.add_incoming(process, LinkType.RETURN, f"{prefix}active_set")

    for word, node, whose in (
        (campaign, best, f"two <{campaign.pk}>"),
        (best, best, f"two <{campaign.pk}>"),
        (last, last, f"potential {last.pk} of two <{campaign.pk}>"),
        (middle, middle, f"potential {middle.pk} of two <{campaign.pk}>"),
    ):
        found = subject_of(str(word.pk))
        assert (found.potential.pk, found.active_set.pk, found.whose) == (node.pk, sets[node.pk].pk, whose)
        assert found.labeller["entry_point"].value == "aceal.label.ase"
    found = subject_of(str(stranger.pk))
    assert (found.potential.pk, found.active_set, found.labeller) == (stranger.pk, None, None)
