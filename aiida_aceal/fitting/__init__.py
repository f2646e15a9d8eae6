"""Fits of ACE potentials: linear and nonlinear, ensembles, calibration. Names are loaded when first used."""

from importlib import import_module

_WHERE = {
    "Calibration": "calibration",
    "Ensemble": "ensemble",
    "EnsembleSettings": "ensemble_settings",
    "FitResult": "job",
    "FitSettings": "settings",
    "calibrate": "calibration",
    "compare_uncertainty": "compare",
    "fit": "dispatch",
    "fit_ensemble": "ensemble_fit",
    "fit_linear": "linear",
    "fit_nonlinear": "nonlinear",
    "format_report": "report",
}

__all__ = list(_WHERE)


def __getattr__(name: str):
    if name in _WHERE:
        return getattr(import_module(f".{_WHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
