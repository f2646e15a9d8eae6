"""`fit`: the fit that the settings ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ase import Atoms

from aiida_aceal.ace import AcePotential

from .job import FitResult
from .settings import FitSettings


def fit(
    potential: AcePotential,
    train: Sequence[Atoms],
    settings: FitSettings | Mapping | None = None,
    *args,
    deadline: float | None = None,
    **kwargs,
) -> FitResult:
    """`fit_linear` or `fit_nonlinear`, by ``settings.method``; same arguments. Only the latter heeds ``deadline``."""
    settings = FitSettings.read(settings)
    if settings.method == "nonlinear":
        from .nonlinear import fit_nonlinear

        return fit_nonlinear(potential, train, settings, *args, deadline=deadline, **kwargs)
    from .linear import fit_linear

    return fit_linear(potential, train, settings, *args, **kwargs)
