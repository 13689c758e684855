"""What a routing achieved: deferral loss, shares, regret, exact deferral curves, intervals and paired differences.

A routing is `routes[n]`, the agent index of each input. Every number says on which rows it was taken: pass test rows.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from l2d_utils.validate import check_costs, check_same_rows


def _check_routes(routes: ArrayLike, n_agents: int, n: int | None = None) -> NDArray[np.int64]:
    routes = np.asarray(routes)
    if routes.ndim != 1 or len(routes) == 0 or n not in (None, len(routes)):
        raise ValueError(f"routes must be (n,){'' if n is None else f' with n = {n}'}; found shape {routes.shape}")
    bad = ~((routes >= 0) & (routes < n_agents) & (routes == np.floor(routes)))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"routes must be agent indices below {n_agents}; row {row} is {routes[row]}")
    return routes.astype(np.int64)


def routed_costs(costs: ArrayLike, routes: ArrayLike) -> NDArray[np.float64]:
    """c_{r(x)}(x, y) per row, shape (n,)."""
    costs = check_costs(costs)
    return costs[np.arange(len(costs)), _check_routes(routes, costs.shape[1], len(costs))]


def deferral_loss(costs: ArrayLike, routes: ArrayLike) -> float:
    """Mean cost of the routing, in errors.  [prior: the target loss of both papers]

    Example:
        >>> deferral_loss([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.5]], routes=[0, 1, 0, 1])
        0.375
    """
    return float(routed_costs(costs, routes).mean())


def deferral_ratios(routes: ArrayLike, n_agents: int) -> NDArray[np.float64]:
    """Share of the inputs that each agent receives, (K,).

    Example:
        >>> deferral_ratios([0, 1, 0, 0], n_agents=3)
        array([0.75, 0.25, 0.  ])
    """
    return np.bincount(_check_routes(routes, n_agents), minlength=n_agents) / len(routes)


def best_agents(costs: ArrayLike) -> NDArray[np.float64]:
    """(n, K) weights, each row summing to 1: the cheapest agents of the row, ties sharing equally."""
    return _best_agents(check_costs(costs))


def _best_agents(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    best = costs == costs.min(axis=1, keepdims=True)
    return best / best.sum(axis=1, keepdims=True)


def regret_by_agent(costs: ArrayLike, routes: ArrayLike) -> NDArray[np.float64]:
    """Mean cost lost on the inputs where agent k was best, (K,); inputs with several best agents count for each in
    equal parts. NaN for an agent that is never best.  [ours]

    Σ_k (weight of agent k)·regret_k + oracle loss = deferral loss.

    Example:
        >>> regret_by_agent([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], routes=[0, 0, 1])
        array([0. , 0.5])
    """
    return measured(costs, routes)[2]


def measured(costs: ArrayLike, routes: ArrayLike) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Deferral loss, shares (K,) and regrets (K,) of one routing: see the functions of these names."""
    costs = check_costs(costs)
    routes = _check_routes(routes, costs.shape[1], len(costs))
    taken, weight = costs[np.arange(len(costs)), routes], _best_agents(costs)
    with np.errstate(invalid="ignore", divide="ignore"):
        regret = (weight * (taken - costs.min(axis=1))[:, None]).sum(axis=0) / weight.sum(axis=0)
    return float(taken.mean()), np.bincount(routes, minlength=costs.shape[1]) / len(routes), regret


def random_loss(costs: ArrayLike) -> float:
    """Expected deferral loss of uniform random routing (exact, nothing is drawn)."""
    return float(check_costs(costs).mean())


def best_single(costs: ArrayLike) -> int:
    """The agent with the smallest mean cost. Choose it on training or validation rows, not on test rows."""
    return int(check_costs(costs).mean(axis=0).argmin())


