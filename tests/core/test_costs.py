import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from l2d_utils import costs as c

TABLES = st.tuples(st.integers(1, 12), st.integers(2, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(0, 10, width=32))
)


def test_costs_from_predictions_by_hand():
    got = c.costs_from_predictions(
        [[0, 1, 2], [1, 1, 0]], [0, 1], error_cost=[1.0, 2.0, 1.0], price=[0.0, 0.1, 0.5]
    )  # fmt: skip
    np.testing.assert_allclose(got, [[0.0, 2.1, 1.5], [0.0, 0.1, 1.5]], rtol=1e-15)


@pytest.mark.parametrize(
    "predictions, labels, options, message",
    [
        ([[0, 1]], [0, 1], {}, "predictions has 1, labels has 2"),
        ([0, 1], [0, 1], {}, r"predictions must be \(n, K\)"),
        ([[0, 1]], [[0]], {}, r"labels \(n,\)"),
        ([[0]], [0], {}, "at least 2 agents"),
        ([[0, 1]], [0], {"price": [-1.0, 0.0]}, "row 0, agent 0 is -1.0"),
        ([[0, 1]], [0], {"price": [1.0, 0.0, 0.0]}, "price must be one number or 2"),
        ([[0, 1]], [0], {"error_cost": np.nan}, "error_cost"),
    ],
)
def test_costs_from_predictions_bad_input(predictions, labels, options, message):
    with pytest.raises(ValueError, match=message):
        c.costs_from_predictions(predictions, labels, **options)


def test_costs_from_scores_by_hand():
    scores, dollars = [[1.0, 0.25]], [[0.01, 0.04]]
    np.testing.assert_allclose(c.costs_from_scores(scores), [[0.0, 0.75]])
    np.testing.assert_allclose(c.costs_from_scores(scores, dollars, price_weight=0.2), [[0.05, 0.95]])
    got = c.costs_from_scores(scores, dollars, price_weight=0.2, dollar_unit=0.02)
    np.testing.assert_allclose(got, [[0.1, 1.15]])
    assert c.default_dollar_unit([[1.0, 5.0], [3.0, 1.0]]) == 3.0


@pytest.mark.parametrize(
    "scores, dollars, options, message",
    [
        ([[0.5, 1.5]], None, {}, "row 0, agent 1 is 1.5"),
        ([[0.5, -0.1]], None, {}, "row 0, agent 1 is -0.1"),
        ([[0.5, 0.5]], None, {"price_weight": 0.1}, "needs dollars"),
        ([[0.5, 0.5]], [[1.0, 1.0]], {"price_weight": -0.1}, "price_weight"),
        ([[0.5, 0.5]], [[1.0, 1.0]], {"price_weight": np.nan}, "price_weight"),
        ([[0.0, 0.0]], [[-0.1, 1.0]], {"price_weight": 0.1}, "dollars must be non-negative; row 0, agent 0"),
        ([[0.5, 0.5]], [[1.0, 1.0]], {"price_weight": 0.1, "dollar_unit": 0.0}, "dollar_unit"),
        ([[0.5, 0.5]], [[1.0, 1.0]], {"price_weight": 0.1, "dollar_unit": -1.0}, "dollar_unit"),
        ([[0.5, 0.5]], [[0.0, 0.0]], {"price_weight": 0.1}, "no price unit"),
        ([[0.5, 0.5]], [[1.0, 1.0, 1.0]], {"price_weight": 0.1}, "2 columns"),
        ([[0.5, 0.5]], [[1.0, 1.0]] * 2, {"price_weight": 0.1}, "scores has 1, dollars has 2"),
    ],
)
def test_costs_from_scores_bad_input(scores, dollars, options, message):
    with pytest.raises(ValueError, match=message):
        c.costs_from_scores(scores, dollars, **options)


@given(TABLES)
def test_weights_are_non_negative_and_leave_the_costs_alone(costs):
    before = costs.copy()
    v = c.cost_sum_weights(costs)
    assert (v >= 0).all()
    np.testing.assert_allclose(v.sum(axis=1), (costs.shape[1] - 1) * costs.sum(axis=1), rtol=1e-12)
    if (costs.min(axis=0) < costs.max()).all():
        w = c.reward_weights(costs)
        assert (w >= 0).all() and w.min() == 0
        # both weights order the agents of a row by cost
        assert (np.take_along_axis(w, costs.argmin(axis=1)[:, None], 1)[:, 0] == w.max(axis=1)).all()
    np.testing.assert_array_equal(costs, before)


def test_weight_totals():
    costs = np.array([[0.0, 1.0, 0.5], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(c.weight_totals(c.reward_weights(costs)), [2.0, 1.0, 1.5])
    # for 0-1 costs: the number of correct answers
    right = np.random.default_rng(0).random((50, 4)) < 0.4
    np.testing.assert_array_equal(c.weight_totals(c.reward_weights(1.0 - right)), right.sum(axis=0))


def test_an_agent_that_is_never_correct_is_named():
    with pytest.raises(ValueError, match="agent 1 is never better"):
        c.reward_weights([[0.0, 1.0], [1.0, 1.0]])
    with pytest.raises(ValueError, match="never correct"):
        c.weight_totals([[1.0, 0.0]])
