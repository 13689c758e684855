"""Many methods on one routing problem, over seeds, as one tidy table: what the experiment chapters share.

`tune` chooses the setting of every method (they stand in `methods`) on the validation rows of a `Problem`, `compare`
measures what was chosen on its test rows, for one problem per seed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from l2d_utils import choose as choosing
from l2d_utils import methods as table
from l2d_utils.data import Split
from l2d_utils.metrics import deferral_loss, measured
from l2d_utils.results import joined, tidy
from l2d_utils.routers import DeferralRouter


class Problem(NamedTuple):
    """One routing problem.

    X: (n, d) features. costs: (n, K). split: row numbers of the train, validation and test parts. What some methods
    need besides (`methods.Method.needs`): expected (n, K), costs given all that could be known (for simulated experts:
    given the label); labels (n,), what it is known from; dollars (n, K) per request; task (n,), the kind of each input.
    """

    X: NDArray
    costs: NDArray[np.float64]
    split: Split
    expected: NDArray[np.float64] | None = None
    labels: NDArray[np.int64] | None = None
    dollars: NDArray[np.float64] | None = None
    task: NDArray | None = None


@dataclass(frozen=True, eq=False)
class Tuned:
    """A fitted router, the offsets (K,) added to its scores, and what validation chose: the numbers of its setting,
    those of them on the edge of their grid, and the loss there."""

    router: Any
    offsets: NDArray[np.float64]
    chosen: dict[str, float]
    edges: tuple[str, ...]
    validation_loss: float

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores plus offsets, (n, K)."""
        return self.router.decision_function(X) + self.offsets

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Agent index per row, (n,)."""
        return self.decision_function(X).argmax(axis=1)


def tune(keys: Iterable[str], problem: Problem, **fit: Any) -> dict[str, Tuned]:
    """Fit every setting of the trained and moved methods on the training rows, and choose one on the validation rows:
    key → tuned router. fit: every, ridge_factor, ridge and solver of `fit_method`.

    A moved router shares the fits of its base and takes the setting that is best together with its offsets. Raises
    ValueError for a control or a score (nothing to tune), or if a field of the problem that a method needs is None.
    """
    wanted, tuned = [_checked(key, problem) for key in keys], {}
    for base in dict.fromkeys(method.base or method.key for method in wanted):
        settings, fitted = fit_method(table.find(base), problem, **fit)
        for method in wanted:
            if base in (method.key, method.base):
                tuned[method.key] = choose_setting(method, settings, fitted, problem)
    return {method.key: tuned[method.key] for method in wanted}


def _checked(key: str, problem: Problem) -> table.Method:
    method = table.find(key)
    for need in method.needs:
        if getattr(problem, need, None) is None:
            raise ValueError(f"{key!r} needs Problem.{need}; found None")
    return method


def fit_method(
    method: table.Method, problem: Problem, every: int = 1, ridge_factor: float = 1.0, ridge: float | None = None,
    solver: Mapping[str, Any] | None = None,
) -> tuple[list[dict[str, Any]], list[Any]]:  # fmt: skip
    """Settings of a trained router (every, ridge_factor: as in `methods.settings`), with a fit on the training rows.

    ridge: one strength for every setting (times ridge_factor), to see what a method does when it is *not* tuned.
    solver: parameters of the estimators that have them: tol, warm_start, random_state.
    """
    if method.make is None:
        raise ValueError(f"{method.key!r} is no router that can be tuned")
    rows, estimator = problem.split.train, method.make()
    known = estimator.get_params()
    estimator.set_params(**{name: value for name, value in (solver or {}).items() if name in known})
    if method.key == "mild_free":
        return _free_margins(estimator, problem, ridge_factor)

    def allowed(setting: Mapping[str, Any]) -> bool:  # at most half of the rows are neighbours
        neighbours = (value for name, value in setting.items() if name.endswith("n_neighbors"))
        return max(neighbours, default=0) <= max(5, len(rows) // 2)

    # a thinned grid may hold no number of neighbours that few training rows allow: then the whole grid is taken
    thinned, whole = ([*filter(allowed, table.settings(method, step, ridge_factor))] for step in (every, 1))
    settings = thinned or whole
    if ridge is not None:  # nearest neighbours have none
        fixed = [{**s, "l2": ridge * ridge_factor} if "l2" in s else s for s in settings]
        settings = [s for i, s in enumerate(fixed) if s not in fixed[:i]]
    more = {need: getattr(problem, need)[rows] for need in method.needs}
    return settings, choosing.fit_settings(estimator, settings, problem.X[rows], problem.costs[rows], **more)


def _free_margins(estimator: Any, problem: Problem, ridge_factor: float) -> tuple[list[dict[str, Any]], list[Any]]:
    """The one method without a grid: a ridge strength for two-stage, then 12 moves of single margins."""
    train, held = problem.split.train, problem.split.validation
    rows = problem.X[train], problem.costs[train], problem.X[held], problem.costs[held]
    same = {name: getattr(estimator, name) for name in ("tol", "warm_start", "random_state")}
    ridges = [{"l2": l2 * ridge_factor} for l2 in table.RIDGES]
    l2 = choosing.select(DeferralRouter("two_stage", **same), ridges, *rows).setting["l2"]
    estimator.set_params(l2=l2, warm_start=False)
    found = choosing.search_margins(estimator, *rows, start=np.ones(problem.costs.shape[1]))
    return [{**found.setting, "l2": l2}], [found.best]


def choose_setting(method: table.Method, settings: list[dict[str, Any]], fitted: list[Any], problem: Problem) -> Tuned:
    """The setting that does best on the validation rows. fitted: per setting, the router or the base that is moved; of
    them `decision_function` is used."""
    held = problem.split.validation
    costs = problem.costs[held]
    scores = {id(router): router.decision_function(problem.X[held]) for router in fitted}
    if method.offsets is None:
        found = choosing.choose(settings, fitted, lambda f: deferral_loss(costs, scores[id(f)].argmax(axis=1)))
        return Tuned(found.best, np.zeros(costs.shape[1]), choosing.numbers(found.setting), found.edges, found.loss)
    moved = {id(router): method.offsets(scores[id(router)], costs, problem) for router in fitted}
    found = choosing.choose(settings, fitted, lambda f: moved[id(f)].chosen_by)
    at = moved[id(found.best)]
    chosen = choosing.numbers(found.setting) | {f"offset/{k}": float(b) for k, b in enumerate(at.offsets, 1)}
    return Tuned(found.best, at.offsets, chosen, found.edges, at.loss)


def routed(keys: Sequence[str], problem: Problem, tuned: Mapping[str, Tuned]) -> dict[str, NDArray[np.int64]]:
    """Routes of the test rows by method, in the order of the keys: tuned routers and controls; (n,), or (r, n)."""
    test, routes = problem.split.test, {}
    for key in keys:
        control = None if key in tuned else _checked(key, problem)
        if control and control.route is None:
            raise ValueError(f"{key!r} is neither tuned nor a control")
        routes[key] = control.route(problem, test) if control else tuned[key].predict(problem.X[test])
    return routes


def measure(costs: ArrayLike, routes: ArrayLike) -> list[dict[str, Any]]:
    """Records metric, agent, value: deferral_loss; share and regret of every agent, counted from 1 as in the papers.

    An agent that is best on no row has no regret: its record is left out. Of routes (r, n) the mean over r is taken.
    """
    parts = [measured(costs, r) for r in np.atleast_2d(routes)]
    loss, shares, regret = (np.mean(found, axis=0) for found in zip(*parts, strict=True))
    by_agent = [(metric, k, v) for metric, of in (("share", shares), ("regret", regret)) for k, v in enumerate(of, 1)]
    more = [{"metric": m, "agent": k, "value": float(v)} for m, k, v in by_agent if np.isfinite(v)]
    return [{"metric": "deferral_loss", "value": float(loss)}, *more]


def records(costs: ArrayLike, routes: Mapping[str, NDArray], tuned: Mapping[str, Tuned]) -> list[dict[str, Any]]:
    """Rows for `results.tidy`: test measures of every routing; validation loss and chosen parameters of the tuned."""
    rows: list[dict[str, Any]] = []
    for key, to in routes.items():
        rows += [{"split": "test", "method": key, **record} for record in measure(costs, to)]
        if key not in tuned:
            continue
        held = {"split": "validation", "method": key}
        rows.append(held | {"metric": "deferral_loss", "value": tuned[key].validation_loss})
        for name, value in tuned[key].chosen.items():
            rows.append(held | {"metric": "chosen", "parameter": name, "value": value})
            if name in tuned[key].edges:
                rows.append(held | {"metric": "edge", "parameter": name, "value": 1.0})
    return rows


def tune_and_measure(keys: Sequence[str], problem: Problem, **fit: Any) -> tuple[dict[str, Tuned], list[dict]]:
    """`tune` of the trained and moved methods, and the `records` of all, controls among them."""
    tuned = tune([key for key in keys if table.find(key).route is None], problem, **fit)
    return tuned, records(problem.costs[problem.split.test], routed(keys, problem, tuned), tuned)


def compare(
    keys: Sequence[str], problem_of: Callable[[int], Problem], seeds: Iterable[int], *, every: int = 1,
    ridge_factor: float = 1.0, solver: Mapping[str, Any] | None = None, **constants: Any,
) -> pd.DataFrame:  # fmt: skip
    """Tune every method on validation rows and measure it on test rows, for one problem per seed.

    keys: methods of the table: trained, moved, or controls. problem_of: seed → Problem; the seed should decide
    everything random: split, experts, training. every, ridge_factor, solver: as in `fit_method`; every router gets the
    seed as its random_state. constants: entries of other tidy columns, for example notebook="06", n=500.

    Returns a tidy frame. Test: deferral_loss; share and regret by agent. Validation: deferral_loss at the chosen
    setting; "chosen" by parameter, and "edge" where a chosen value lies on the edge.
    """
    fit, parts = {"every": every, "ridge_factor": ridge_factor}, []
    for seed in seeds:
        _, rows = tune_and_measure(keys, problem_of(seed), **fit, solver={**(solver or {}), "random_state": seed})
        parts.append(tidy(rows, seed=seed, **constants))
    return joined(parts)
