"""Choosing a router by cross-validation inside the development rows, or else the best single agent.  [ours]"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import ConvergenceWarning

from l2d_utils import choose as tuner
from l2d_utils import methods as table
from l2d_utils.data import Split
from l2d_utils.metrics import best_single
from l2d_utils.own.counting import standard_error
from l2d_utils.rules import route
from l2d_utils.studies.compare import Problem

#: Every sixth setting of a method: three each.
EVERY = 6
#: Gradient tolerance of the fits.
TOL = 1e-4
#: Rows drawn for choosing; the chosen setting is then fitted on all. From as many rows on, features are float32.
CHOOSE_ROWS = 20_000
#: Rows that a nearest-neighbour router keeps: more would not answer within 5 ms.
KNN_ROWS = 5_000
#: An agent that is below the largest cost on fewer rows than this cannot be learned.
MIN_USEFUL = 10


class Trial(NamedTuple):
    """A method with a setting and offsets (K,), and its cross-validated gain over the best single agent, in errors per
    row, with the gain's standard error."""

    method: str
    gain: float
    error: float
    setting: dict[str, Any]
    offsets: NDArray[np.float64]


class Choice(NamedTuple):
    """What cross-validation on the development rows chose.

    `method` ("best_single" if no router beat it beyond noise) and its fitted `router`; `single`: the router that sends
    everything to the best single agent; `candidate`: the one with the smallest validation loss, chosen or not;
    `trials`: one row per method; `settings`: the best trial of each.
    """

    method: str
    router: BaseEstimator
    single: BaseEstimator
    candidate: str
    candidate_router: BaseEstimator
    trials: pd.DataFrame
    settings: dict[str, Trial]


