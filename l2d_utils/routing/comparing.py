"""Many methods on one routing table: splits, tuned methods beside the controls, and records of what they did."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l2d_utils.data import RoutingTable, Split
from l2d_utils.metrics import best_single, oracle_routes, random_loss
from l2d_utils.studies.compare import Problem, measure
from l2d_utils.tuning import TunedRouter, tune


def resplit(table: RoutingTable, *, validation: float, random_state: int) -> Split:
    """The table's own test rows, and a fresh random draw of `validation` (a fraction) of all other rows.

    Raises:
        ValueError: the table marks no rows as "test".
    """
    marked = np.zeros(len(table.prompts), dtype=bool) if table.split is None else table.split == "test"
    if not marked.any() or marked.all():
        raise ValueError(f"{table.name} has no split into 'test' and other rows")
    others = np.random.default_rng(random_state).permutation(np.flatnonzero(~marked))
    size = round(validation * len(others))
    return Split(np.sort(others[size:]), np.sort(others[:size]), np.flatnonzero(marked))


def folds(table: RoutingTable, n_folds: int, *, validation: float, random_state: int = 0) -> list[Split]:
    """`n_folds` splits whose test parts are disjoint and cover the table, spread evenly over the tasks.

    Every row is tested once, so differences between folds carry the variation of the test rows too.
    """
    tasks = np.zeros(len(table.prompts)) if table.task is None else table.task
    rng = np.random.default_rng(random_state)
    shuffled = rng.permutation(len(tasks))
    by_task = shuffled[np.argsort(tasks[shuffled], kind="stable")]
    splits = []
    for fold in range(n_folds):
        others = np.delete(by_task, np.s_[fold::n_folds])
        held = rng.random(len(others)) < validation
        splits.append(Split(np.sort(others[~held]), np.sort(others[held]), np.sort(by_task[fold::n_folds])))
    return splits


class Evaluation(NamedTuple):
    """`routers` by method, and `routes` (n_test,) by method and control, all for one `problem`."""

    problem: Problem
    routers: dict[str, TunedRouter]
    routes: dict[str, NDArray[np.int64]]

    @property
    def costs(self) -> NDArray[np.float64]:
        """Costs of the test rows, (n_test, K)."""
        return self.problem.costs[self.problem.split.test]


def evaluate(
    methods: Iterable[str],
    problem: Problem,
    *,
    dollars: ArrayLike | None = None,
    every: int = 1,
    l2: float | None = None,
) -> Evaluation:
    """Tune the methods and route the test rows, the controls best single, cheapest and oracle beside them.

    Args:
        dollars: (n, K) per request, for the control "cheapest"; like the best single agent it is chosen on training
            rows.
        every, l2: as in `tuning.tune`.
    """
    train, validation, test = problem.split.train, problem.split.validation, problem.split.test
    rows = (problem.X[train], problem.costs[train], problem.X[validation], problem.costs[validation])
    routers = tune(methods, *rows, every=every, l2=l2)
    routes = {name: router.predict(problem.X[test]) for name, router in routers.items()}
    routes["best_single"] = np.full(len(test), best_single(problem.costs[train]))
    if dollars is not None:
        routes["cheapest"] = np.full(len(test), np.asarray(dollars)[train].mean(axis=0).argmin())
    routes["oracle"] = oracle_routes(problem.costs[test])
    return Evaluation(problem, routers, routes)


def records(found: Evaluation) -> list[dict[str, Any]]:
    """Rows for `results.tidy`, in the terms of `studies.compare`: test metrics of every routing (uniform random
    routing in expectation), and the validation loss of every tuned one."""
    rows = [("test", "random", "deferral_loss", random_loss(found.costs))]
    for method, routes in found.routes.items():
        rows += [("test", method, *item) for item in measure(found.costs, routes).items()]
    rows += [("validation", name, "deferral_loss", router.validation_loss) for name, router in found.routers.items()]
    return [dict(zip(("split", "method", "metric", "value"), row, strict=True)) for row in rows]


def gap_to_oracle(loss: ArrayLike, single: ArrayLike, oracle: ArrayLike) -> NDArray[np.float64]:
    """Share of the way from the best single agent (0) to the oracle (1) that a deferral loss covers; < 0 is worse."""
    single, oracle = np.asarray(single, dtype=np.float64), np.asarray(oracle, dtype=np.float64)
    if (single <= oracle).any():
        raise ValueError("the best single agent is as good as the oracle: there is no gap to close")
    return (single - np.asarray(loss, dtype=np.float64)) / (single - oracle)
