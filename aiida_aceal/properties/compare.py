"""Numbers of a potential beside those of a reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

#: keys that say how numbers were had, not what they are
_NOT_COMPARED = ("gamma_max", "curves", "error", "note")


def compare_properties(reference: Mapping[str, Any], potential: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a table: ``property``, ``quantity``, ``reference``, ``potential``, ``difference``, ``relative_percent``.

    ``gamma_max`` is the largest grade of the structures behind the number, where it is known. A number that only one
    side has comes with the reason (``error``) of the other. ``relative_percent`` is null where the reference is zero.
    Differences are potential minus reference.
    """
    rows = []
    for name in dict.fromkeys([*reference, *potential]):
        ours, theirs = _leaves(potential.get(name)), _leaves(reference.get(name))
        for quantity in dict.fromkeys([*theirs, *ours]):
            left, right = theirs.get(quantity), ours.get(quantity)
            row: dict[str, Any] = {
                "property": name, "quantity": quantity, "reference": left and left[0], "potential": right and right[0],
                "difference": None, "relative_percent": None,
                "gamma_max": next((side[1] for side in (right, left) if side and side[1] is not None), None),
            }  # fmt: skip
            if left and right and not isinstance(left[0], bool) and not isinstance(right[0], bool):
                row["difference"] = right[0] - left[0]
                row["relative_percent"] = 100 * (right[0] - left[0]) / abs(left[0]) if left[0] else None
            elif not (left and right):
                side, data = ("potential", potential) if left else ("reference", reference)
                row["error"] = f"{side}: {_reason(data.get(name), quantity)}"
            rows.append(row)
        rows += _curves(name, reference.get(name), potential.get(name))
        if not ours and not theirs:
            rows.append({"property": name, "quantity": "", "reference": None, "potential": None, "difference": None,
                         "relative_percent": None, "gamma_max": None,
                         "error": _reason(potential.get(name), "")})  # fmt: skip
    return rows


def _curves(name: str, reference: Any, potential: Any) -> list[dict[str, Any]]:
    """Distances between curves: of phonon bands (root mean square), of radial distributions (mean absolute)."""
    left, right = ((data or {}).get("curves", {}) for data in (reference, potential))
    found: dict[str, float] = {}
    if "bands" in left and "bands" in right:
        a, b = (np.concatenate([np.ravel(part) for part in c["bands"]["frequencies_THz"]]) for c in (left, right))
        if a.shape == b.shape and left["bands"]["labels"] == right["bands"]["labels"]:
            found["bands_rms_difference_THz"] = float(np.sqrt(np.mean((a - b) ** 2)))
    if "rdf" in left and "rdf" in right:
        r = np.asarray(left["rdf"]["distance_A"])
        r = r[r <= right["rdf"]["distance_A"][-1]]
        a, b = (np.interp(r, c["rdf"]["distance_A"], c["rdf"]["g"]) for c in (left, right))
        found["rdf_mean_difference"] = float(np.mean(np.abs(a - b)))
    return [
        {"property": name, "quantity": quantity, "reference": None, "potential": None, "difference": value,
         "relative_percent": None, "gamma_max": potential.get("gamma_max")}
        for quantity, value in found.items()
    ]  # fmt: skip


def _reason(data: Any, quantity: str) -> str:
    """The nearest ``error`` on the way to a quantity."""
    found = "not computed"
    for word in ("", *quantity.split(".")):
        data = data.get(word) if word and isinstance(data, Mapping) else data
        if isinstance(data, Mapping) and "error" in data:
            found = str(data["error"])
    return found


def _leaves(data: Any) -> dict[str, tuple[Any, float | None]]:
    return {key: (value, gamma) for key, value, gamma in _walk(data, "", None)} if isinstance(data, Mapping) else {}


def _walk(data: Mapping[str, Any], prefix: str, gamma: float | None) -> Iterator[tuple[str, Any, float | None]]:
    gamma = data.get("gamma_max", gamma)
    for key, value in data.items():
        if key in _NOT_COMPARED:
            continue
        if isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{key}.", gamma)
        elif isinstance(value, (bool, int, float)):
            yield f"{prefix}{key}", value, gamma


def comparison_lines(rows: list[dict[str, Any]]) -> list[str]:
    """The table as text, one line for each row."""
    head = ("quantity", "reference", "potential", "difference", "%", "gamma")
    lines = [head]
    for row in rows:
        what = ".".join(part for part in (row["property"], row["quantity"]) if part)
        if "error" in row:
            lines.append((what, _word(row["reference"]), _word(row["potential"]), row["error"], "", ""))
        else:
            numbers = [_word(row[key]) for key in ("reference", "potential", "difference")]
            percent = "" if row["relative_percent"] is None else f"{row['relative_percent']:.2f}"
            lines.append((what, *numbers, percent, _word(row["gamma_max"])))
    widths = [max(len(line[k]) for line in lines if k < 3 or line[5]) for k in range(6)]
    return ["  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip() for line in lines]


def _word(value: Any) -> str:
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else f"{value:.6g}"
