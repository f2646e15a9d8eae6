"""Settings of exploration as plain mappings (YAML, AiiDA Dict): flat, checked, with the nearest known key in errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from aiida_aceal.ace.errors import AceError

from .active import ActiveSettings
from .extract import ExtractSettings
from .geometry import Constraints
from .initial import suggest
from .pool import PoolSettings
from .search import SearchSettings


def keys(kind: type) -> dict[str, Any]:
    """Name and default of every plain setting of a settings class."""
    return {
        f.name: (None if f.default is MISSING else f.default)
        for f in fields(kind)
        if f.name not in ("search", "constraints")
    }


def active_keys() -> dict[str, Any]:
    """Keys of mode ``active`` with their defaults: all parts in one flat mapping."""
    return {**keys(ActiveSettings), **keys(SearchSettings), **keys(Constraints)}


def active_settings(values: Mapping[str, Any]) -> ActiveSettings:
    """Settings of active exploration from a flat mapping.

    Without ``target_gamma`` (a campaign states its window only) the target is that of :func:`target_in_window`.

    :raises AceError: unknown keys or wrong values
    """
    _check(values, active_keys(), "active exploration")
    values = dict(values)
    high, low = values.get("gamma_hi"), values.get("gamma_lo", ActiveSettings.gamma_lo)
    if isinstance(high, (int, float)) and isinstance(low, (int, float)) and "target_gamma" not in values and high > low:
        values["target_gamma"], tolerance = target_in_window(low, high)
        values.setdefault("target_tolerance", tolerance)
    parts = {kind: _pick(values, kind) for kind in (ActiveSettings, SearchSettings, Constraints)}
    return _make(
        ActiveSettings,
        {
            **parts[ActiveSettings],
            "search": _make(SearchSettings, parts[SearchSettings]),
            "constraints": _make(Constraints, parts[Constraints]),
        },
    )


def target_in_window(gamma_lo: float, gamma_hi: float) -> tuple[float, float]:
    """Target of a search and its tolerance for a window of grades: the one rule, whoever starts the search.

    The default target of :class:`SearchSettings`, but at most 0.9 ``gamma_hi``, so that a search does not end above the
    window; the middle of a window that lies above that. All grades within the tolerance lie inside the window.
    """
    target = min(SearchSettings.target_gamma, 0.9 * gamma_hi)
    if target <= gamma_lo:
        target = 0.5 * (gamma_lo + gamma_hi)
    return target, min(SearchSettings.target_tolerance or 1.0, 0.9 * (gamma_hi - target), 0.9 * (target - gamma_lo))


def pool_settings(values: Mapping[str, Any]) -> PoolSettings:
    """Settings of pool grading from a mapping. Raises :class:`AceError`."""
    _check(values, keys(PoolSettings), "pool")
    return _make(PoolSettings, dict(values))


def extract_settings(values: Mapping[str, Any]) -> ExtractSettings:
    """Settings of local environments from a mapping. Raises :class:`AceError`."""
    _check(values, keys(ExtractSettings), "extract")
    return _make(ExtractSettings, dict(values))


def _check(values: Mapping[str, Any], known: Mapping[str, Any], what: str) -> None:
    if not isinstance(values, Mapping):
        raise AceError(f"settings of {what}: expected a mapping, found {type(values).__name__}")
    for key in values:
        if key not in known:
            raise AceError(f"settings of {what}: unknown key '{key}': {suggest(str(key), known)}")


def _pick(values: Mapping[str, Any], kind: type) -> dict[str, Any]:
    return {name: values[name] for name in keys(kind) if name in values}


def _make(kind: type, values: dict[str, Any]) -> Any:
    try:
        return kind(**values)
    except TypeError as error:  # a comparison of, say, text with a number
        raise AceError(f"settings: a value has the wrong type ({error}): {values!r}") from error
