"""THE tuner: settings in, the setting with the smallest held-out loss out.

Nothing here sees test rows. Ties go to the first setting, so put the plainest first. A choice on the edge of its grid
is named, so that a table can say so: a wider grid might have given something better.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from l2d_utils.metrics import deferral_loss


class Chosen(NamedTuple):
    """`best` fitted thing, its `setting` and held-out `loss`; all `losses` in the order of the settings; `edges`: the
    parameters whose chosen value is the smallest or the largest of at least three that were tried."""

    best: Any
    setting: dict[str, Any]
    loss: float
    losses: list[float]
    edges: tuple[str, ...]


def choose(settings: Sequence[Mapping[str, Any]], fitted: Iterable[Any], loss: Callable[[Any], float]) -> Chosen:
    """Of the things that were fitted, one per setting, keep the one with the smallest held-out loss.

    Args:
        settings: parameters of each. fitted: what they gave, in the same order; a generator is used up lazily.
        loss: held-out loss of a fitted thing, smaller is better.

    Raises:
        ValueError: no settings; a loss that is not a number (the setting is named).

    Example:
        >>> choose([{"l2": 1.0}, {"l2": 2.0}, {"l2": 3.0}], iter("abc"), loss="acb".index).setting
        {'l2': 1.0}
    """
    best, losses = None, []
    for setting, thing in zip(settings, fitted, strict=True):
        losses.append(float(loss(thing)))
        if np.isnan(losses[-1]):
            raise ValueError(f"the held-out loss of the setting {dict(setting)} is not a number")
        if best is None or losses[-1] < best[2]:
            best = thing, dict(setting), losses[-1]
    if best is None:
        raise ValueError("settings is empty: nothing to choose from")
    chosen, tried = numbers(best[1]), [numbers(setting) for setting in settings]
    values = {name: {t[name] for t in tried if name in t} for name in chosen}
    edges = tuple(n for n, found in values.items() if len(found) > 2 and chosen[n] in (min(found), max(found)))
    return Chosen(*best, losses, edges)


def numbers(setting: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among the parameters, those of the loss included; margins as margin/1, margin/2, ..."""
    flat = {name: value for name, value in setting.items() if name != "loss_params"}
    flat |= setting.get("loss_params") or {}
    margins = flat.pop("margins", ())
    flat |= {f"margin/{k}": rho for k, rho in enumerate(margins, 1)}
    return {name: float(v) for name, v in flat.items() if isinstance(v, (int, float, np.number))}


def fit_settings(
    estimator: BaseEstimator, settings: Sequence[Mapping[str, Any]], X: NDArray, costs: NDArray, **rows: Any
) -> list[BaseEstimator]:
    """A fitted clone per setting, in the order of the settings.

    An estimator with warm_start=True is fitted along a path: the parameters of the loss in their order, the strongest
    ridge first, each started where its neighbour ended. The losses are convex in a linear router's weights, so the
    start decides how long a fit takes and not, to within the solver's tolerance, where it goes.

    Args:
        rows: what else the estimator's `fit` takes (see `methods.Method.needs`).
    """
    if not estimator.get_params().get("warm_start"):
        return [clone(estimator).set_params(**setting).fit(X, costs, **rows) for setting in settings]
    fitted: dict[int, BaseEstimator] = {}
    at_ridge: dict[float, BaseEstimator] = {}
    neighbour = estimator
    # loss parameters in their given order; within each, the strongest ridge first
    seen = [repr(s.get("loss_params")) for s in settings]
    for i in sorted(range(len(settings)), key=lambda i: (seen.index(seen[i]), -settings[i]["l2"])):
        # a shallow copy keeps the neighbour's weights to start from; fit leaves the neighbour itself alone
        router = copy.copy(at_ridge.get(settings[i]["l2"], neighbour))
        router.set_params(**{"loss_params": None, **settings[i]}).fit(X, costs, **rows)
        neighbour = at_ridge[router.l2] = fitted[i] = router
    return [fitted[i] for i in range(len(settings))]


def select(
    estimator: BaseEstimator, settings: Sequence[Mapping[str, Any]],
    X: ArrayLike, costs: ArrayLike, X_held: ArrayLike, costs_held: ArrayLike,
) -> Chosen:  # fmt: skip
    """`choose` among the settings of one estimator: the smallest deferral loss on the held-out rows."""
    fitted = fit_settings(estimator, settings, np.asarray(X), np.asarray(costs))
    return choose(settings, fitted, lambda router: deferral_loss(costs_held, router.predict(X_held)))


def search_margins(
    estimator: BaseEstimator, X: ArrayLike, costs: ArrayLike, X_held: ArrayLike, costs_held: ArrayLike, *,
    start: ArrayLike, steps: tuple[float, ...] = (1.5, 1.2),
) -> Chosen:  # fmt: skip
    """Free search over one margin per agent: try ρ_k·step and ρ_k/step in turn, keep what helps held out.  [ours]

    Args:
        estimator: a router with the loss "mild_free".
        start: (K,) first margins; the result is never worse on the held-out rows.
        steps: factors, coarse to fine; one pass over the agents each, so 1 + 2·K·len(steps) fits in all.
    """

    def attempt(candidates: list[NDArray]) -> Chosen:
        settings = [{"loss_params": {"margins": tuple(m.tolist())}} for m in candidates]
        return select(estimator, settings, X, costs, X_held, costs_held)

    best = attempt([np.asarray(start, dtype=np.float64)])
    losses = list(best.losses)
    for step in steps:
        for moved in np.eye(len(np.asarray(start)), dtype=bool):
            margins = np.asarray(best.setting["loss_params"]["margins"])
            tried = attempt([np.where(moved, margins * factor, margins) for factor in (step, 1.0 / step)])
            losses += tried.losses
            best = min(best, tried, key=lambda found: found.loss)
    return best._replace(losses=losses)
