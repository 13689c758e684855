"""The tuner: the smallest held-out loss, the first of equals, named edges; a warm path ends where cold fits end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2d_utils import choose as c
from l2d_utils import methods
from l2d_utils.costs import margins_from_counts
from l2d_utils.metrics import deferral_loss
from l2d_utils.routers import DeferralRouter


@pytest.fixture(scope="module")
def data():
    """Training and validation features and 0-1 costs."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(240, 3))
    logits = X @ rng.normal(size=(3, 3)) * 2 + [1.5, 0.0, -1.0]
    costs = (rng.random((240, 3)) > 1 / (1 + np.exp(-logits))).astype(float)
    return X[:160], costs[:160], X[160:], costs[160:]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9))
def test_the_smallest_loss_and_the_first_of_equals(losses):
    settings = [{"l2": float(i)} for i in range(len(losses))]
    chosen = c.choose(settings, iter(range(len(losses))), lambda i: losses[i])
    first = losses.index(min(losses))
    assert (chosen.best, chosen.setting, chosen.loss) == (first, settings[first], min(losses))
    assert chosen.losses == losses
    at_the_edge = len(losses) > 2 and first in (0, len(losses) - 1)
    assert chosen.edges == (("l2",) if at_the_edge else ())


def test_edges_are_named_per_parameter():
    settings = [{"loss_params": {"gamma": g}, "l2": l2} for g in (0.0, 0.3, -0.3) for l2 in (0.1, 1.0)]

    def edges(setting):
        return c.choose(settings, settings, lambda s: s != setting).edges

    assert edges(settings[0]) == ()  # γ = 0 lies inside, and two ridges have no inside
    assert edges(settings[3]) == edges(settings[4]) == ("gamma",)
    neighbours = [{"n_neighbors": k} for k in (5, 10, 20)]
    assert c.choose(neighbours, neighbours, lambda s: -s["n_neighbors"]).edges == ("n_neighbors",)


def test_no_settings_or_a_loss_that_is_no_number():
    with pytest.raises(ValueError, match="settings is empty"):
        c.choose([], [], float)
    with pytest.raises(ValueError, match=r"setting \{'l2': 2.0\} is not a number"):
        c.choose([{"l2": 1.0}, {"l2": 2.0}], [0.5, np.nan], float)
    with pytest.raises(ValueError, match="shorter|longer"):  # a fit for each setting
        c.choose([{"l2": 1.0}, {"l2": 2.0}], [0.5], float)


def test_numbers_of_a_setting():
    setting = {"loss_params": {"margins": (1.0, 0.5), "kind": "a"}, "l2": 0.1, "regressor__n_neighbors": np.int64(5)}
    assert c.numbers(setting) == {"l2": 0.1, "regressor__n_neighbors": 5.0, "margin/1": 1.0, "margin/2": 0.5}


def test_select_keeps_the_smallest_validation_loss(data):
    estimator, settings = DeferralRouter(max_iter=500), [{"l2": v} for v in (10.0, 1e-2, 1.0)]
    chosen = c.select(estimator, settings, *data)
    losses = [
        deferral_loss(data[3], DeferralRouter(max_iter=500, **s).fit(*data[:2]).predict(data[2])) for s in settings
    ]
    assert chosen.losses == losses and chosen.setting == settings[int(np.argmin(losses))]
    assert deferral_loss(data[3], chosen.best.predict(data[2])) == chosen.loss == min(losses)
    assert estimator.l2 == 1e-3 and not hasattr(estimator, "scorer_")  # left alone


@pytest.mark.parametrize("key", ["two_stage", "mild", "ldam", "one_vs_all", "dr_cpe_joint"])
def test_a_warm_path_ends_where_single_fits_end(key, data):
    X, costs, X_held, costs_held = data
    settings = [s for s in methods.settings(methods.find(key)) if s["l2"] >= 1e-2][::2]
    estimator = methods.find(key).make().set_params(tol=1e-7)
    cold = c.fit_settings(estimator, settings, X, costs)
    warm = c.fit_settings(estimator.set_params(warm_start=True), settings, X, costs)
    assert [(r.l2, r.loss_params) for r in warm] == [(r.l2, r.loss_params) for r in cold]
    for a, b in zip(cold, warm, strict=True):
        np.testing.assert_allclose(b.decision_function(X_held), a.decision_function(X_held), atol=1e-4)
    first, second = (
        c.choose(settings, fitted, lambda r: deferral_loss(costs_held, r.predict(X_held))) for fitted in (cold, warm)
    )
    assert first.setting == second.setting and first.loss == second.loss


def test_a_path_fits_each_setting_once_from_strong_ridge_to_weak(data, monkeypatch):
    settings = [{"loss_params": {"gamma": g}, "l2": l2} for g in (0.0, 0.3) for l2 in (0.1, 1.0)]
    fit, order = DeferralRouter.fit, []

    def noted(self, X, costs):
        order.append((self.loss_params["gamma"], self.l2))
        return fit(self, X, costs)

    monkeypatch.setattr(DeferralRouter, "fit", noted)
    fitted = c.fit_settings(DeferralRouter("mild", warm_start=True), settings, *data[:2])
    assert order == [(0.0, 1.0), (0.0, 0.1), (0.3, 1.0), (0.3, 0.1)]
    assert [(r.loss_params["gamma"], r.l2) for r in fitted] == [(0.0, 0.1), (0.0, 1.0), (0.3, 0.1), (0.3, 1.0)]
    assert len({id(r.scorer_) for r in fitted}) == 4  # no fit writes over a neighbour's weights


def test_search_margins_is_never_worse_than_its_start(data):
    start = margins_from_counts((data[1].max() - data[1]).sum(axis=0), gamma=0.3)
    kept = start.copy()
    estimator = DeferralRouter("mild_free", l2=0.1)
    found = c.search_margins(estimator, *data, start=start)
    np.testing.assert_array_equal(start, kept)
    assert len(found.losses) == 1 + 2 * 3 * 2  # the start, then two moves for each agent and step
    assert found.loss == min(found.losses) <= found.losses[0]
    again = DeferralRouter("mild_free", **found.setting, l2=0.1).fit(data[0], data[1])
    assert deferral_loss(data[3], again.predict(data[2])) == found.loss
    only = c.select(estimator, [{"loss_params": {"margins": tuple(start)}}], *data)
    assert only.loss == found.losses[0]
