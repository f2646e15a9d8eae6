"""Parity plots of a fit, drawn without a display."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aiida_aceal.common.atomic import open_whole
from aiida_aceal.common.errors import AceError

if TYPE_CHECKING:
    from .job import FitResult

_AXES = {"energy": ("energy", "eV/atom"), "forces": ("force component", "eV/Å"), "virial": ("virial", "eV/atom")}


def parity_plot(result: FitResult, path: str | Path) -> None:
    """Predicted against labelled energies, forces and virials; training and validation sets; written to ``path``.

    Raises
    ------
    AceError
        If the suffix of ``path`` is no image format.
    """
    path = Path(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parts = {"train": result.train.parity()}
    if result.validation is not None:
        parts["validation"] = result.validation.parity()
    kinds = [kind for kind in _AXES if kind in parts["train"]]
    figure = Figure(figsize=(4.2 * len(kinds), 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds):
        name, unit = _AXES[kind]
        low = min(p[kind].min() for p in parts.values() if kind in p)
        high = max(p[kind].max() for p in parts.values() if kind in p)
        axis.plot([low, high], [low, high], color="0.6", linewidth=0.8, zorder=0)
        for (label, points), color in zip(parts.items(), ("tab:blue", "tab:orange")):
            if kind not in points:
                continue
            m = result.metrics[label][kind]
            axis.plot(
                *points[kind].T, ".", markersize=3, color=color, alpha=0.6, rasterized=True,
                label=f"{label}: RMSE {m['rmse'] * 1e3:.1f}, MAE {m['mae'] * 1e3:.1f} m{unit}",
            )  # fmt: skip
        axis.set(xlabel=f"reference {name} ({unit})", ylabel=f"ACE {name} ({unit})")
        axis.legend(fontsize=7, loc="upper left")
    kind = path.suffix[1:].lower() or "png"
    if kind not in figure.canvas.get_supported_filetypes():
        raise AceError(f"{path}: there is no image format '{kind}'; write .png, .pdf or .svg")
    with open_whole(path, "wb") as handle:
        figure.savefig(handle, format=kind, dpi=150)
