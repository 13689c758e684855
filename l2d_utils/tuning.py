"""Choosing hyperparameters on a validation split, with the same number of settings for every method.

`select` chooses among settings, `tune` among the settings of many methods, with and without offsets,
`search_margins` searches margins freely. Nothing here sees test rows. Ties go to the first setting of the grid, so put
the plainest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsRegressor

from l2d_utils.costs import effective_counts, reward_weights
from l2d_utils.losses import PRESETS, margins_from_counts
from l2d_utils.metrics import deferral_loss
from l2d_utils.neighbours import NeighbourRouter
from l2d_utils.routers import DeferralRouter, PlugInRouter
from l2d_utils.rules import offsets_for_costs, route
from l2d_utils.validate import check_costs, check_matrix


class Selection(NamedTuple):
    """`best` fitted estimator, its `params`, its validation deferral `loss`, and `trials` [(params, loss), …]."""

    best: BaseEstimator
    params: dict[str, Any]
    loss: float
    trials: list[tuple[dict[str, Any], float]]


def select(
    estimator: BaseEstimator,
    settings: Iterable[Mapping[str, Any]],
    X: ArrayLike,
    costs: ArrayLike,
    X_validation: ArrayLike,
    costs_validation: ArrayLike,
) -> Selection:
    """Fit a clone per setting on the training rows; keep the smallest deferral loss on the validation rows.

    Raises:
        ValueError: no settings.
    """
    best, trials = None, []
    for params in settings:
        fitted = clone(estimator).set_params(**params).fit(X, costs)
        loss = deferral_loss(costs_validation, fitted.predict(X_validation))
        trials.append((dict(params), loss))
        if best is None or loss < best[2]:
            best = (fitted, dict(params), loss)
    if best is None:
        raise ValueError("settings is empty: nothing to choose from")
    return Selection(*best, trials)


#: Ridge strengths that every grid below starts from.
L2 = (1e-2, 1e-1, 1.0)

_FIVE_PARAMS: dict[str, list[dict[str, float]]] = {
    # γ on both sides of 0; γ = 0 is one global temperature
    "mild": [{"gamma": g} for g in (0.0, 0.15, 0.35, -0.15, -0.35)],
    "global_temperature": [{"rho": r} for r in (1.0, 0.5, 0.25, 2.0, 4.0)],
    "class_balanced": [{"beta": b} for b in (0.9, 0.99, 0.999, 0.9999, 0.99999)],
    "focal": [{"gamma": g} for g in (0.25, 0.5, 1.0, 2.0, 4.0)],
    "ldam": [{"max_shift": s} for s in (0.1, 0.25, 0.5, 1.0, 2.0)],
    "logit_adjustment": [{"tau": t} for t in (0.1, 0.25, 0.5, 1.0, 1.5)],
    "vs": [{"gamma": g, "tau": t} for g, t in ((0.1, 0.0), (0.2, 0.0), (0.1, 0.25), (0.2, 0.25), (0.2, 0.5))],
    "dr_cpe_joint": [{"temperature": t} for t in (1.0, 0.3, 0.1, 3.0, 10.0)],
    "dr_cpe_marginal": [{"temperature": t} for t in (1.0, 0.3, 0.1, 3.0, 10.0)],
    "margin_dr_cpe": [
        {"temperature": t, "gamma": g} for t, g in ((0.3, 0.0), (0.3, 0.2), (0.3, -0.2), (1.0, 0.2), (1.0, -0.2))
    ],
}
#: Presets without a hyperparameter of their own get as many settings through a finer ridge grid.
_RIDGE_ONLY = tuple(np.geomspace(1e-3, 10.0, 15).tolist())


def grid(loss: str) -> list[dict[str, Any]]:
    """15 settings of `DeferralRouter` for a preset: 3 ridge strengths × 5 parameters, or 15 ridge strengths.

    Raises:
        ValueError: unknown preset, or "mild_free", whose margins `search_margins` chooses.
    """
    if loss not in PRESETS:
        raise ValueError(f"loss must be one of {sorted(PRESETS)}; found {loss!r}")
    if loss == "mild_free":
        raise ValueError("mild_free has no grid: its margins are found by search_margins")
    if loss in _FIVE_PARAMS:
        return [{"loss": loss, "loss_params": params, "l2": l2} for params in _FIVE_PARAMS[loss] for l2 in L2]
    return [{"loss": loss, "l2": l2} for l2 in _RIDGE_ONLY]


def plug_in_grid() -> list[dict[str, Any]]:
    """The plug-in router's 15 settings."""
    return [{"l2": l2} for l2 in _RIDGE_ONLY]


