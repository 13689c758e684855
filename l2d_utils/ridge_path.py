"""One linear router under many settings, each fit started where its neighbour ended.

The losses are convex in a linear router's weights, so the start decides how long a fit takes and not where it goes
(to within the solver's tolerance). From a strong ridge to a weak one the solutions lie close together, and at one
ridge strength those of neighbouring loss parameters do too.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike

from l2d_utils.metrics import deferral_loss
from l2d_utils.routers import DeferralRouter
from l2d_utils.tuning import Selection


def _fit_order(settings: Sequence[Mapping[str, Any]]) -> list[int]:
    """Loss parameters in their given order; within each, the strongest ridge first."""
    seen = [repr((s["loss"], s.get("loss_params"))) for s in settings]
    first = {name: i for i, name in reversed(list(enumerate(seen)))}
    return sorted(range(len(settings)), key=lambda i: (first[seen[i]], -settings[i]["l2"]))


def select_on_path(
    settings: Sequence[Mapping[str, Any]],
    X: ArrayLike,
    costs: ArrayLike,
    X_validation: ArrayLike,
    costs_validation: ArrayLike,
    *,
    tol: float,
    random_state: int = 0,
) -> Selection:
    """What `tuning.select` does for linear routers, with warm starts: the smallest validation loss wins, then the
    first of the settings.

    settings: `loss`, `loss_params` (optional) and `l2` of each. tol, random_state: of `DeferralRouter`.
    """
    fitted: dict[int, tuple[DeferralRouter, float]] = {}
    at_ridge: dict[float, DeferralRouter] = {}
    neighbour = DeferralRouter(tol=tol, random_state=random_state, warm_start=True)
    for i in _fit_order(settings):
        # a shallow copy keeps the neighbour's weights to start from; fit leaves the neighbour itself alone
        router = copy.copy(at_ridge.get(settings[i]["l2"], neighbour))
        router.set_params(**{"loss_params": None, **settings[i]}).fit(X, costs)
        neighbour = at_ridge[router.l2] = router
        fitted[i] = router, deferral_loss(costs_validation, router.predict(X_validation))
    best = min(range(len(settings)), key=lambda i: (fitted[i][1], i))
    trials = [(dict(params), fitted[i][1]) for i, params in enumerate(settings)]
    return Selection(fitted[best][0], dict(settings[best]), fitted[best][1], trials)
