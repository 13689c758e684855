"""The synthetic world's Bayes router, and the batched fits against the estimators that they stand for."""

import numpy as np
import pytest

from l2d_utils.routers import DeferralRouter, PlugInRouter
from l2d_utils.studies import synthetic
from l2d_utils.studies.synthetic import SpecialistMixture, fit_linear, fit_plug_in

WORLD = SpecialistMixture((0.6, 0.3, 0.1), overlap=0.4)


def test_expected_costs_are_the_mean_of_the_observed_ones():
    X, costs = WORLD.sample(200_000, 0)
    expected = WORLD.expected_costs(X)
    for k in range(3):
        # calibration: within a band of predicted cost, the observed mean is the predicted one
        for low in np.linspace(expected[:, k].min(), expected[:, k].max(), 6)[:-1]:
            band = (expected[:, k] >= low) & (expected[:, k] < low + 0.12)
            error = 4 * np.sqrt(0.25 / band.sum())
            assert abs(costs[band, k].mean() - expected[band, k].mean()) < error


def test_no_linear_router_beats_bayes_and_the_bayes_router_is_linear():
    X, _ = WORLD.sample(5_000, 1)
    scores = np.log(WORLD.shares) + WORLD.separation * X[:, :3]
    expected = WORLD.expected_costs(X)
    assert np.array_equal(scores.argmax(axis=1), expected.argmin(axis=1))
    assert expected.min(axis=1).mean() < expected.mean(axis=0).min()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shares": (0.5, 0.6)}, "shares"),
        ({"overlap": 1.0}, "overlap"),
        ({"accuracy": 0.0}, "accuracy"),
        ({"n_features": 2}, "n_features"),
    ],
)
def test_bad_worlds_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SpecialistMixture(**{"shares": (0.6, 0.3, 0.1), **change})


def test_batched_routers_are_the_ones_of_the_estimators():
    data = [WORLD.sample(80, seed) for seed in (0, 1)]
    X, costs = (np.stack(part) for part in zip(*data, strict=True))
    margins, l2 = [[1.0, 0.6, 0.4], [0.7, 0.7, 0.7]], [1e-2, 0.3]
    batch = fit_linear(X, 1.0 - costs, margins, l2)
    plug_in = fit_plug_in(X, costs, l2)
    assert batch.shape == plug_in.shape == (2, 2, 7, 3)
    for i in range(2):
        for s in range(2):
            router = DeferralRouter("mild_free", {"margins": margins[s]}, l2=l2[s], tol=1e-9).fit(X[i], costs[i])
            scores = X[i] @ batch[i, s, :-1] + batch[i, s, -1]
            np.testing.assert_allclose(scores, router.decision_function(X[i]), atol=2e-5)
            ridge = PlugInRouter(l2[s]).fit(X[i], costs[i])
            expected = ridge.decision_function(X[i])
            np.testing.assert_allclose(X[i] @ plug_in[i, s, :-1] + plug_in[i, s, -1], expected, atol=1e-9)


def test_importance_is_a_factor_on_the_weights():
    X, costs = (part[None] for part in WORLD.sample(60, 2))
    factor = np.array([1.0, 2.0, 5.0])
    a = fit_linear(X, 1.0 - costs, 1.0, [0.1], importance=factor)
    b = fit_linear(X, (1.0 - costs) * factor, 1.0, [0.1])
    np.testing.assert_allclose(a, b, atol=1e-9)


def test_unfinished_fits_are_reported(monkeypatch):
    monkeypatch.setattr(synthetic, "MAX_STEPS", 2)
    X, costs = (part[None] for part in WORLD.sample(60, 2))
    with pytest.raises(RuntimeError, match="2 steps"):
        fit_linear(X, 1.0 - costs, 1.0, [1e-3])
