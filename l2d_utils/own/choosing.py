"""Choosing a router by cross-validation inside the development rows, or else the best single agent.  [ours]"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import ConvergenceWarning

from l2d_utils import tuning
from l2d_utils.metrics import best_single
from l2d_utils.routers import PlugInRouter
from l2d_utils.rules import route

#: Candidates: the simple peers, both papers' losses, and each with offsets.
METHODS = (
    *("plug_in", "knn", "two_stage", "mild", "dr_cpe_joint", "margin_dr_cpe"),
    *("plug_in_offsets", "two_stage_offsets", "mild_offsets", "margin_dr_cpe_offsets"),
)
#: Every sixth setting of `tuning.grid`: three per method.
EVERY = 6
#: Rows drawn for choosing; the chosen setting is then fitted on all. From as many rows on, features are float32.
CHOOSE_ROWS = 20_000
#: Rows that a nearest-neighbour router keeps: more would not answer within 5 ms.
KNN_ROWS = 5_000
#: An agent that is below the largest cost on fewer rows than this cannot be learned.
MIN_USEFUL = 10


class Choice(NamedTuple):
    """What cross-validation on the development rows chose.

    `method` ("best_single" if no router beat it beyond noise) and its fitted `router`; `candidate`: the router with
    the smallest validation loss, chosen or not; `trials`: one row per method; `settings`: method → (parameters,
    offsets).
    """

    method: str
    router: BaseEstimator
    candidate: str
    candidate_router: BaseEstimator
    trials: pd.DataFrame
    settings: dict[str, tuple[dict[str, Any], NDArray[np.float64]]]


def grouped_folds(group: ArrayLike, n_folds: int, random_state: int) -> NDArray[np.int64]:
    """Fold number per row, (n,); rows of one group share a fold, and folds are equal up to group sizes."""
    names, codes = np.unique(group, return_inverse=True)
    fold_of = np.random.default_rng(random_state).permutation(np.arange(len(names)) % n_folds)
    return fold_of[codes]


def choose(
    X: ArrayLike,
    costs: ArrayLike,
    *,
    group: ArrayLike | None = None,
    trusted: ArrayLike | None = None,
    methods: Sequence[str] = METHODS,
    every: int = EVERY,
    folds: int = 3,
    random_state: int = 0,
) -> Choice:
    """Choose a router for these (development) rows by cross-validation, or fall back to the best single agent.

    A router is taken if its cross-validated loss is below the best single agent's beyond noise: by a one-sided
    paired test at 5 %, divided by the number of settings tried (Bonferroni), since the best of many tries is compared.

    Args:
        X: (n, d). costs: (n, K).
        group: (n,) rows that must not be separated by a fold. trusted: (n,) bool, rows whose costs were all observed;
            only they are validated on.
        methods, every: as in `tuning.tune`.
    """
    X, costs = np.asarray(X), np.asarray(costs, dtype=np.float64)
    n = len(X)
    group = np.arange(n) if group is None else np.asarray(group)
    trusted = np.ones(n, dtype=bool) if trusted is None else np.asarray(trusted)
    rng = np.random.default_rng(random_state)
    sample = np.arange(n) if n <= CHOOSE_ROWS else np.sort(rng.choice(n, CHOOSE_ROWS, replace=False))
    fold = grouped_folds(group[sample], folds, random_state)
    judged = trusted[sample]
    held, single = costs[sample][judged], best_single(costs)
    alone = held[:, single]
    if ((costs.max() - costs[sample] > 0).sum(axis=0) < MIN_USEFUL).any():
        methods = ()  # an agent that is never any good: there is nothing to choose between

    best: dict[str, tuple] = {}
    tried = 0
    for method, params, scores in _trials(methods, every, X[sample], costs[sample], fold):
        tried += 1
        offsets, loss = np.zeros(costs.shape[1]), None
        if method in tuning.WITH_OFFSETS:
            offsets, loss = tuning.shrunken_offsets(scores[judged], held)
        gain = alone - held[np.arange(len(held)), route(scores[judged], offsets)]
        # the loss of shrunken offsets is cross-validated; their gains row by row are not, and only give the spread
        mean = gain.mean() if loss is None else alone.mean() - loss
        if method not in best or mean > best[method][0]:
            best[method] = (mean, gain.std(ddof=1) / np.sqrt(len(gain)), params, offsets)

    constant = PlugInRouter(regressor=DummyRegressor()).fit(X[sample[:1]], costs.mean(axis=0, keepdims=True))
    limit = stats.norm.ppf(1 - 0.05 / max(tried, 1))
    rows = [("best_single", "", alone.mean(), 0.0, 0.0)]
    rows += [(m, _words(p), alone.mean() - g, g, g - limit * e) for m, (g, e, p, _) in best.items()]
    trials = pd.DataFrame(rows, columns=["method", "setting", "validation_loss", "gain", "gain_at_least"])
    if not best:
        return Choice("best_single", constant, "best_single", constant, trials, {})
    candidate = max(best, key=lambda m: best[m][0])
    mean, error, params, offsets = best[candidate]
    router = fitted_router(candidate, params, X, costs, sample).with_offsets(offsets)
    chosen = ("best_single", constant) if mean - limit * error <= 0 else (candidate, router)
    settings = {m: (params, offsets) for m, (_, _, params, offsets) in best.items()}
    return Choice(*chosen, candidate, router, trials, settings)


def _trials(
    methods: Sequence[str], every: int, X: NDArray, costs: NDArray, fold: NDArray
) -> Iterator[tuple[str, dict[str, Any], NDArray]]:
    """(method, params, cross-validated scores (n, K)); a method with offsets shares the scores of its base."""
    for base in dict.fromkeys(tuning.WITH_OFFSETS.get(m, m) for m in methods):
        users = [m for m in methods if tuning.WITH_OFFSETS.get(m, m) == base]
        for params in tuning.candidates(base, every)[1]:
            if base == "knn" and params["regressor"].n_neighbors > min(KNN_ROWS, len(X)) // 3:
                continue
            scores = cross_validated(base, params, X, costs, fold)
            for user in users:
                yield user, params, scores


def cross_validated(method: str, params: dict[str, Any], X: NDArray, costs: NDArray, fold: NDArray) -> NDArray:
    """Scores (n, K), each from a fit that never saw the row's fold."""
    scores = np.empty(costs.shape)
    for k in np.unique(fold):
        train = np.flatnonzero(fold != k)
        fitted = fitted_router(method, params, X[train], costs[train], np.arange(len(train)))
        scores[fold == k] = fitted.decision_function(X[fold == k])
    return scores


def fitted_router(method: str, params: dict[str, Any], X: NDArray, costs: NDArray, sample: NDArray) -> BaseEstimator:
    estimator, _ = tuning.candidates(tuning.WITH_OFFSETS.get(method, method))
    if method == "knn":
        X, costs = X[sample[:KNN_ROWS]], costs[sample[:KNN_ROWS]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # validation judges what came out
        return clone(estimator).set_params(**params).fit(X, costs)


def _words(params: dict[str, Any]) -> str:
    """Parameters in a few words: "gamma 0.35, ridge 1"."""
    parts = [f"{name} {value:g}" for name, value in (params.get("loss_params") or {}).items()]
    if "regressor" in params:
        parts.append(f"{params['regressor'].n_neighbors} neighbours")
    if "l2" in params:
        parts.append(f"ridge {params['l2']:.2g}")
    return ", ".join(parts)
