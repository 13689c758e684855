"""What accuracy costs: one router at every price, without retraining, and its saving at equal accuracy.  [ours]"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from l2d_utils import choose as tuner
from l2d_utils import methods
from l2d_utils.costs import default_dollar_unit
from l2d_utils.data import DataError
from l2d_utils.metrics import Interval
from l2d_utils.own.advice import features, held_out
from l2d_utils.own.choosing import CHOOSE_ROWS, EVERY, cross_validated, fit, grouped_folds
from l2d_utils.own.counting import by_prompt
from l2d_utils.own.intake import Case, filled

#: Price weights of the frontier.
LADDER = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 16.0)


class PriceCurve(NamedTuple):
    """What accuracy costs, on held-out rows.

    `points`: price_weight, accuracy, dollars per 1,000 requests of the re-priced plug-in router; `alone`: agent,
    accuracy, dollars of every agent. On development rows the cheapest point was taken whose accuracy is within one
    standard error of that of `agent`, the most accurate one. Held out it saves `saved` dollars per 1,000 requests, the
    fraction `share` of that agent's bill; its accuracy differs from the agent's by `lead`.
    """

    points: pd.DataFrame
    alone: pd.DataFrame
    agent: str
    saved: Interval
    share: float
    lead: Interval


class _Part(NamedTuple):
    """One set of held-out rows, all frames as in `bought`: every point of the ladder, the point taken, and the agent
    that was the most accurate one on the development rows."""

    points: pd.DataFrame
    taken: pd.DataFrame
    single: pd.DataFrame
    agent: int


def price_curve(
    case: Case, *, X: NDArray | None = None, folds: int = 5, inner: int = 3, random_state: int = 0
) -> PriceCurve:
    """One plug-in router at every price weight of `LADDER`, without retraining, and its saving at equal accuracy.

    The router estimates E[error_k|x] and E[dollars_k|x] apart; the price weight w then only adds them up:
    argmin_k error_k + w·dollars_k/unit. Up to `CHOOSE_ROWS` development rows are used. Folds as in `advise`.  [ours]

    Raises:
        DataError: a table without costs.
    """
    if case.dollars is None:
        raise DataError(f"{case.name}: no columns cost/<agent>, so there are no dollars to save")
    X = features(case) if X is None else X
    splits = held_out(case, folds, random_state)[0]
    parts = [_part(case, X, dev, test, inner, random_state) for dev, test in splits]
    tested = np.concatenate([test for _, test in splits])
    alone = {"accuracy": case.scores[tested].mean(axis=0), "dollars": 1000 * case.dollars[tested].mean(axis=0)}
    points, got, had = (pd.concat([getattr(p, name) for p in parts]) for name in ("points", "taken", "single"))
    return PriceCurve(
        points.groupby("price_weight", as_index=False).mean(),
        pd.DataFrame({"agent": case.agents, **alone}),
        case.agents[int(np.bincount([p.agent for p in parts]).argmax())],
        by_prompt(had["dollars"].to_numpy() - got["dollars"].to_numpy(), case.group[tested]),
        float(1.0 - got["dollars"].to_numpy().sum() / had["dollars"].to_numpy().sum()),
        by_prompt(got["accuracy"].to_numpy() - had["accuracy"].to_numpy(), case.group[tested]),
    )


def _part(case: Case, X: NDArray, dev: NDArray, test: NDArray, inner: int, random_state: int) -> _Part:
    if len(dev) > CHOOSE_ROWS:
        dev = np.sort(np.random.default_rng(random_state).choice(dev, CHOOSE_ROWS, replace=False))
    scores, n_agents = filled(case.scores, dev), len(case.agents)
    targets = np.hstack([1.0 - scores[dev], case.dollars[dev] / default_dollar_unit(case.dollars[dev])])
    fold = grouped_folds(case.group[dev], inner, random_state)
    settings = methods.settings(methods.find("plug_in"), EVERY)
    guesses = [cross_validated("plug_in", setting, X[dev], targets, fold) for setting in settings]
    found = tuner.choose(settings, guesses, lambda guess: ((guess + targets)[:, :n_agents] ** 2).mean())
    outside = fit("plug_in", found.setting, X[dev], targets, dev).decision_function(X[test])

    def priced(guess: NDArray, weight: float) -> NDArray[np.int64]:
        return (guess[:, :n_agents] + weight * guess[:, n_agents:]).argmax(axis=1)

    best = int(scores[dev].mean(axis=0).argmax())
    routes = [np.full(len(test), best), *(priced(outside, weight) for weight in LADDER)]
    points = [bought(case.scores, case.dollars, test, to) for to in routes]
    inside = [np.full(len(dev), best), *(priced(found.best, weight) for weight in LADDER)]
    known = [bought(scores, case.dollars, dev, to) for to in inside]
    behind = [known[0]["accuracy"] - point["accuracy"] for point in known]
    enough = [i for i, d in enumerate(behind) if d.mean() <= d.std(ddof=0) / np.sqrt(len(d))]
    taken = points[min(enough, key=lambda i: known[i]["dollars"].mean())]
    ladder = [point.assign(price_weight=weight) for weight, point in zip(LADDER, points[1:], strict=True)]
    return _Part(pd.concat(ladder), taken, points[0], best)


def bought(scores: NDArray, dollars: NDArray, rows: NDArray, routes: NDArray) -> pd.DataFrame:
    """Per row: `accuracy`, the score of the agent asked, and its `dollars` times 1,000."""
    return pd.DataFrame({"accuracy": scores[rows, routes], "dollars": 1000 * dollars[rows, routes]})
