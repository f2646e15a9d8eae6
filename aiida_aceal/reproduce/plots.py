"""Figures of studies: PNG in memory, without global state of matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

COLORS = ("#4c78a8", "#e45756", "#54a24b", "#f58518", "#b279a2", "#777777", "#9d755d", "#72b7b2")
#: quantiles of the bands around a median
BANDS = ((0.05, 0.95), (0.16, 0.84))


def picture(draw: Callable[[Any], None], width: float = 9.0, height: float = 3.8, dpi: int = 80) -> bytes:
    """PNG of a figure; ``draw`` gets the figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=dpi)
    draw(figure)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def running_quantiles(x: np.ndarray, y: np.ndarray, bins: int = 24, least: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles of y in bins of log x.

    :returns: centres [M] and quantiles [M, 5] (0.05, 0.16, 0.5, 0.84, 0.95) of bins with at least ``least`` points
    """
    log = np.log10(np.maximum(x, 1e-12))
    edges = np.linspace(log.min(), log.max() + 1e-9, bins + 1)
    where = np.digitize(log, edges) - 1
    centres, rows = [], []
    for k in range(bins):
        inside = y[where == k]
        if len(inside) >= least:
            centres.append(10 ** (0.5 * (edges[k] + edges[k + 1])))
            rows.append(np.quantile(inside, [0.05, 0.16, 0.5, 0.84, 0.95]))
    return np.array(centres), np.array(rows).reshape(-1, 5)


def band(axes: Any, x: np.ndarray, y: np.ndarray, color: str, label: str) -> None:
    """Median of y against x, with bands."""
    centres, q = running_quantiles(x, y)
    if not len(centres):
        return
    axes.fill_between(centres, q[:, 0], q[:, 4], color=color, alpha=0.12, linewidth=0)
    axes.fill_between(centres, q[:, 1], q[:, 3], color=color, alpha=0.22, linewidth=0)
    axes.plot(centres, q[:, 2], color=color, label=label)


def steps(axes: Any, values: np.ndarray, edges: np.ndarray, color: str, label: str, sideways: bool = False) -> None:
    """A histogram as a filled staircase."""
    if len(values):
        orientation = "horizontal" if sideways else "vertical"
        axes.hist(values, edges, color=color, alpha=0.5, label=label, orientation=orientation)
