"""ASE calculators by name, and the labels they give: energy, forces and stress of one configuration.

Units: eV, eV/Angstrom, eV/Angstrom^3 (Voigt order xx, yy, zz, yz, xz, xy, positive under tension).
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import shlex
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from aiida_aceal.common.errors import AceError

#: short names beyond those of ASE
ALIASES = {
    "tblite": "tblite.ase:TBLite",
    "xtb": "tblite.ase:TBLite",
    "ace": "aiida_aceal.ace:AceCalculator",
    "aceal": "aiida_aceal.ace:AceCalculator",
}
#: methods of tblite's ASE calculator
TBLITE_METHODS = ("GFN1-xTB", "GFN2-xTB", "IPEA1-xTB")
#: how to get a package that is not there
REMEDIES = {
    "tblite": "pip install 'aiida-aceal[xtb]'",
    "gpaw": "pip install gpaw (needs a compiler, see its installation notes)",
}
#: names that ASE keeps for tools which cannot label
_NOT_CALCULATORS = ("checkpoint", "qmmm", "socketio", "test")

#: what ``energy`` may be: the energy extrapolated to zero smearing, or the free energy whose derivative the forces are
ENERGIES = ("extrapolated", "free")


class LabelError(AceError):
    """One configuration cannot be labelled; the others may."""


@dataclass(frozen=True)
class CalculatorSpec:
    """A calculator that can be made anew in any process: where its class is and what it is called with.

    A new one is made for each configuration, so that a label does not depend on what was labelled before it.
    """

    name: str
    target: str
    kwargs: dict[str, Any] = field(default_factory=dict)

    def create(self) -> Any:
        """The calculator.

        :raises AceError: it cannot be imported or refuses its arguments.
        """
        factory = _load(self.target, self.name)
        try:
            return factory(**self.kwargs)
        except Exception as error:
            raise AceError(
                f"calculator '{self.name}' ({self.target}) rejects the arguments {self.kwargs}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def describe(self) -> dict[str, Any]:
        """Name, class, version and arguments, for the report."""
        from importlib import metadata

        package = self.target.split(":")[0].split(".")[0]
        try:
            version = metadata.version("aiida-aceal" if package == "aiida_aceal" else package)
        except metadata.PackageNotFoundError:
            version = None
        return {"name": self.name, "class": self.target, "version": version, "kwargs": self.kwargs}


def calculator_spec(name: str, kwargs: Mapping[str, Any] | None = None) -> CalculatorSpec:
    """Find a calculator by name.

    :param name: ``package.module:Class``, a short name of ASE (``emt``, ``lj``, ``morse``, ``eam``, ``gpaw``, ...),
        ``tblite`` or ``ace``.
    :param kwargs: arguments of the class. Names of files that exist here become absolute, since each configuration is
        computed in a folder of its own. ``tblite`` uses GFN1-xTB unless told otherwise: of the two it is the one whose
        self-consistency holds for more solids.
    :raises AceError: unknown name (the nearest known ones are named), package not installed, arguments refused.
    """
    words = dict(kwargs or {})
    if ":" in name:
        target = name
    elif name.lower() in ALIASES:
        target = ALIASES[name.lower()]
    else:
        target = _ase_target(name)
    if target == ALIASES["tblite"]:
        words = {"method": "GFN1-xTB", "verbosity": 0, **words}
    words = {key: _absolute(value) for key, value in words.items()}
    spec = CalculatorSpec(name, target, words)
    spec.create()  # wrong arguments are found before any process starts
    return spec


def check_abilities(spec: CalculatorSpec, elements: Iterable[str]) -> None:
    """Refuse, without computing anything, what a calculator is known to be unable to do.

    :raises AceError: an element it has no parameters for, an unknown method of tblite, an executable that is not there
    """
    calculator = spec.create()
    known: Iterable[str] | None = None
    if spec.target == ALIASES["tblite"]:
        method = spec.kwargs.get("method")
        if method not in TBLITE_METHODS:
            near = difflib.get_close_matches(str(method), TBLITE_METHODS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise AceError(
                f"calculator '{spec.name}': kwargs.method: must be one of {', '.join(TBLITE_METHODS)}, found "
                f"{method!r}{hint}"
            )
        known = chemical_symbols[1:87]
    elif spec.target == "ase.calculators.emt:EMT":
        from ase.calculators.emt import parameters

        known = list(parameters)
    elif isinstance(getattr(getattr(calculator, "potential", None), "elements", None), (list, tuple)):
        known = calculator.potential.elements
    elif spec.target == "ase.calculators.eam:EAM":
        known = list(calculator.elements)
    foreign = [] if known is None else sorted(set(elements) - set(known))
    if foreign:
        raise AceError(
            f"calculator '{spec.name}' cannot label {', '.join(foreign)}; it knows {', '.join(sorted(known))}"
            if len(list(known)) < 30
            else f"calculator '{spec.name}' cannot label {', '.join(foreign)}"
        )
    command = getattr(getattr(calculator, "profile", None), "command", None) or getattr(calculator, "command", None)
    words = shlex.split(command) if isinstance(command, str) else list(command or [])
    if words and shutil.which(words[0]) is None:
        raise AceError(
            f"calculator '{spec.name}' needs the executable '{words[0]}', which is not found; install it, or name it "
            "in ASE's configuration"
        )


def _absolute(value: Any) -> Any:
    if isinstance(value, str) and value and not Path(value).is_absolute() and Path(value).is_file():
        return str(Path(value).resolve())
    return value


def known_names() -> list[str]:
    """All short names."""
    from ase.calculators.names import names

    return sorted({*names, *ALIASES} - set(_NOT_CALCULATORS))


def _ase_target(name: str) -> str:
    from ase.calculators.calculator import get_calculator_class

    known = known_names()
    lower = name.lower()
    if lower not in known:
        near = difflib.get_close_matches(lower, known, n=3)
        hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"known: {', '.join(known)};"
        raise AceError(f"unknown calculator '{name}': {hint} name any other as 'package.module:Class'")
    try:
        cls = get_calculator_class(lower)
    except (ImportError, AttributeError) as error:
        raise AceError(_missing(name, error)) from error
    return f"{cls.__module__}:{cls.__qualname__}"


def _missing(name: str, error: Exception) -> str:
    module = (getattr(error, "name", None) or name).split(".")[0].lower()
    remedy = REMEDIES.get(module) or REMEDIES.get(name.lower()) or f"install the Python package '{module}'"
    return f"calculator '{name}' is not installed here ({error}): {remedy}"


def _load(target: str, name: str) -> Any:
    module, _, attribute = target.partition(":")
    try:
        loaded: Any = importlib.import_module(module)
    except ImportError as error:
        raise AceError(_missing(name, error)) from error
    for part in attribute.split("."):
        if not hasattr(loaded, part):
            near = difflib.get_close_matches(part, dir(loaded), n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise AceError(f"calculator '{name}': module '{module}' has no '{part}'{hint}")
        loaded = getattr(loaded, part)
    if not callable(loaded):
        raise AceError(f"calculator '{name}': {target} is neither a class nor a function")
    return loaded


def compute_labels(
    atoms: Any, calculator: Any, energy: str = "extrapolated", stress: bool = True, max_force: float | None = None
) -> dict[str, Any]:
    """Labels of one configuration.

    :param energy: see :data:`ENERGIES`. Calculators without electronic temperature know one energy only.
    :param stress: whether to ask for it; left out if the cell is not periodic in three directions or the calculator
        cannot.
    :param max_force: refuse a label with a larger force on any atom (eV/Angstrom).
    :returns: ``energy`` (float), ``forces`` [n, 3] and perhaps ``stress`` [6]. Forces are those of the calculator:
        constraints of the configuration do not zero them.
    :raises LabelError: not converged, not finite, or a force above ``max_force``.
    """
    import numpy as np
    from ase.calculators.calculator import PropertyNotImplementedError

    work = atoms.copy()
    work.calc = calculator
    try:
        value = float(work.get_potential_energy(force_consistent=energy == "free"))
    except PropertyNotImplementedError as error:
        raise LabelError(f"the calculator has no {energy} energy ({error})") from error
    labels: dict[str, Any] = {"energy": value, "forces": np.array(work.get_forces(apply_constraint=False), dtype=float)}
    if stress and work.cell.rank == 3 and work.pbc.all():
        with contextlib.suppress(NotImplementedError, PropertyNotImplementedError):
            labels["stress"] = np.array(work.get_stress(apply_constraint=False), dtype=float)
    if getattr(calculator, "converged", None) is False:
        raise LabelError("the self-consistency did not converge")
    for name, values in labels.items():
        if not np.all(np.isfinite(values)):
            raise LabelError(f"{name} not finite")
    if labels["forces"].shape != (len(atoms), 3):
        raise LabelError(f"forces of shape {labels['forces'].shape} for {len(atoms)} atoms")
    largest = float(np.max(np.linalg.norm(labels["forces"], axis=1)))
    if max_force is not None and largest > max_force:
        raise LabelError(f"force of {largest:.4g} eV/A is above max_force = {max_force:g}")
    return labels