def search_margins(
    X: ArrayLike,
    costs: ArrayLike,
    X_validation: ArrayLike,
    costs_validation: ArrayLike,
    *,
    start: ArrayLike,
    l2: float = 1e-3,
    steps: tuple[float, ...] = (1.5, 1.2),
    **router_params: Any,
) -> Selection:
    """Free search over one margin per agent: try ρ_k·step and ρ_k/step in turn, keep what helps on validation.  [ours]

    Args:
        start: (K,) first margins, for example the best of the power law; the result is never worse on validation.
        steps: factors, coarse to fine; one pass over the agents each, so 1 + 2·K·len(steps) fits in all.
        router_params: further arguments of `DeferralRouter`.
    """
    margins = np.asarray(start, dtype=np.float64)
    estimator = DeferralRouter("mild_free", l2=l2, **router_params)

    def attempt(candidates: list[NDArray]) -> Selection:
        settings = [{"loss_params": {"margins": tuple(m.tolist())}} for m in candidates]
        return select(estimator, settings, X, costs, X_validation, costs_validation)

    best = attempt([margins])
    trials = list(best.trials)
    for step in steps:
        for agent in range(len(margins)):
            moves = []
            for factor in (step, 1.0 / step):
                moved = np.asarray(best.params["loss_params"]["margins"])
                moved[agent] *= factor
                moves.append(moved)
            tried = attempt(moves)
            trials += tried.trials
            if tried.loss < best.loss:
                best = tried
    return best._replace(trials=trials)


def power_law_margins(costs: ArrayLike, gamma: float, scale: float = 1.0) -> NDArray[np.float64]:
    """ρ_k = scale·(m_k/m_max)^γ from a training cost table: where `search_margins` starts."""
    return margins_from_counts(effective_counts(reward_weights(costs)), scale, gamma)


#: A method with offsets and the method whose scores it moves.
WITH_OFFSETS = {
    "neighbour_dr_cpe_offsets": "neighbour_dr_cpe",
    "knn_offsets": "knn",
    "two_stage_offsets": "two_stage",
    "mild_offsets": "mild",
    "dr_cpe_offsets": "dr_cpe_joint",
    "margin_dr_cpe_offsets": "margin_dr_cpe",
    "plug_in_offsets": "plug_in",
}


@dataclass(frozen=True, eq=False)
class TunedRouter:
    """A fitted router, the offsets (K,) added to its scores, and how it was chosen on validation rows."""

    router: BaseEstimator
    offsets: NDArray[np.float64]
    params: dict[str, Any]
    validation_loss: float

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores plus offsets, (n, K)."""
        return self.router.decision_function(X) + self.offsets

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Agent index per row, (n,)."""
        return self.decision_function(X).argmax(axis=1)


#: Neighbours of the k-nearest-neighbour router, at most half of the training rows.
NEIGHBOURS = (5, 10, 15, 20, 30, 40, 50, 60, 80, 100, 120, 160, 200, 250, 300)


def candidates(method: str, every: int = 1) -> tuple[BaseEstimator, list[dict[str, Any]]]:
    """The estimator of a method and its 15 settings (`grid`), or every `every`-th of them.

    Thinning starts at the third, so that with every=3 (five settings) or 6 (three) the presets that have a parameter
    of their own keep its values at the strongest ridge, and the others keep weak, middling and strong ridges.
    """
    start = 0 if every == 1 else 2
    if method == "plug_in":
        return PlugInRouter(), plug_in_grid()[start::every]
    if method == "knn":
        return PlugInRouter(), [{"regressor": KNeighborsRegressor(k)} for k in NEIGHBOURS[start::every]]
    if method == "neighbour_dr_cpe":
        sizes = ((k, t) for t in (1.0, 0.3, 3.0) for k in NEIGHBOURS[2::3])
        return NeighbourRouter(), [{"n_neighbors": k, "temperature": t} for k, t in sizes][start::every]
    return DeferralRouter(tol=1e-4), grid(method)[start::every]


