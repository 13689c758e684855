"""Choosing a router by cross-validation inside the development rows, or else the best single agent.  [ours]"""

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
from l2d_utils.costs import UselessAgent
from l2d_utils.data import Split
from l2d_utils.metrics import best_single
from l2d_utils.own.counting import standard_error
from l2d_utils.rules import route
from l2d_utils.studies.compare import Problem

#: Every sixth setting of a method: three each. They are compared in three folds.
EVERY, FOLDS = 6, 3
#: Gradient tolerance of the fits.
TOL = 1e-4
#: Rows drawn for choosing; the chosen setting is then fitted on all. From as many rows on, features are float32.
CHOOSE_ROWS = 20_000
#: Rows that a nearest-neighbour router keeps: more would not answer within 5 ms.
KNN_ROWS = 5_000
#: An agent that is below the largest cost on fewer rows than this cannot be learned.
MIN_USEFUL = 12


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


def drawn(rows: NDArray[np.int64], random_state: int) -> NDArray[np.int64]:
    """`CHOOSE_ROWS` of the rows in their order, or all if there are no more."""
    if len(rows) <= CHOOSE_ROWS:
        return rows
    return np.sort(np.random.default_rng(random_state).choice(rows, CHOOSE_ROWS, replace=False))


def choose(
    X: ArrayLike, costs: ArrayLike, *, group: ArrayLike | None = None, trusted: ArrayLike | None = None,
    methods: Sequence[str] | None = None, random_state: int = 0,
) -> Choice:  # fmt: skip
    """Choose a router for these (development) rows by cross-validation, or fall back to the best single agent.

    A router is taken if its cross-validated loss is below the best single agent's beyond noise: by a one-sided
    paired test at 5 %, divided by the number of settings tried (Bonferroni), since the best of many tries is compared.

    Args:
        X: (n, d). costs: (n, K).
        group: (n,) rows that no fold may separate; those of one group count as one draw. trusted: (n,) bool, rows
            whose costs were all observed; only they are validated on. methods: by default all `candidates`; a
            ValueError names one that a table of one's own cannot train.
    """
    X, costs = np.asarray(X), np.asarray(costs, dtype=np.float64)
    sample = drawn(np.arange(len(X)), random_state)
    group = sample if group is None else np.asarray(group)[sample]
    judged = np.arange(len(sample)) if trusted is None else np.flatnonzero(np.asarray(trusted)[sample])
    fold, single = grouped_folds(group, FOLDS, random_state), best_single(costs)
    problem = Problem(X[sample], costs[sample], Split(np.arange(len(sample)), judged, judged[:0]))
    alone, limit, best = problem.costs[judged, single].mean(), 0.0, {}
    constant = table.find("plug_in").make(regressor=DummyRegressor()).fit(X[:1], costs.mean(axis=0, keepdims=True))
    rows = [("best_single", "", alone, 0.0, 0.0)]
    # an agent that is never any good leaves nothing to choose between
    if _learnable(costs.max() - problem.costs, fold):
        tried = list(_tried(candidates() if methods is None else methods, problem, fold, single, group[judged]))
        limit = stats.norm.ppf(1 - 0.05 / max(sum(len(found.losses) for found in tried), 1))
        best = {found.best.method: found.best for found in tried}
        rows += [(m, _words(t.setting), alone - t.gain, t.gain, t.gain - limit * t.error) for m, t in best.items()]
    trials = pd.DataFrame(rows, columns=["method", "setting", "validation_loss", "gain", "gain_at_least"])
    if not best:
        return Choice("best_single", constant, constant, "best_single", constant, trials, {})
    leader = max(best.values(), key=lambda trial: trial.gain)
    router = fitted_router(leader, X, costs, sample)
    chosen = (leader.method, router) if leader.gain - limit * leader.error > 0 else ("best_single", constant)
    return Choice(*chosen, constant, leader.method, router, trials, best)


def _learnable(gains: NDArray, fold: NDArray) -> bool:
    """Whether every agent is below the largest cost often enough, and at all in the training part of every fold."""
    often = ((gains > 0).sum(axis=0) >= MIN_USEFUL).all()
    parts = [gains[fold != k] for k in np.unique(fold)]
    return bool(often) and all(len(part) and (part > part.min()).any(axis=0).all() for part in parts)


def _tried(
    methods: Sequence[str], problem: Problem, fold: NDArray, single: int, group: NDArray
) -> Iterator[tuner.Chosen]:
    """The best trial of each method; a moved router shares the cross-validated scores of its base."""
    wanted = [table.find(key) for key in methods]
    for m in wanted:
        if not (m.make or m.base):
            raise ValueError(f"{m.key!r} is no router that is trained on features and costs")
        if m.needs:
            raise ValueError(f"{m.key!r} needs {m.needs[0]} to be trained, which no table of one's own brings")
    for base in dict.fromkeys(method.base or method.key for method in wanted):
        tried = []
        for setting in table.settings(table.find(base), EVERY):
            if setting.get("regressor__n_neighbors", 0) <= min(KNN_ROWS, len(fold)) // 3:
                try:
                    tried.append((setting, cross_validated(base, setting, problem.X, problem.costs, fold)))
                except UselessAgent:  # costs so far apart that its weights vanish: it cannot be had at this price
                    continue
        for method in wanted:
            if tried and base in (method.key, method.base):
                trials = [_trial(method, setting, scores, problem, single, group) for setting, scores in tried]
                yield tuner.choose([trial.setting for trial in trials], trials, lambda trial: -trial.gain)


def _trial(
    method: table.Method, setting: dict[str, Any], scores: NDArray, problem: Problem, single: int, group: NDArray
) -> Trial:
    judged = problem.split.validation
    held, scores = problem.costs[judged], scores[judged]
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
        inside = fold == k
        scores[inside] = fit(method, setting, X[~inside], costs[~inside]).decision_function(X[inside])
    return scores


def fitted_router(trial: Trial, X: NDArray, costs: NDArray, sample: NDArray | slice = slice(None)) -> BaseEstimator:
    """The router of a trial, fitted on all rows and moved by its offsets."""
    base = table.find(trial.method).base or trial.method
    return fit(base, trial.setting, X, costs, sample).with_offsets(trial.offsets)


def fit(
    method: str, setting: Mapping[str, Any], X: NDArray, costs: NDArray, sample: NDArray | slice = slice(None)
) -> BaseEstimator:
    """A trained method with a setting; one that keeps its training rows gets the first `KNN_ROWS` of the sample."""
    estimator = clone(table.find(method).make())
    solver = {"tol": TOL} if "tol" in estimator.get_params() else {}
    if "regressor__n_neighbors" in setting:
        X, costs = X[sample][:KNN_ROWS], costs[sample][:KNN_ROWS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # validation judges what came out
        return estimator.set_params(**solver, **setting).fit(X, costs)


def _words(setting: Mapping[str, Any]) -> str:
    """A setting in a few words: "gamma 0.35, ridge 1"."""
    values = tuner.numbers(setting)
    ridge = [f"ridge {values.pop('l2'):.2g}"] if "l2" in values else []
    words = [f"{v:g} neighbours" if name.endswith("n_neighbors") else f"{name} {v:g}" for name, v in values.items()]
    return ", ".join(words + ridge)