def candidates() -> list[str]:
    """Methods of the table that stand in "own" and can be trained on features and costs alone."""
    found = [table.find(key) for key in table.standing_in(table.OWN)]
    return [m.key for m in found if (m.make or m.base) and not m.needs]


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
    methods: Sequence[str] | None = None,
    every: int = EVERY,
    folds: int = 3,
    random_state: int = 0,
) -> Choice:
    """Choose a router for these (development) rows by cross-validation, or fall back to the best single agent.

    A router is taken if its cross-validated loss is below the best single agent's beyond noise: by a one-sided
    paired test at 5 %, divided by the number of settings tried (Bonferroni), since the best of many tries is compared.
    Rows of one group count as one draw.

    Args:
        X: (n, d). costs: (n, K).
        group: (n,) rows that must not be separated by a fold. trusted: (n,) bool, rows whose costs were all observed;
            only they are validated on.
        methods: by default all `candidates`. every: as in `methods.settings`.
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
    methods = candidates() if methods is None else methods
    if not _learnable(costs, sample, fold):
        methods = ()  # an agent that is never any good: there is nothing to choose between

    rows = np.flatnonzero(judged)
    problem = Problem(X[sample], costs[sample], Split(np.arange(len(sample)), rows, rows[:0]))
    tried, best = 0, {}
    for method, settings, scores in _scored(methods, every, problem, fold):
        trials = [
            _trial(method, s, x[judged], problem, single, group[sample][judged])
            for s, x in zip(settings, scores, strict=True)
        ]
        best[method.key] = tuner.choose(settings, trials, lambda trial: -trial.gain).best
        tried += len(trials)

    alone = held[:, single].mean()
    plug_in = table.find("plug_in").make(regressor=DummyRegressor())
    constant = plug_in.fit(X[sample[:1]], costs.mean(axis=0, keepdims=True))
    limit = stats.norm.ppf(1 - 0.05 / max(tried, 1))
    rows = [("best_single", "", alone, 0.0, 0.0)]
    rows += [(m, _words(t.setting), alone - t.gain, t.gain, t.gain - limit * t.error) for m, t in best.items()]
    trials = pd.DataFrame(rows, columns=["method", "setting", "validation_loss", "gain", "gain_at_least"])
    if not best:
        return Choice("best_single", constant, constant, "best_single", constant, trials, {})
    leader = max(best.values(), key=lambda trial: trial.gain)
    router = fitted_router(leader, X, costs, sample)
    chosen = (leader.method, router) if leader.gain - limit * leader.error > 0 else ("best_single", constant)
    return Choice(*chosen, constant, leader.method, router, trials, best)


def _learnable(costs: NDArray, sample: NDArray, fold: NDArray) -> bool:
    """Whether every agent is below the largest cost often enough, and at all in the training part of every fold."""
    if ((costs.max() - costs[sample] > 0).sum(axis=0) < MIN_USEFUL).any():
        return False
    parts = (costs[sample][fold != k] for k in np.unique(fold))
    return all(len(part) and (part < part.max()).any(axis=0).all() for part in parts)


def _scored(
    methods: Sequence[str], every: int, problem: Problem, fold: NDArray
) -> Iterator[tuple[table.Method, list[dict[str, Any]], list[NDArray]]]:
    """(method, settings, cross-validated scores (n, K) of each); a moved router shares the scores of its base."""
    wanted = [_trainable(key) for key in methods]
    for base in dict.fromkeys(method.base or method.key for method in wanted):
        settings = table.settings(table.find(base), every)
        settings = [s for s in settings if s.get("regressor__n_neighbors", 0) <= min(KNN_ROWS, len(fold)) // 3]
        scores = []
        for setting in list(settings):
            try:
                scores.append(cross_validated(base, setting, problem.X, problem.costs, fold))
            except ValueError:  # costs so far apart that its weights vanish: it cannot be had at this price
                settings.remove(setting)
        for method in wanted:
            if settings and base in (method.key, method.base):
                yield method, settings, scores


def _trainable(key: str) -> table.Method:
    method = table.find(key)
    if not (method.make or method.base):
        raise ValueError(f"{key!r} is no router that is trained on features and costs")
    if method.needs:
        raise ValueError(f"{key!r} needs {method.needs[0]} to be trained, which a table of one's own does not bring")
    return method


def _trial(
    method: table.Method, setting: dict[str, Any], scores: NDArray, problem: Problem, single: int, group: NDArray
) -> Trial:
    held = problem.costs[problem.split.validation]
    alone = held[:, single]
    moved = method.offsets(scores, held, problem) if method.offsets else None
    offsets = np.zeros(held.shape[1]) if moved is None else moved.offsets
    gain = alone - held[np.arange(len(held)), route(scores, offsets)]
    # the loss of shrunken offsets is cross-validated; their gains row by row are not, and only give the spread
    mean = gain.mean() if moved is None else alone.mean() - moved.chosen_by
    return Trial(method.key, mean, standard_error(gain, group)[0], setting, offsets)


def cross_validated(method: str, setting: Mapping[str, Any], X: NDArray, costs: NDArray, fold: NDArray) -> NDArray:
    """Scores (n, K) of a trained method, each from a fit that never saw the row's fold."""
    scores = np.empty(costs.shape)
    for k in np.unique(fold):
        train = np.flatnonzero(fold != k)
        fitted = fit(method, setting, X[train], costs[train], np.arange(len(train)))
        scores[fold == k] = fitted.decision_function(X[fold == k])
    return scores


def fitted_router(trial: Trial, X: NDArray, costs: NDArray, sample: NDArray) -> BaseEstimator:
    """The router of a trial, fitted on all rows and moved by its offsets."""
    return fit(table.find(trial.method).base or trial.method, trial.setting, X, costs, sample).with_offsets(
        trial.offsets
    )


def fit(method: str, setting: Mapping[str, Any], X: NDArray, costs: NDArray, sample: NDArray) -> BaseEstimator:
    """A trained method with a setting; one that keeps its training rows gets the first `KNN_ROWS` of the sample."""
    estimator = clone(table.find(method).make())
    solver = {"tol": TOL} if "tol" in estimator.get_params() else {}
    if "regressor__n_neighbors" in setting:
        X, costs = X[sample[:KNN_ROWS]], costs[sample[:KNN_ROWS]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # validation judges what came out
        return estimator.set_params(**solver, **setting).fit(X, costs)


def _words(setting: Mapping[str, Any]) -> str:
    """A setting in a few words: "gamma 0.35, ridge 1"."""
    values = tuner.numbers(setting)
    ridge = [f"ridge {values.pop('l2'):.2g}"] if "l2" in values else []
    words = [f"{v:g} neighbours" if name.endswith("n_neighbors") else f"{name} {v:g}" for name, v in values.items()]
    return ", ".join(words + ridge)