#: How far offsets are moved from 0 towards the best ones of the validation rows.
SHRINKAGE = (0.0, 0.25, 0.5, 0.75, 1.0)


def shrunken_offsets(
    scores: ArrayLike, costs: ArrayLike, folds: int = 5, random_state: int = 0
) -> tuple[NDArray[np.float64], float]:
    """Offsets t·b: b minimises the loss on these rows, t in `SHRINKAGE` is chosen by cross-validation.  [ours]

    Fitted offsets are chosen to be good on their own rows. For t every row is judged by offsets that were fitted on
    the other folds; t = 0 leaves the router alone.

    Returns:
        (K,) offsets, and the cross-validated deferral loss of the chosen t.
    """
    scores, costs = check_matrix("scores", scores), check_costs(costs)
    routes = np.empty((len(SHRINKAGE), len(scores)), dtype=np.int64)
    for fit, judge in KFold(folds, shuffle=True, random_state=random_state).split(scores):
        offsets = offsets_for_costs(scores[fit], costs[fit])
        for row, t in zip(routes, SHRINKAGE, strict=True):
            row[judge] = route(scores[judge], t * offsets)
    losses = [deferral_loss(costs, row) for row in routes]
    t = SHRINKAGE[int(np.argmin(losses))]
    return t * offsets_for_costs(scores, costs) if t else np.zeros(scores.shape[1]), min(losses)


def _neighbours(setting: Mapping[str, Any]) -> int:
    return setting["regressor"].n_neighbors if "regressor" in setting else setting.get("n_neighbors", 0)


def tune(
    methods: Iterable[str],
    X: ArrayLike,
    costs: ArrayLike,
    X_validation: ArrayLike,
    costs_validation: ArrayLike,
    *,
    every: int = 1,
    l2: float | None = None,
) -> dict[str, TunedRouter]:
    """Fit every method's settings on the training rows and choose one on the validation rows.

    A plain method takes the setting of the smallest validation loss. A method with offsets (`WITH_OFFSETS`) shares
    the fits of its base and takes the setting whose cross-validated loss with `shrunken_offsets` is smallest.

    Args:
        methods: presets of `losses.PRESETS`, "plug_in", "knn", "neighbour_dr_cpe", or keys of `WITH_OFFSETS`.
        every: thins all grids alike (see `candidates`).
        l2: one ridge strength for every setting, to see what a method does when the ridge is *not* tuned.

    Returns:
        method → tuned router.
    """
    X, costs_validation = np.asarray(X), check_costs(costs_validation)
    methods = list(methods)
    tuned: dict[str, TunedRouter] = {}

    def keep_better(method: str, found: TunedRouter) -> None:
        if method not in tuned or found.validation_loss < tuned[method].validation_loss:
            tuned[method] = found

    for base in dict.fromkeys(WITH_OFFSETS.get(method, method) for method in methods):
        moved = [method for method in methods if WITH_OFFSETS.get(method) == base]
        estimator, settings = candidates(base, every)
        settings = [setting for setting in settings if _neighbours(setting) <= max(NEIGHBOURS[0], len(X) // 2)]
        if l2 is not None:  # nearest neighbours have none
            fixed = [{**setting, "l2": l2} if "l2" in setting else setting for setting in settings]
            settings = [setting for i, setting in enumerate(fixed) if setting not in fixed[:i]]
        for params in settings:
            router = clone(estimator).set_params(**params).fit(X, costs)
            scores = router.decision_function(X_validation)
            if base in methods:
                loss = deferral_loss(costs_validation, scores.argmax(axis=1))
                keep_better(base, TunedRouter(router, np.zeros(scores.shape[1]), dict(params), loss))
            for method in moved:
                offsets, loss = shrunken_offsets(scores, costs_validation)
                keep_better(method, TunedRouter(router, offsets, dict(params), loss))
    return {method: tuned[method] for method in methods}
