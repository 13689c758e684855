"""Features and a free scorer that follow the nearest training prompts."""

import numpy as np
from sklearn.neighbors import KNeighborsRegressor

from l2d_utils import neighbours
from l2d_utils.routers import PlugInRouter

PROMPTS = [
    f"{('arithmetic', 'poetry', 'law')[i % 3]} question {i} about {'xyz'[i % 3]} and {i % 7} things" for i in range(90)
]


def learnable(seed=0):
    """Training features and costs, test features: agent k is best where feature k is largest."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(300, 3))
    costs = np.clip(0.5 - 0.3 * X + 0.2 * rng.normal(size=X.shape), 0, None)
    return X[:200], costs[:200], X[200:]


def test_kernel_features_know_nothing_of_held_out_scores_or_a_rows_own_score():
    scores = np.random.default_rng(1).random((90, 3))
    train = np.arange(0, 90, 2)
    E = np.random.default_rng(0).normal(size=(90, 8))
    E /= np.linalg.norm(E, axis=1, keepdims=True)

    def features(scores):
        return neighbours.kernel_features(PROMPTS, E, scores, train, dim=10, neighbours=5)

    X = features(scores)
    assert X.shape == (90, 13)
    changed = scores.copy()
    changed[1::2] = 0.0
    np.testing.assert_array_equal(features(changed), X)
    changed[0] = 1.0 - changed[0]
    np.testing.assert_array_equal(features(changed)[0], X[0])
    assert not np.array_equal(features(changed), X)
    assert X[:, 10:].min() >= 0 and X[:, 10:].max() <= 1


def test_neighbour_means_are_those_of_the_nearest_training_rows():
    scores = np.random.default_rng(1).random((40, 3))
    train = np.arange(30)
    E = np.eye(40)
    X = neighbours.kernel_features(["same words here", "other text"] * 20, E, scores, train, dim=2, neighbours=29)
    np.testing.assert_allclose(X[5, 2:], np.delete(scores[:30], 5, axis=0).mean(axis=0))


def test_neighbour_router_is_log_mean_tilt_and_ranks_like_knn_at_large_temperature():
    X, costs, test = learnable()
    router = neighbours.NeighbourRouter(n_neighbors=7, temperature=0.4).fit(X, costs)
    near = np.argsort(((test[0] - X) ** 2).sum(axis=1))[:7]
    expected = np.log(np.exp(-(costs[near] - costs.min()) / 0.4).mean(axis=0))
    np.testing.assert_allclose(router.decision_function(test)[0], expected)
    plain = PlugInRouter(regressor=KNeighborsRegressor(7)).fit(X, costs)
    calm = neighbours.NeighbourRouter(n_neighbors=7, temperature=1e6).fit(X, costs)
    assert np.mean(calm.predict(test) == plain.predict(test)) > 0.99


def test_with_zero_one_costs_the_scores_are_a_monotone_map_of_the_neighbours_errors():
    """exp(−c/λ) = 1 − κc: so every temperature orders the agents alike."""
    X, costs, _ = learnable()
    wrong = (costs > 0.5).astype(float)
    errors = -PlugInRouter(regressor=KNeighborsRegressor(9)).fit(X, wrong).decision_function(X)
    for temperature in (0.2, 1.0, 50.0):
        scores = neighbours.NeighbourRouter(9, temperature).fit(X, wrong).decision_function(X)
        np.testing.assert_allclose(np.exp(scores), np.maximum(1 + np.expm1(-1 / temperature) * errors, 0), atol=1e-12)
