"""Routing among language models: dollars, splits of prompts, RouteLLM's measures, and every method on one table.

`problem_at_price` turns a routing table into a `Problem` at one price weight; `study` compares methods on many splits
at many price weights.
"""

import json
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from l2d_utils import metrics, validate
from l2d_utils.cache import keep
from l2d_utils.choose import choose
from l2d_utils.costs import costs_from_scores, default_dollar_unit
from l2d_utils.data import DataError, RoutingTable, Split, data_folder
from l2d_utils.methods import find, fingerprint
from l2d_utils.results import joined, tidy
from l2d_utils.rules import offsets_for_costs, route
from l2d_utils.studies.compare import Problem, fit_method, tune_and_measure

#: How exactly the routers of these studies are fitted (see `compare.fit_method`).
SOLVER = {"tol": 1e-4}


def list_prices(name: str) -> dict[str, float]:
    """Agent → dollars per million output tokens, from ``$L2D_DATA_DIR/routing/<name>_prices.json`` (FileNotFoundError;
    DataError if it is no JSON object of {"output": dollars} per agent)."""
    path = (data_folder() or Path("$L2D_DATA_DIR")) / "routing" / f"{name}_prices.json"
    if not path.is_file():
        raise FileNotFoundError(f"no price list: {path} is expected")
    try:
        prices = json.loads(path.read_bytes())
        return {agent: validate.check_positive("output", entry["output"]) for agent, entry in prices.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f'{path} must map each agent to {{"output": dollars per million tokens}} ({error})') from None


def with_list_prices(table: RoutingTable, prices: Mapping[str, float], tokens: float = 1000.0) -> RoutingTable:
    """The table with dollars filled in from list prices, every answer counted as `tokens` tokens: an assumption, for
    tables that do not record what each answer cost. prices: agent → dollars per million tokens; ValueError if an agent
    of the table has none.  [ours]"""
    if missing := [agent for agent in table.agents if agent not in prices]:
        raise ValueError(f"prices has no entry for the agent {missing[0]!r}")
    per_request = np.array([prices[agent] for agent in table.agents]) * validate.check_positive("tokens", tokens) / 1e6
    return replace(table, dollars=np.tile(per_request, (len(table.prompts), 1)))


def problem_at_price(table: RoutingTable, X: ArrayLike, split: Split, price_weight: float) -> Problem:
    """Features (n, d) and costs at a price weight (dollar unit: that of the training rows), with dollars and tasks."""
    unit = None if table.dollars is None else default_dollar_unit(table.dollars[split.train])
    costs = costs_from_scores(table.scores, table.dollars, price_weight=price_weight, dollar_unit=unit)
    return Problem(np.asarray(X), costs, split, dollars=table.dollars, task=table.task)


def spending(table: RoutingTable, rows: NDArray, routes: NDArray) -> tuple[float, float]:
    """What routes (m,) of some rows (m,) buy and cost: mean score of the agents asked, dollars per 1,000 requests."""
    return float(table.scores[rows, routes].mean()), float(1000 * table.dollars[rows, routes].mean())


def frontier(
    router: Any, table: RoutingTable, X: ArrayLike, split: Split, price_weights: Iterable[float]
) -> pd.DataFrame:
    """One trained router at many price weights, by the offsets that minimise the validation costs at each: columns
    price_weight, and of the test rows accuracy and dollars (per 1,000 requests). Nothing is retrained.  [ours]"""
    held, scores = (router.decision_function(X[rows]) for rows in (split.validation, split.test))
    points = []
    for weight in price_weights:
        costs = problem_at_price(table, X, split, weight).costs[split.validation]
        routes = route(scores, offsets_for_costs(held, costs))
        points.append((weight, *spending(table, split.test, routes)))
    return pd.DataFrame(points, columns=["price_weight", "accuracy", "dollars"])


def gap_to_oracle(loss: ArrayLike, single: ArrayLike, oracle: ArrayLike) -> NDArray[np.float64]:
    """Share of the way from the best single agent (0) to the oracle (1) that a deferral loss covers; < 0 is worse."""
    loss, single, oracle = (np.asarray(values, dtype=np.float64) for values in (loss, single, oracle))
    if (single <= oracle).any():
        raise ValueError("the best single agent is as good as the oracle: there is no gap to close")
    return (single - loss) / (single - oracle)


def resplit(table: RoutingTable, *, validation: float, random_state: int) -> Split:
    """The table's own test rows (ValueError if it marks none), and a fresh random draw of `validation` (a fraction) of
    all other rows."""
    marked = np.zeros(len(table.prompts), dtype=bool) if table.split is None else table.split == "test"
    if not marked.any() or marked.all():
        raise ValueError(f"{table.name} has no split into 'test' and other rows")
    others = np.random.default_rng(random_state).permutation(np.flatnonzero(~marked))
    size = round(validation * len(others))
    return Split(np.sort(others[size:]), np.sort(others[:size]), np.flatnonzero(marked))


def folds(table: RoutingTable, n_folds: int, *, validation: float, random_state: int = 0) -> list[Split]:
    """`n_folds` splits whose test parts are disjoint and cover the table, spread evenly over the tasks: differences
    between folds carry the variation of the test rows too."""
    rng, splits = np.random.default_rng(random_state), []
    by_task = rng.permutation(len(table.prompts))
    if table.task is not None:
        by_task = by_task[np.argsort(table.task[by_task], kind="stable")]
    for fold in range(n_folds):
        others = np.delete(by_task, np.s_[fold::n_folds])
        held = rng.random(len(others)) < validation
        splits.append(Split(np.sort(others[~held]), np.sort(others[held]), np.sort(by_task[fold::n_folds])))
    return splits


