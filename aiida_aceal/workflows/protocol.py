"""``get_builder_from_protocol`` of a campaign: sensible inputs from a name, everything can be overridden."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from aiida_aceal.common.settings import build, nearest
from aiida_aceal.common.yaml import load_yaml
from aiida_aceal.workflows.sections import SetsSection

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder

#: sections of a protocol that are inputs of the WorkChain as they are
SECTIONS = ("selection", "activeset", "window", "gate", "limits", "ensemble", "loop")


@lru_cache
def _file() -> dict[str, Any]:
    text = resources.files("aiida_aceal.workflows").joinpath("protocols/active_learning.yaml").read_text("utf-8")
    return load_yaml(text, "active_learning.yaml")


def _declared() -> dict[str, Any]:
    """Sections of a campaign with the defaults that their declarations state."""
    from aiida_aceal.workflows import sections
    from aiida_aceal.workflows.ensemble_settings import ENSEMBLE
    from aiida_aceal.workflows.windows.policies import DEFAULT_POLICY, WindowSettings

    window = WindowSettings()
    return {
        **{name: sections.filled(name, {}) for name in sections.SECTIONS},
        "window": {"policy": DEFAULT_POLICY, "gamma_lo": window.gamma_lo, "gamma_hi": window.gamma_hi},
        "ensemble": dict(ENSEMBLE),
        "sets": sections.SetsSection().to_dict(),
    }


def protocol_names() -> dict[str, str]:
    """Name and description of all protocols."""
    return {name: body["description"] for name, body in _file()["protocols"].items()}


def default_protocol() -> str:
    """Name of the protocol that is used if none is named."""
    return _file()["default_protocol"]


def merged(base: Mapping[str, Any], *overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """Copy of ``base`` with the mappings laid over it, one inside the other; lists are replaced."""
    result = deepcopy(dict(base))
    for override in overrides:
        for key, value in (override or {}).items():
            if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
                result[key] = merged(result[key], value)
            else:
                result[key] = deepcopy(value)
    return result


_EMBEDDING_KEYS = {"embeddings", "npot", "fs_parameters", "ndensity"}


def protocol_inputs(name: str | None = None, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All sections of a protocol with the overrides laid over them.

    :raises ValueError: unknown protocol or section; the nearest known one is named
    """
    body = _file()
    defaults = merged(_declared(), body["default"])
    name = name or body["default_protocol"]
    if name not in body["protocols"]:
        raise ValueError(f"unknown protocol '{name}'; {nearest(name, body['protocols'])}")
    for key in overrides or {}:
        if key not in defaults:
            raise ValueError(f"overrides: unknown section '{key}'; {nearest(key, defaults)}")
    own = {key: value for key, value in body["protocols"][name].items() if key != "description"}
    # a basis whose sizes the user states himself must not be cut to the protocol's number of functions
    mine = (overrides or {}).get("basis") or {}
    if {"functions", "nradmax_by_orders", "lmax_by_orders"} & set(mine):
        own = merged(own)
        own["basis"].pop("number_of_functions_per_element", None)
        own["basis"].pop("functions", None)
    default = defaults
    if _EMBEDDING_KEYS & set(mine):
        default = merged(default)
        default["basis"].pop("embedding", None)  # pacemaker's form, whole: densities and exponents belong together
    if "preset" in mine:  # a published basis, whole
        default, own = merged(default), merged(own)
        default["basis"], own["basis"] = {}, {}
    found = merged(default, own, overrides)
    build(SetsSection, found["sets"], "sets")
    return found


class ProtocolMixin:
    """Adds :meth:`get_builder_from_protocol` to the campaign."""

    @classmethod
    def get_builder_from_protocol(
        cls,
        worker_code: Any,
        lammps_code: Any,
        initial: Any,
        start: Any,
        validation: Any = None,
        test: Any = None,
        calculator: str | None = None,
        labeller: Mapping[str, Any] | None = None,
        potential: Any = None,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> ProcessBuilder:
        """Builder of a campaign with one MD explorer.

        :param worker_code: code of ``aceal-worker`` (node or label)
        :param lammps_code: code of ``aceal-lmp`` or of a LAMMPS with ML-PACE (node or label)
        :param initial: first configurations (``ConfigurationsData`` or ``ase.Atoms`` list), labelled or not
        :param start: where the MD walkers start
        :param validation: set that decides at the gate and which potential is the best, labelled or not; or a fraction
            of ``initial``, taken by origin. Default: the protocol's fraction, if ``initial`` has 50 labels
        :param test: set that decides nothing and is only reported, in the same forms; 0: none
        :param calculator: ASE calculator that labels, by name (``emt``, ``tblite``, ``package.module:Class``)
        :param labeller: instead of ``calculator``: the namespace ``labeller`` itself
        :param potential: basis or potential to improve; default: the protocol's basis for the elements of ``initial``
        :param protocol: ``fast``, ``balanced`` (default) or ``precise``
        :param overrides: section -> keys; sections: basis, fit, explore, selection, activeset, window, gate, limits,
            loop
        :param options: ``metadata.options`` of all jobs
        :param seed: all randomness comes from it
        :raises ValueError: unknown protocol, section or key; no validation set
        """
        from aiida import orm

        from aiida_aceal.ace import build_potential
        from aiida_aceal.data.dataset import ConfigurationsData
        from aiida_aceal.data.potential import AcePotentialData
        from aiida_aceal.workflows.sets import SAMPLERS, set_fractions, split_node

        inputs = protocol_inputs(protocol, overrides)
        worker, lammps = (orm.load_code(c) if isinstance(c, str) else c for c in (worker_code, lammps_code))
        given = {"initial": initial, "start": start, "validation": validation, "test": test}
        nodes = {
            name: ConfigurationsData.from_atoms(value, source=name) if isinstance(value, (list, tuple)) else value
            for name, value in given.items()
        }
        roles = {name: nodes[name] for name in SAMPLERS}
        fractions = set_fractions(roles, inputs["sets"], nodes["initial"].base.attributes.get("n_forces"))
        nodes |= split_node(nodes["initial"], fractions, seed)
        initial, start = nodes["initial"], nodes["start"]
        if potential is None:
            description = {"elements": sorted({*initial.elements, *start.elements}), **inputs["basis"]}
            basis = build_potential(description, seed=seed)
            basis.require_functions()
            potential = AcePotentialData(potential=basis)
        if (calculator is None) == (labeller is None):
            raise ValueError("give either `calculator` (the name of an ASE calculator) or `labeller` (a namespace)")
        if labeller is None:
            settings = {"calculator": calculator}
            labeller = {"entry_point": orm.Str("aceal.label.ase"), "code": worker, "settings": orm.Dict(settings)}
        extra = {"options": orm.Dict(dict(options))} if options else {}
        builder = cls.get_builder()  # type: ignore[attr-defined]
        builder.potential = potential
        builder.initial = initial
        for name in SAMPLERS:
            if isinstance(nodes[name], ConfigurationsData):
                builder[name] = nodes[name]
        builder.labeller = {**extra, **labeller}
        builder.fitter = {
            "entry_point": orm.Str("aceal.fit"),
            "code": worker,
            "settings": orm.Dict(inputs["fit"]),
            **extra,
        }
        builder.explorers = {
            "md": {
                "entry_point": orm.Str("aceal.explore.md"),
                "code": lammps,
                "configurations": start,
                "settings": orm.Dict(inputs["explore"]),
                **extra,
            }
        }
        builder.worker = {"code": worker, **extra}
        for name in SECTIONS:
            builder[name] = orm.Dict(inputs[name])
        builder.seed = orm.Int(seed)
        return builder
