"""Figures of a campaign against the generation, drawn from the rows of numbers."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]


def _column(rows: Rows, key: str, scale: float = 1.0) -> tuple[list[int], list[float]]:
    """Generations and values, where there are any."""
    pairs = [(int(row["generation"]), scale * float(row[key])) for row in rows if row.get(key) is not None]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def md_length(axes: Any, rows: Rows) -> None:
    """Steps that the shortest run of each generation reached."""
    x, y = _column(rows, "md_steps_reached")
    axes.bar(x, y, color="#4c78a8")
    _, total = _column(rows, "md_steps_total")
    if total:
        axes.axhline(max(total), color="black", linewidth=1, linestyle="--", label="full length")
        axes.legend()
    axes.set_ylabel("MD steps reached")


def max_gamma(axes: Any, rows: Rows) -> None:
    """Largest extrapolation grade met, and the window in force."""
    x, y = _column(rows, "max_gamma")
    if y:
        axes.plot(x, y, "o-", color="#4c78a8", label="max γ")
        for key, style, label in (("gamma_lo", ":", "γ_lo"), ("gamma_hi", "--", "γ_hi"), ("gamma_stop", "-.", "stop")):
            where, limit = _column([row for row in rows if row.get("max_gamma") is not None], key)
            axes.plot(where, limit, style, color="#e45756", linewidth=1, label=label)
        axes.set_yscale("log")
        axes.legend()
    axes.set_ylabel("extrapolation grade γ")


def _errors(quantity: str, unit: str, measure: str) -> Callable[[Any, Rows], None]:
    names = {"rmse": "RMSE", "max": "largest error"}

    def draw(axes: Any, rows: Rows) -> None:
        drawn = False
        for key, style, color, label in (
            (f"new_{quantity}_{measure}_before", "s--", "#e45756", "new structures, before refit"),
            (f"new_{quantity}_{measure}_after", "o-", "#54a24b", "new structures, after refit"),
            (f"holdout_{quantity}_{measure}", "D-", "#4c78a8", "validation set"),
        ):
            x, y = _column(rows, key, 1000.0)
            if y:
                axes.plot(x, y, style, color=color, label=label, markersize=4)
                drawn = True
        if drawn:
            axes.set_yscale("log")
            axes.margins(y=0.3)  # room for the legend
            axes.legend()
        axes.set_ylabel(f"{quantity} {names[measure]} ({unit})")

    return draw


def training_set(axes: Any, rows: Rows) -> None:
    """Structures that the potential is fitted to."""
    x, y = _column(rows, "n_training")
    axes.plot(x, y, "o-", color="#4c78a8")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("training structures")


def wall_time(axes: Any, rows: Rows) -> None:
    """Wall time of each generation, and the core time that went into labels."""
    x, y = _column(rows, "wall_seconds")
    axes.bar(x, y, color="#bab0ac", label="wall time")
    x, y = _column(rows, "label_core_seconds")
    axes.plot(x, y, "o", color="#e45756", label="labels, core time")
    axes.set_ylabel("seconds")
    axes.legend()


def calibration(axes: Any, rows: Rows) -> None:
    """Expected force error as a function of gamma by the last calibration, and the window it proposes."""
    found = [row["calibration"] for row in rows if row.get("calibration")]
    if found:
        last = found[-1]
        for key, alpha, label in (("error", 1.0, "expected"), ("quantile", 0.4, "9 in 10 below")):
            axes.plot(last["gamma"], [1000.0 * x for x in last[key]], color="#4c78a8", alpha=alpha, label=label)
        for key, style, name in (("gamma_lo", ":", "γ_lo"), ("gamma_hi", "--", "γ_hi")):
            value = last["proposal"][key]
            axes.axvline(value, color="#e45756", linewidth=1, linestyle=style, label=f"proposed {name} {value:.3g}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.legend()
    axes.set_ylabel("force error of an atom (meV/Å)")
    axes.set_xlabel("extrapolation grade γ")


#: title -> drawing function
FIGURES: dict[str, Callable[[Any, Rows], None]] = {
    "Length of the runs": md_length,
    "Extrapolation grade": max_gamma,
    "Force error": _errors("forces", "meV/Å", "rmse"),
    "Largest force error": _errors("forces", "meV/Å", "max"),
    "Energy error": _errors("energy", "meV/atom", "rmse"),
    "Largest energy error": _errors("energy", "meV/atom", "max"),
    "Training set": training_set,
    "Time": wall_time,
    "Calibration of γ": calibration,
}


def draw(title: str, rows: Rows) -> bytes:
    """PNG of one figure of :data:`FIGURES`. Uses no global state of matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel("generation")
    axes.set_title(title)
    FIGURES[title](axes, rows)
    if axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def embedded(png: bytes) -> str:
    """Address of a picture that is part of the page itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
