"""RouteLLM's measures for a weak and a strong model: how few calls of the strong one recover how much quality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from l2d_utils.metrics import deferral_curve
from l2d_utils.studies.compare import Problem
from l2d_utils.tuning import candidates


class CallPerformance(NamedTuple):
    """`apgr`: average performance gap recovered, in gaps; `cpt50`, `cpt80`: call-performance thresholds, fractions."""

    apgr: float
    cpt50: float
    cpt80: float


def call_performance(scores: ArrayLike, weak: ArrayLike, strong: ArrayLike) -> CallPerformance:
    """RouteLLM's measures from the exact deferral curve.  [prior: Ong et al. 2024, RouteLLM]

    The performance gap recovered at a rate r of calls to the strong model is PGR(r) = (quality(r) − weak) /
    (strong − weak). APGR is its mean over r in [0, 1] (random routing: 0.5); CPT(x) is the smallest rate at which
    PGR reaches x (random routing: x).

    Args:
        scores: (n,) higher goes to the strong model sooner.
        weak, strong: (n,) quality of the two models' answers in [0, 1].

    Raises:
        ValueError: the strong model is not better on average.
    """
    weak, strong = np.asarray(weak, dtype=np.float64), np.asarray(strong, dtype=np.float64)
    curve = deferral_curve(scores, 1.0 - weak, 1.0 - strong)
    gap = curve.cost[0] - curve.cost[-1]
    if gap <= 0:
        raise ValueError(f"the strong model must be better on average; its lead is {gap:.4g}")
    recovered = (curve.cost[0] - curve.cost) / gap
    return CallPerformance(
        float((curve.cost[0] - curve.area) / gap), *(_first_rate(curve.rate, recovered, x) for x in (0.5, 0.8))
    )


def strongest_calls(
    methods: Iterable[str], problem: Problem, tests: Mapping[str, tuple[NDArray, NDArray, NDArray]]
) -> list[dict[str, Any]]:
    """RouteLLM's measures of methods on two models, model 0 weak and model 1 strong: rows for `results.tidy`.

    Settings are chosen by APGR on the validation rows: no operating point, hence no offsets, plays a part.

    Args:
        problem: costs (n, 2) are errors.
        tests: name → (X, weak, strong): features and the two models' qualities of the rows to be measured.
    """

    def calls(router: BaseEstimator, X: NDArray, weak: NDArray, strong: NDArray) -> CallPerformance:
        scores = router.decision_function(X)
        return call_performance(scores[:, 1] - scores[:, 0], weak, strong)

    split = problem.split
    held = (problem.X[split.validation], *(1.0 - problem.costs[split.validation]).T)
    rows = []
    for method in methods:
        estimator, settings = candidates(method)
        best = None
        for params in settings:
            router = clone(estimator).set_params(**params).fit(problem.X[split.train], problem.costs[split.train])
            reached = calls(router, *held).apgr
            if best is None or reached > best[0]:
                best = (reached, router)
        rows.append({"split": "validation", "method": method, "setting": "", "metric": "apgr", "value": best[0]})
        for name, test in tests.items():
            for metric, value in calls(best[1], *test)._asdict().items():
                rows.append({"split": "test", "method": method, "setting": name, "metric": metric, "value": value})
    return rows


def _first_rate(rate: NDArray, recovered: NDArray, target: float) -> float:
    """Where the piecewise linear curve first reaches `target`."""
    j = int(np.argmax(recovered >= target - 1e-12))  # 0.8 of a gap is seldom a round number in binary
    if j == 0:
        return float(rate[0])
    low, high = recovered[j - 1], recovered[j]
    return float(rate[j - 1] + (target - low) / (high - low) * (rate[j] - rate[j - 1]))
