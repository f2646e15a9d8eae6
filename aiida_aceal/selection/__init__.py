"""Which candidates are worth a label: strategies behind one interface."""

from .base import Budget, Indicator, Pick, Pool, Selection, Strategy
from .select import GROUP, load_strategy, select, strategy_names

__all__ = [
    "GROUP",
    "Budget",
    "Indicator",
    "Pick",
    "Pool",
    "Selection",
    "Strategy",
    "load_strategy",
    "select",
    "strategy_names",
]