class DeferralCurve(NamedTuple):
    """`rate` (n+1,) fraction deferred, 0 to 1; `cost` (n+1,) mean cost of the system at that rate."""

    rate: NDArray[np.float64]
    cost: NDArray[np.float64]

    @property
    def area(self) -> float:
        """Mean cost over all deferral rates (trapezoids; exact, since the curve is piecewise linear)."""
        return float(np.trapezoid(self.cost, self.rate))

    def cost_at(self, rate: ArrayLike) -> NDArray[np.float64]:
        """Mean cost at given deferral rates in [0, 1], interpolated between the exact points."""
        return np.interp(rate, self.rate, self.cost)


def deferral_curve(scores: ArrayLike, model_cost: ArrayLike, expert_cost: ArrayLike) -> DeferralCurve:
    """The exact n+1 points of deferring the highest scores first; a block of ties is shared out evenly.

    Point i is the expected mean cost when exactly i of n inputs are deferred. Shapes: scores (n,), ±inf allowed and NaN
    not, and the costs of the two agents on the same rows, (n,) each.

    Example:
        >>> curve = deferral_curve([0.9, 0.1], model_cost=[1.0, 0.0], expert_cost=[0.0, 0.0])
        >>> curve.rate, curve.cost, curve.area
        (array([0. , 0.5, 1. ]), array([0.5, 0. , 0. ]), 0.125)
    """
    return _curve(scores, check_costs(np.column_stack([model_cost, expert_cost])))


def _curve(scores: ArrayLike, costs: NDArray[np.float64]) -> DeferralCurve:
    scores = np.asarray(scores, dtype=np.float64)
    check_same_rows(scores=scores, costs=costs)
    if scores.ndim != 1:
        raise ValueError(f"scores must be (n,); found shape {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError(f"scores must not be NaN; row {int(np.isnan(scores).argmax())} is")
    n, order = len(scores), np.argsort(-scores, kind="stable")
    change = (costs[:, 1] - costs[:, 0])[order]
    starts = np.concatenate([[True], scores[order][1:] != scores[order][:-1]])
    block = np.cumsum(starts) - 1
    tied_mean = np.bincount(block, weights=change) / np.bincount(block)
    total = costs[:, 0].sum() + np.concatenate([[0.0], np.cumsum(tied_mean[block])])
    return DeferralCurve(np.arange(n + 1) / n, total / n)


def gap_closed(scores: ArrayLike, model_cost: ArrayLike, expert_cost: ArrayLike) -> float:
    """Share of the area between random and oracle deferral that the scores close: 0 random, 1 oracle, < 0 worse.
    ValueError if the oracle gains nothing over random (the cost difference is the same on every row).

    Example:
        >>> gap_closed([0.9, 0.7, 0.5, 0.1], model_cost=[1, 0, 1, 0], expert_cost=[0, 0, 0, 0])
        0.5
    """
    costs = check_costs(np.column_stack([model_cost, expert_cost]))
    rankings = (scores, costs[:, 0] - costs[:, 1], np.zeros(len(costs)))
    area, oracle, random = (_curve(ranking, costs).area for ranking in rankings)
    if random - oracle <= 1e-15:
        raise ValueError("the cost difference of the two agents is the same on every row: there is no gap to close")
    return float((random - area) / (random - oracle))


class Interval(NamedTuple):
    """Mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside, so that the sign of the mean is decided."""
        return self.low > 0 or self.high < 0


def interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean and Student-t interval over independent repeats (seeds).  Shape (r,), r ≥ 2.

    Example:
        >>> [round(v, 3) for v in interval([0.20, 0.22, 0.21])]
        [0.21, 0.185, 0.235]
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values must be at least 2 finite numbers; found shape {values.shape}")
    mean = float(values.mean())
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def paired(values: ArrayLike, baseline: ArrayLike) -> Interval:
    """Interval of the mean of values − baseline over the same seeds. For losses, below 0 is better.

    Seeds that share their test rows are not fully independent, so the interval speaks of the training variation.

    Example:
        >>> paired([0.20, 0.22, 0.21], baseline=[0.25, 0.28, 0.25]).excludes_zero
        True
    """
    values, baseline = np.asarray(values, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    check_same_rows(values=values, baseline=baseline)
    return interval(values - baseline)
