"""Routing among language models: prices, splits, tuned routers beside controls, RouteLLM's measures, long studies.

A routing table brings prompts, a quality per agent in [0, 1] and (perhaps) dollars per request. `costs_from_scores`
turns it into costs at one price weight; what stands here is what only language models need.
"""

from l2d_utils.routing.calls import CallPerformance, call_performance, strongest_calls
from l2d_utils.routing.comparing import Evaluation, evaluate, folds, gap_to_oracle, records, resplit
from l2d_utils.routing.prices import Spending, frontier, list_prices, problem_at_price, spending, with_list_prices
from l2d_utils.routing.studies import FULL_STUDIES, joined, study

__all__ = [
    "FULL_STUDIES",
    "CallPerformance",
    "Evaluation",
    "Spending",
    "call_performance",
    "evaluate",
    "folds",
    "frontier",
    "gap_to_oracle",
    "joined",
    "list_prices",
    "problem_at_price",
    "records",
    "resplit",
    "spending",
    "strongest_calls",
    "study",
    "with_list_prices",
]
