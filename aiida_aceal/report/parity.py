"""Parity plot of a fit, from the pairs of labels and predictions that every ``aceal.fit`` keeps."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiida.orm import CalcJobNode

#: quantity -> label of the axes, unit
_AXES = {"energy": ("energy", "eV/atom"), "forces": ("force component", "eV/Å"), "virial": ("virial", "eV/atom")}
_COLOURS = {"train": "tab:blue", "validation": "tab:orange"}


def parity_png(node: CalcJobNode) -> bytes:
    """PNG with predicted against labelled energies, forces and virials of training and validation data.

    :raises FileNotFoundError: the fit kept no pairs
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from aiida_aceal.common.archives import read_arrays
    from aiida_aceal.jobs.fit import JOB

    name = JOB.output("parity_data").filename
    with node.outputs.retrieved.base.repository.open(name, "rb") as handle:
        pairs = read_arrays(handle.read(), name).arrays
    kinds = [kind for kind in _AXES if f"train_{kind}" in pairs]
    figure = Figure(figsize=(4.2 * len(kinds), 4.0), layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds):
        name, unit = _AXES[kind]
        for part, colour in _COLOURS.items():
            values = pairs.get(f"{part}_{kind}")
            if values is None:
                continue
            error = 1000.0 * float(np.sqrt(np.mean(np.square(values[:, 1] - values[:, 0]))))
            axes.plot(*values.T, ".", markersize=3, color=colour, alpha=0.6, label=f"{part}: RMSE {error:.3g} m{unit}")
        axes.axline((0.0, 0.0) if kind != "energy" else tuple(pairs[f"train_{kind}"][0, [0, 0]]), slope=1, color="0.6")
        axes.set(xlabel=f"label: {name} ({unit})", ylabel=f"ACE: {name} ({unit})")
        axes.legend(fontsize=7)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
