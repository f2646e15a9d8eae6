"""Reference energies in the metadata of a ``.yaml``: pacemaker's key and ours, read and written."""

import json

import pytest
import yaml

from aiida_aceal.ace import AceError, AcePotential, build_potential


@pytest.fixture(scope="module")
def basis() -> AcePotential:
    return build_potential(
        {"elements": ["Al", "Ni"], "cutoff": 4.0, "nradmax_by_orders": [2], "lmax_by_orders": [0]}, seed=0
    )


def _with(basis: AcePotential, metadata: str) -> AcePotential:
    return AcePotential.from_yaml(f"metadata:\n{metadata}\n" + basis.to_yaml())


@pytest.mark.parametrize(
    "metadata",
    [
        """  reference_energy: '{"Al": 0.695, "Ni": -1.5}'""",
        """  reference_energy: {Al: 0.695, Ni: -1.5}""",
        """  reference_energy_Al: 0.695\n  reference_energy_Ni: '-1.5'""",
        """  reference_energy: '{"Al": 0.695}'\n  reference_energy_Ni: -1.5""",
        # pacemaker has rewritten its own key of a file of ours
        """  reference_energy: '{"Al": 0.695, "Ni": -1.5}'\n  reference_energy_Al: 7.0\n  reference_energy_Ni: 7.0""",
    ],
)
def test_both_keys_are_read(basis, metadata):
    assert _with(basis, metadata).reference_energies == {"Al": 0.695, "Ni": -1.5}


def test_both_keys_are_written(basis):
    pot = _with(basis, """  reference_energy: '{"Al": 9.0, "Ni": 9.0}'\n  reference_energy_Ni: 9.0\n  kept: x""")
    new = pot.with_reference_energies({"Al": 1 / 3, "Ni": -1.5})
    metadata = yaml.safe_load(new.to_yaml())["metadata"]
    assert json.loads(metadata["reference_energy"]) == {"Al": 1 / 3, "Ni": -1.5}
    assert float(metadata["reference_energy_Al"]) == 1 / 3
    assert metadata["kept"] == "x"
    assert AcePotential.from_yaml(new.to_yaml()).reference_energies == {"Al": 1 / 3, "Ni": -1.5}
    assert set(new.with_reference_energies({}).metadata) == {"kept"}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("  reference_energy: 0.695", "reference_energy is '0.695', expected a JSON mapping"),
        ("  reference_energy: \"__import__('os')\"", "expected a JSON mapping"),
        (
            """  reference_energy: '{"Al": "much"}'""",
            "reference_energy_Al: expected a finite number in eV, found 'much'",
        ),
        ("""  reference_energy: '{"Al": NaN}'""", "reference_energy_Al: expected a finite number in eV, found nan"),
        ("  reference_energy_Ni: much", "reference_energy_Ni: expected a finite number in eV, found 'much'"),
    ],
)
def test_what_is_no_energy_is_refused_with_the_file(basis, tmp_path, metadata, message):
    (tmp_path / "p.yaml").write_text(f"metadata:\n{metadata}\n" + basis.to_yaml())
    with pytest.raises(AceError, match=r"p\.yaml: metadata: ") as caught:
        AcePotential.read(tmp_path / "p.yaml")
    assert message in str(caught.value)
