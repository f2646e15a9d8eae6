"""Numbers of a potential beside those of a reference."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

#: keys that say how numbers were had, not what they are
_NOT_COMPARED = ("gamma_max", "curves", "error", "note")
#: numbers whose relative difference means something, and a few more
_PRINCIPAL = re.compile(
    r"(^|\.)(volume_A3_per_atom|bulk_modulus_GPa|energy_above_lowest_eV_per_atom|C\d\d|shear_modulus_hill_GPa|"
    r"bulk_modulus_hill_GPa|born_stable|max_frequency_THz|mean_frequency_THz|imaginary|bands_rms_difference_THz|"
    r"entropy_kB_per_atom|volumetric_expansion_per_MK|formation_energy_eV|barrier_eV|energy_J_per_m2|"
    r"intrinsic_mJ_per_m2|unstable_mJ_per_m2|not_trusted_below_A|hole_below_A|minimum_A|rdf_mean_difference|"
    r"mean_square_displacement_A2|drift_meV_per_atom_per_ps|melting_temperature_K)$"
)
#: of the principal ones those that may be zero, or hang on chance
_NO_RATIO = re.compile(r"(energy_above_lowest_eV_per_atom|drift_meV_per_atom_per_ps|mean_square_displacement_A2|"
                       r"below_A|dimer\.minimum_A)$")  # fmt: skip


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
                if not _is_null(data.get(name), quantity):
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


def _is_null(data: Any, quantity: str) -> bool:
    """Whether a side says that there is no such thing (a curve without holes)."""
    for word in quantity.split("."):
        if not isinstance(data, Mapping) or word not in data:
            return False
        data = data[word]
    return data is None


def _reason(data: Any, quantity: str) -> str:
    """The nearest ``error`` on the way to a quantity."""
    found = "not computed"
    for word in ("", *quantity.split(".")):
        data = data.get(word) if word and isinstance(data, Mapping) else data
        if isinstance(data, Mapping) and "error" in data:
            found = str(data["error"])
    return found


def numbers_in(data: Any) -> dict[str, Any]:
    """Numbers of a property by quantity (``fcc.bulk_modulus_GPa``), without grades and curves."""
    return {key: value for key, (value, _) in _leaves(data).items()}


def is_principal(row: Mapping[str, Any]) -> bool:
    """Whether a row is what people ask for, and not a residue, a count or a detail of a fit."""
    if row.get("error") and not row["quantity"]:
        return True
    return bool(_PRINCIPAL.search(row["quantity"]))


def has_ratio(row: Mapping[str, Any]) -> bool:
    """Whether the relative difference says anything: not of what may be zero, or hangs on chance."""
    return row["relative_percent"] is not None and not _NO_RATIO.search(row["quantity"])


def worst_row(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The principal row of largest relative difference, None if there is none."""
    found = [row for row in rows if has_ratio(row) and is_principal(row)]
    return dict(max(found, key=lambda row: abs(row["relative_percent"]))) if found else None


def intervals_that_hold(rows: Iterable[Mapping[str, Any]], level: float = 0.9) -> dict[str, Any] | None:
    """How often the interval of an ensemble holds the reference: ``numbers``, ``inside``, ``level``; None without any.

    Of principal rows. The interval is that of one more draw from the distribution of the ``m`` members, if that is
    normal: mean +- t(m - 1) s sqrt(1 + 1/m), with s their standard deviation.
    """
    from scipy.stats import t

    inside = []
    for row in rows:
        if row.get("reference") is None or "members" not in row or not is_principal(row):
            continue
        m = len(row["members"])
        half = t.ppf((1 + level) / 2, m - 1) * row["standard_deviation"] * np.sqrt(1 + 1 / m)
        inside.append(abs(row["reference"] - row["mean"]) <= half)
    return {"numbers": len(inside), "inside": int(sum(inside)), "level": level} if inside else None


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
