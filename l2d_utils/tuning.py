"""Choosing hyperparameters on a validation split, with the same number of settings for every method.

Nothing here sees test rows. Ties go to the first setting of the grid, so put the plainest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from l2d_utils.costs import effective_counts, reward_weights
from l2d_utils.losses import PRESETS, margins_from_counts
from l2d_utils.metrics import deferral_loss
from l2d_utils.routers import DeferralRouter


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