def study(
    table: RoutingTable, splits: Sequence[Split], features: Callable[[Split], NDArray], price_weights: Iterable[float],
    methods: Sequence[str], folder: str | Path, *, every: int = 1, ridge: float | None = None,
    say: Callable[[str], None] | None = print, **constants: Any,
) -> pd.DataFrame:  # fmt: skip
    """All methods on all splits (their numbers are the seeds) and price weights: a tidy frame as of `compare.compare`,
    with the price weight as `setting`.

    What is finished is kept in `folder`, one part per problem and family of methods (a trained one and those that move
    it; all controls): a study that was stopped goes on from there, and a method that is added costs only its own parts.

    features: split → X (n, d), fitted on its training rows only. methods: keys of trained ones, moved ones, controls.
    every, ridge: as in `compare.fit_method`. constants: entries of other tidy columns.
    """
    families: dict[str, list[str]] = {}
    for key in methods:
        method = find(key)
        families.setdefault("controls" if method.route else method.base or key, []).append(key)
    parts, price_weights = [], list(price_weights)
    for seed, split in enumerate(splits):
        X = features(split)
        for weight in price_weights:
            problem = problem_at_price(table, X, split, weight)
            for family, keys in families.items():
                how = {"keys": keys, "entries": fingerprint(keys), "every": every, "ridge": ridge}
                name = f"{table.name} w={weight:g} split {seed} {family}"
                part = keep(folder, _part, say=say, name=name, problem=problem, **how)
                parts.append(part.assign(data=table.name, seed=seed, setting=f"{weight:g}", **constants))
    return joined(parts)


def _part(name: str, problem: Problem, keys: list[str], entries: list, **fit: Any) -> pd.DataFrame:
    """One part of a study. `name` is for the kept file, `entries` of the table of methods for its key."""
    return tidy(tune_and_measure(keys, problem, **fit, solver=SOLVER)[1])


#: Average performance gap recovered, in gaps; call-performance thresholds, fractions.
CallPerformance = namedtuple("CallPerformance", "apgr cpt50 cpt80")


def call_performance(scores: ArrayLike, weak: ArrayLike, strong: ArrayLike) -> CallPerformance:
    """RouteLLM's measures from the exact deferral curve.  [prior: Ong et al. 2024, RouteLLM]

    The performance gap recovered at a rate r of calls to the strong model is PGR(r) = (quality(r) − weak) /
    (strong − weak). APGR is its mean over r in [0, 1] (random routing: 0.5); CPT(x) is the smallest rate at which
    PGR reaches x (random routing: x). Raises ValueError if the strong model is not better on average.

    scores: (n,) higher goes to the strong model sooner. weak, strong: (n,) quality of the two answers in [0, 1].
    """
    weak, strong = np.asarray(weak, dtype=np.float64), np.asarray(strong, dtype=np.float64)
    curve = metrics.deferral_curve(scores, 1.0 - weak, 1.0 - strong)
    gap = curve.cost[0] - curve.cost[-1]
    if gap <= 0:
        raise ValueError(f"the strong model must be better on average; its lead is {gap:.4g}")
    recovered = (curve.cost[0] - curve.cost) / gap

    def first_rate(target: float) -> float:  # where the piecewise linear curve first reaches it
        j = int(np.argmax(recovered >= target - 1e-12))  # 0.8 of a gap is seldom a round number in binary
        share = (target - recovered[j - 1]) / (recovered[j] - recovered[j - 1])
        return float(curve.rate[j - 1] + share * (curve.rate[j] - curve.rate[j - 1]))

    return CallPerformance(float((curve.cost[0] - curve.area) / gap), first_rate(0.5), first_rate(0.8))


def strongest_calls(
    methods: Sequence[str], problem: Problem, tests: Mapping[str, tuple[NDArray, NDArray, NDArray]],
    entries: Sequence[Any] = (),
) -> pd.DataFrame:  # fmt: skip
    """RouteLLM's measures of trained methods on two models, model 0 weak and model 1 strong, as a tidy frame.

    Settings are chosen by APGR on the validation rows: no operating point, hence no offsets, plays a part.

    problem: costs (n, 2) are errors. tests: name → (X, weak, strong): features and the two models' qualities of the
    rows to be measured. entries: `methods.fingerprint` of the methods, for the key where the result is kept.
    """

    def calls(router: Any, X: NDArray, weak: NDArray, strong: NDArray) -> CallPerformance:
        return call_performance(np.diff(router.decision_function(X))[:, 0], weak, strong)

    held, rows = problem.split.validation, []
    for key in methods:
        settings, fitted = fit_method(find(key), problem, solver=SOLVER)
        found = choose(settings, fitted, lambda r: -calls(r, problem.X[held], *(1.0 - problem.costs[held]).T).apgr)
        rows.append({"split": "validation", "method": key, "metric": "apgr", "value": -found.loss})
        for name, test in tests.items():
            about = {"split": "test", "method": key, "setting": name}
            rows += [about | {"metric": m, "value": v} for m, v in calls(found.best, *test)._asdict().items()]
    return tidy(rows)
