"""Warm starts change the time of a fit, not its result."""

import numpy as np
import pytest

from l2d_utils import ridge_path, tuning
from l2d_utils.routers import DeferralRouter


def toy(seed=0, n=150):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6)) * [1, 2, 3, 1, 1, 1] + 5
    costs = (rng.random((n, 3)) < 1 / (1 + np.exp(X[:, :3] - 5))).astype(float)
    return X, costs


@pytest.mark.parametrize("method", ["two_stage", "mild", "ldam", "one_vs_all", "dr_cpe_joint"])
def test_the_path_ends_where_single_fits_end(method):
    (X, costs), (Xv, costs_v) = toy(), toy(1)
    settings = tuning.grid(method)
    settings = [s for s in settings if s["l2"] >= 1e-2]
    path = ridge_path.select_on_path(settings, X, costs, Xv, costs_v, tol=1e-7)
    single = tuning.select(DeferralRouter(tol=1e-7), settings, X, costs, Xv, costs_v)
    assert [p for p, _ in path.trials] == [p for p, _ in single.trials]
    np.testing.assert_allclose([v for _, v in path.trials], [v for _, v in single.trials], atol=1e-12)
    assert path.params == single.params and path.loss == single.loss
    np.testing.assert_allclose(path.best.decision_function(Xv), single.best.decision_function(Xv), atol=1e-4)


def test_fits_go_from_strong_ridge_to_weak_and_ties_to_the_first_setting():
    settings = [{"loss": "mild", "loss_params": {"gamma": g}, "l2": l2} for g in (0.0, 0.3) for l2 in (0.1, 1.0)]
    assert ridge_path._fit_order(settings) == [1, 0, 3, 2]
    X, costs = toy()
    twice = [{"loss": "two_stage", "l2": 0.1}, {"loss": "global_temperature", "loss_params": {"rho": 1.0}, "l2": 0.1}]
    assert ridge_path.select_on_path(twice, X, costs, X, costs, tol=1e-6).params["loss"] == "two_stage"
