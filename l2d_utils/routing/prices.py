"""Dollars: list prices, costs at a price weight, and what a routing buys and costs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from l2d_utils.costs import costs_from_scores, default_dollar_unit
from l2d_utils.data import DataError, RoutingTable, Split, data_folder
from l2d_utils.rules import offsets_for_costs, route
from l2d_utils.studies.compare import Problem
from l2d_utils.validate import check_positive


def list_prices(name: str) -> dict[str, float]:
    """Agent → dollars per million output tokens, from ``$L2D_DATA_DIR/routing/<name>_prices.json``.

    Raises:
        FileNotFoundError: the file is not there.
        DataError: it is no JSON object of {"output": dollars} per agent.
    """
    folder = data_folder()
    path = None if folder is None else folder / "routing" / f"{name}_prices.json"
    if path is None or not path.is_file():
        raise FileNotFoundError(f"no price list: $L2D_DATA_DIR/routing/{name}_prices.json is expected")
    try:
        return {
            agent: check_positive("output", entry["output"]) for agent, entry in json.loads(path.read_bytes()).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f'{path} must map each agent to {{"output": dollars per million tokens}} ({error})') from None


def with_list_prices(table: RoutingTable, prices: Mapping[str, float], tokens: float = 1000.0) -> RoutingTable:
    """The table with dollars filled in from list prices, every answer counted as `tokens` tokens.  [ours]

    For tables that do not record what each answer cost. The same length for every agent is an assumption.

    Args:
        prices: agent → dollars per million tokens, for every agent of the table.
    """
    missing = [agent for agent in table.agents if agent not in prices]
    if missing:
        raise ValueError(f"prices has no entry for the agent {missing[0]!r}")
    per_request = np.array([prices[agent] for agent in table.agents]) * check_positive("tokens", tokens) / 1e6
    return replace(table, dollars=np.tile(per_request, (len(table.prompts), 1)))


def problem_at_price(table: RoutingTable, X: ArrayLike, split: Split, price_weight: float) -> Problem:
    """Features (n, d) and costs at a price weight; the dollar unit is that of the training rows."""
    unit = None if table.dollars is None else default_dollar_unit(table.dollars[split.train])
    costs = costs_from_scores(table.scores, table.dollars, price_weight=price_weight, dollar_unit=unit)
    return Problem(np.asarray(X), costs, split)


class Spending(NamedTuple):
    """`accuracy` (mean score of the chosen agents) and `dollars` per 1,000 requests."""

    accuracy: float
    dollars: float


def spending(scores: ArrayLike, dollars: ArrayLike, routes: ArrayLike) -> Spending:
    """What a routing buys and costs.  scores, dollars (n, K); routes (n,)."""
    rows = np.arange(len(np.asarray(routes)))
    return Spending(
        float(np.asarray(scores)[rows, routes].mean()), float(1000 * np.asarray(dollars)[rows, routes].mean())
    )


def frontier(
    router: Any, table: RoutingTable, X: ArrayLike, split: Split, price_weights: Iterable[float]
) -> pd.DataFrame:
    """One trained router at many price weights, by offsets alone: columns price_weight, accuracy, dollars.  [ours]

    For each weight the offsets that minimise the validation costs at that weight are found anew; nothing is
    retrained. Accuracy and dollars (per 1,000 requests) are those of the test rows.
    """
    held, test = split.validation, split.test
    unit = default_dollar_unit(table.dollars[split.train])
    scores, test_scores = router.decision_function(X[held]), router.decision_function(X[test])
    points = []
    for weight in price_weights:
        costs = costs_from_scores(table.scores[held], table.dollars[held], price_weight=weight, dollar_unit=unit)
        routes = route(test_scores, offsets_for_costs(scores, costs))
        points.append({"price_weight": weight, **spending(table.scores[test], table.dollars[test], routes)._asdict()})
    return pd.DataFrame(points)
