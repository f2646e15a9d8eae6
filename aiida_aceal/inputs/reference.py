"""All that may stand in the input of ``aiida-aceal run``: which declaration holds at which place."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from aiida_aceal.common.settings import Settings

#: (place in the input, heading, module:model)
PARTS = (
    ("", "Top level", "aiida_aceal.inputs.schema:Campaign"),
    ("basis", "of all elements", "aiida_aceal.ace.basis_settings:BasisSettings"),
    ("basis.embeddings.<name>", "by element, or ALL", "aiida_aceal.ace.basis_settings:EmbeddingSettings"),
    ("basis.bonds.<name>", "by pair, or ALL, UNARY, BINARY", "aiida_aceal.ace.basis_settings:BondSettings"),
    ("basis.functions.<name>", "by block, or ALL, UNARY, ...", "aiida_aceal.ace.basis_settings:FunctionSettings"),
    ("initial[]", "every entry of a list of structures", "aiida_aceal.exploration.initial:EntrySettings"),
    ("initial[]", "entries that change a structure", "aiida_aceal.exploration.initial:BaseSettings"),
    ("initial[]", "kind: files", "aiida_aceal.exploration.initial:FilesEntry"),
    ("initial[].structure", "a crystal by name", "aiida_aceal.exploration.bases:BulkStructure"),
    ("initial[].structure", "a molecule by name", "aiida_aceal.exploration.bases:MoleculeStructure"),
    ("initial[].structure", "of a file", "aiida_aceal.exploration.bases:FileStructure"),
    ("initial[].structure", "atoms written out", "aiida_aceal.exploration.bases:AtomsStructure"),
    ("label.settings", "of aceal.label.ase", "aiida_aceal.labels.settings:AseLabelSettings"),
    ("label.settings", "of aceal.label.manual", "aiida_aceal.labels.handout:ManualLabelSettings"),
    ("label.settings", "of aceal.label.vasp", "aiida_aceal.workflows.labellers.vasp:VaspLabelSettings"),
    (
        "label.settings",
        "of aceal.label.quantumespresso",
        "aiida_aceal.workflows.labellers.quantumespresso:QuantumEspressoLabelSettings",
    ),
    ("fit.settings", "of aceal.fit", "aiida_aceal.fitting.settings:FitJobSettings"),
    ("explore.<name>.settings", "of aceal.explore.md", "aiida_aceal.workflows.explorers.walkers:WalkerSettings"),
    ("explore.<name>.settings", "of aceal.explore.active", "aiida_aceal.exploration.active:ActiveSettings"),
    ("explore.<name>.settings", "of aceal.explore.pool", "aiida_aceal.calculations.explore_pool:PoolJobSettings"),
    (
        "explore.<name>.settings",
        "of aceal.explore.properties",
        "aiida_aceal.properties.candidates:PropertyPoolSettings",
    ),
    ("selection", "how candidates are chosen", "aiida_aceal.workflows.sections:SelectionSection"),
    ("activeset", "how active sets are built", "aiida_aceal.workflows.sections:ActiveSetSection"),
    ("window", "policy: fixed (default)", "aiida_aceal.workflows.windows.policies:WindowSettings"),
    ("window", "policy: regimes", "aiida_aceal.workflows.windows.regimes:RegimesSettings"),
    ("window", "policy: calibrated", "aiida_aceal.workflows.windows.calibration:CalibratedSettings"),
    ("gate", "when a new potential is refused", "aiida_aceal.workflows.sections:GateSection"),
    ("limits", "what is tolerated", "aiida_aceal.workflows.sections:LimitsSection"),
    ("ensemble", "an ensemble beside the potential", "aiida_aceal.workflows.ensemble_settings:EnsembleSection"),
    ("validate", "properties that are compared with the reference", "aiida_aceal.inputs.properties:ValidateSection"),
    ("loop", "when to stop at the latest", "aiida_aceal.workflows.sections:LoopSection"),
)


def parts() -> Iterator[tuple[str, str, type[Settings]]]:
    """(place in the input, heading, model) of all declarations, those of kinds of structures included."""
    from aiida_aceal.exploration.generators import GENERATORS
    from aiida_aceal.exploration.initial import arguments_of

    for place, heading, where in PARTS:
        yield place, heading, load(where)
        if where.endswith(":FilesEntry"):
            for kind in GENERATORS:
                yield "initial[]", f"kind: {kind}", arguments_of(kind)


def load(where: str) -> type[Settings]:
    """The model that ``module:name`` says."""
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)
