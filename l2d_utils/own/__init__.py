"""Bring your own experts: a table in, a tested router and its report out.

    python -m l2d_utils.own TABLE --price-weight 0.3 --out folder

The choice is *nested*. Inside the development rows, cross-validation picks method, setting and offsets, and falls back
to the best single agent unless a router beats it beyond noise. The reported figures come from rows that took no part
in that: the table's own hold-out, or outer folds.  [ours]
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "advice": ("Advice", "advise", "features"),
    "choosing": ("Choice", "Trial", "candidates", "choose", "grouped_folds"),
    "command": ("main",),
    "delivery": ("SNIPPET", "AgentRouter", "load", "save"),
    "dollars": ("LADDER", "PriceCurve", "price_curve"),
    "report": ("card", "frontier_figure", "gains_figure", "short", "write"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    # each name brings its module on first use: who loads a router to answer requests does not wait for the chooser
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
