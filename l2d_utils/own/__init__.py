"""Bring your own experts: a table in, a tested router and its report out.

    python -m l2d_utils.own TABLE --price-weight 0.3 --out folder

The choice is *nested*. Inside the development rows, cross-validation picks method, setting and offsets, and falls back
to the best single agent unless a router beats it beyond noise. The reported figures come from rows that took no part
in that: the table's own hold-out, or outer folds.  [ours]
"""

from l2d_utils.own.advice import Advice, advise, features
from l2d_utils.own.choosing import METHODS, Choice, choose, grouped_folds
from l2d_utils.own.command import main
from l2d_utils.own.delivery import SNIPPET, AgentRouter, load, save
from l2d_utils.own.dollars import LADDER, PriceCurve, price_curve
from l2d_utils.own.report import card, frontier_figure, gains_figure, short, tests_table, write
from l2d_utils.own.soundness import soundness_study

__all__ = [
    "LADDER",
    "METHODS",
    "SNIPPET",
    "Advice",
    "AgentRouter",
    "Choice",
    "PriceCurve",
    "advise",
    "card",
    "choose",
    "features",
    "frontier_figure",
    "gains_figure",
    "grouped_folds",
    "load",
    "main",
    "price_curve",
    "save",
    "short",
    "soundness_study",
    "tests_table",
    "write",
]
