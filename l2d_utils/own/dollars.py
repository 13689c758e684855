"""What accuracy costs: one router at every price, without retraining, and its saving at equal accuracy.  [ours]"""

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
from l2d_utils.own.choosing import EVERY, FOLDS, cross_validated, drawn, fit, grouped_folds
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


def price_curve(case: Case, *, X: NDArray | None = None, folds: int = 5) -> PriceCurve:
    """One plug-in router at every price weight of `LADDER`, without retraining, and its saving at equal accuracy.

    The router estimates E[error_k|x] and E[dollars_k|x] apart; the price weight w then only adds them up:
    argmin_k error_k + w·dollars_k/unit. Up to `CHOOSE_ROWS` development rows are used. X, folds as in `advise`.
    DataError: a table without costs.
    """
    if case.dollars is None:
        raise DataError(f"{case.name}: no columns cost/<agent>, so there are no dollars to save")
    X, splits = features(case) if X is None else X, held_out(case, folds)[0]
    routes = pd.concat([_routes(case, X, drawn(dev, 0), test) for dev, test in splits])
    rows = np.concatenate([test for _, test in splits])
    bills = {name: bought(case.scores, case.dollars, rows, to) for name, to in routes.items()}
    alone = [bought(case.scores, case.dollars, rows, k).mean() for k in range(len(case.agents))]
    got, had = bills["taken"], bills["single"]
    return PriceCurve(
        pd.DataFrame([{"price_weight": weight, **bills[weight].mean()} for weight in LADDER]),
        pd.DataFrame([{"agent": agent, **point} for agent, point in zip(case.agents, alone, strict=True)]),
        case.agents[int(np.bincount(routes["single"]).argmax())],
        by_prompt(had["dollars"] - got["dollars"], case.group[rows]),
        float(1.0 - got["dollars"].sum() / had["dollars"].sum()),
        by_prompt(got["accuracy"] - had["accuracy"], case.group[rows]),
    )


def _routes(case: Case, X: NDArray, dev: NDArray, test: NDArray) -> pd.DataFrame:
    """Agents that the held-out rows are sent to: a column for every weight of the ladder, one for the weight "taken" on
    the development rows, and one for the agent that was the most accurate "single" one there."""
    scores, n_agents = filled(case.scores, dev), len(case.agents)
    targets = np.hstack([1.0 - scores[dev], case.dollars[dev] / default_dollar_unit(case.dollars[dev])])
    fold = grouped_folds(case.group[dev], FOLDS, 0)
    settings = methods.settings(methods.find("plug_in"), EVERY)
    guesses = [cross_validated("plug_in", setting, X[dev], targets, fold) for setting in settings]
    found = tuner.choose(settings, guesses, lambda guess: ((guess + targets)[:, :n_agents] ** 2).mean())
    outside = fit("plug_in", found.setting, X[dev], targets).decision_function(X[test])

    def priced(guess: NDArray) -> pd.DataFrame:
        routes = {w: (guess[:, :n_agents] + w * guess[:, n_agents:]).argmax(axis=1) for w in LADDER}
        return pd.DataFrame({"single": int(scores[dev].mean(axis=0).argmax()), **routes})

    known = {name: bought(scores, case.dollars, dev, to) for name, to in priced(found.best).items()}
    behind = {name: known["single"]["accuracy"] - bill["accuracy"] for name, bill in known.items()}
    enough = [name for name, d in behind.items() if d.mean() <= d.std(ddof=0) / np.sqrt(len(d))]
    routes = priced(outside)
    return routes.assign(taken=routes[min(enough, key=lambda name: known[name]["dollars"].mean())])


def bought(scores: NDArray, dollars: NDArray, rows: NDArray, routes: NDArray | int) -> pd.DataFrame:
    """Per row: `accuracy`, the score of the agent asked, and its `dollars` times 1,000."""
    return pd.DataFrame({"accuracy": scores[rows, routes], "dollars": 1000 * dollars[rows, routes]})
