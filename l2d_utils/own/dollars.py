"""What accuracy costs: one router at every price, without retraining, and its saving at equal accuracy.  [ours]"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from l2d_utils.own import intake
from l2d_utils.costs import default_dollar_unit
from l2d_utils.data import DataError
from l2d_utils.own.intake import Case
from l2d_utils.metrics import Interval, interval
from l2d_utils.own.advice import features, held_out
from l2d_utils.own.choosing import CHOOSE_ROWS, EVERY, cross_validated, fitted_router, grouped_folds

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
    n_agents = len(case.agents)
    points, differences, agents = [], [], []
    for dev, test in held_out(case, folds, random_state)[0]:
        rng = np.random.default_rng(random_state)
        dev = dev if len(dev) <= CHOOSE_ROWS else np.sort(rng.choice(dev, CHOOSE_ROWS, replace=False))
        scores, unit = 1.0 - intake.filled(case.errors, dev), default_dollar_unit(case.dollars[dev])
        targets = np.hstack([1.0 - scores[dev], case.dollars[dev] / unit])
        fold = grouped_folds(case.group[dev], inner, random_state)
        trials = [
            (p, cross_validated("plug_in", p, X[dev], targets, fold)) for p in tuning.candidates("plug_in", EVERY)[1]
        ]
        params, within = min(trials, key=lambda t: ((t[1] + targets)[:, :n_agents] ** 2).mean())
        outside = fitted_router("plug_in", params, X[dev], targets, dev).decision_function(X[test])
        best = int(scores[dev].mean(axis=0).argmax())
        choices = [(np.full(len(dev), best), np.full(len(test), best))]
        for weight in LADDER:
            choices.append(
                tuple((s[:, :n_agents] + weight * s[:, n_agents:]).argmax(axis=1) for s in (within, outside))
            )
            points.append(
                pd.DataFrame({"price_weight": weight, **bought(1.0 - case.errors, case.dollars, test, choices[-1][1])})
            )
        within_each = [bought(scores, case.dollars, dev, inside) for inside, _ in choices]
        behind = [within_each[0]["accuracy"] - b["accuracy"] for b in within_each]
        enough = [i for i, d in enumerate(behind) if d.mean() <= d.std() / np.sqrt(len(d))]
        taken = choices[min(enough, key=lambda i: within_each[i]["dollars"].mean())][1]
        differences.append(
            (
                bought(1.0 - case.errors, case.dollars, test, taken),
                bought(1.0 - case.errors, case.dollars, test, choices[0][1]),
            )
        )
        agents.append(best)
    got, had = ({key: np.concatenate([d[i][key] for d in differences]) for key in differences[0][i]} for i in (0, 1))
    tested = np.concatenate([test for _, test in held_out(case, folds, random_state)[0]])
    alone = pd.DataFrame({
        "agent": case.agents,
        "accuracy": 1.0 - case.errors[tested].mean(axis=0),
        "dollars": 1000 * case.dollars[tested].mean(axis=0),
    })  # fmt: skip
    return PriceCurve(
        pd.concat(points).groupby("price_weight", as_index=False).mean(), alone,
        case.agents[int(np.bincount(agents).argmax())],
        interval(had["dollars"] - got["dollars"]),
        float(1.0 - got["dollars"].sum() / had["dollars"].sum()),
        interval(got["accuracy"] - had["accuracy"]),
    )  # fmt: skip


def bought(scores: NDArray, dollars: NDArray, rows: NDArray, routes: NDArray) -> dict[str, NDArray]:
    """Per row: score of the agent asked, and its dollars times 1,000."""
    return {"accuracy": scores[rows, routes], "dollars": 1000 * dollars[rows, routes]}
