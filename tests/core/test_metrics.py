import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from l2d_utils import metrics as m


def small_arrays(*shape, low=0, high=4):
    """Small integers as floats: many ties."""
    return arrays(np.float64, shape, elements=st.integers(low, high).map(float))


PAIRS = st.integers(1, 9).flatmap(lambda n: st.tuples(small_arrays(n), small_arrays(n), small_arrays(n)))
ROUTED = st.tuples(st.integers(1, 12), st.integers(2, 4)).flatmap(
    lambda s: st.tuples(small_arrays(*s), arrays(np.int64, s[0], elements=st.integers(0, s[1] - 1)))
)


@given(ROUTED)
def test_deferral_loss_and_ratios(pair):
    costs, routes = pair
    by_loop = sum(costs[i, r] for i, r in enumerate(routes)) / len(routes)
    assert m.deferral_loss(costs, routes) == pytest.approx(by_loop, abs=1e-12)
    ratios = m.deferral_ratios(routes, costs.shape[1])
    assert ratios.shape == (costs.shape[1],) and ratios.sum() == pytest.approx(1.0)
    assert all(ratios[k] == pytest.approx((routes == k).mean()) for k in range(costs.shape[1]))


@given(ROUTED)
def test_regret_identity(pair):
    """Σ_k share_k·regret_k + oracle loss = deferral loss, ties shared among the best agents."""
    costs, routes = pair
    best = m.best_agents(costs)
    np.testing.assert_allclose(best.sum(axis=1), 1.0, rtol=1e-12)
    assert ((best > 0) == (costs == costs.min(axis=1, keepdims=True))).all()
    regret, share = m.regret_by_agent(costs, routes), best.mean(axis=0)
    assert (np.isnan(regret) == (share == 0)).all()
    oracle = m.deferral_loss(costs, costs.argmin(axis=1))
    assert np.nansum(share * regret) + oracle == pytest.approx(m.deferral_loss(costs, routes), abs=1e-12)
    np.testing.assert_allclose(np.nan_to_num(m.regret_by_agent(costs, costs.argmin(axis=1))), 0.0, atol=0)


@given(ROUTED)
def test_bounds_against_brute_force(pair):
    costs, _ = pair
    costs = costs[:5]
    n, n_agents = costs.shape
    losses = [m.deferral_loss(costs, np.array(r)) for r in itertools.product(range(n_agents), repeat=n)]
    assert m.deferral_loss(costs, costs.argmin(axis=1)) == pytest.approx(min(losses))
    assert m.random_loss(costs) == pytest.approx(np.mean(losses))
    assert costs.mean(axis=0)[m.best_single(costs)] == costs.mean(axis=0).min()


@pytest.mark.parametrize(
    "routes, message",
    [
        ([0, 2], "row 1 is 2"),
        ([-1, 0], "row 0 is -1"),
        ([0.5, 0], "row 0 is 0.5"),
        ([np.nan, 0], "row 0 is nan"),
        ([0], "n = 2"),
        ([[0, 1]], "n = 2"),
    ],
)
def test_bad_routes(routes, message):
    with pytest.raises(ValueError, match=message):
        m.deferral_loss(np.ones((2, 2)), routes)


def test_deferral_ratios_refuse_unknown_agents():
    for routes in ([0, 5], [], [-1]):
        with pytest.raises(ValueError, match="routes"):
            m.deferral_ratios(routes, 2)


def test_deferral_curve_by_hand():
    curve = m.deferral_curve([3.0, 1.0, 2.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.5])
    np.testing.assert_allclose(curve.rate, [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(curve.cost, [2 / 3, 1 / 3, 0.5 / 3, 1.5 / 3])
    assert curve.area == pytest.approx(((2 / 3 + 1 / 3) + (1 / 3 + 1 / 6) + (1 / 6 + 1 / 2)) / 6)
    assert curve.cost_at(0.5) == pytest.approx((1 / 3 + 1 / 6) / 2)


@given(PAIRS)
def test_deferral_curve_is_the_mean_over_tie_breaks(triple):
    """Brute force over every order that the scores allow, so a tied block is shared out evenly."""
    scores, model, expert = (a[:5] for a in triple)
    n = len(scores)
    orders = [o for o in itertools.permutations(range(n)) if (np.diff(scores[list(o)]) <= 0).all()]
    cost = [
        np.mean([(model.sum() + sum((expert - model)[list(o[:i])])) / n for o in orders]) for i in range(n + 1)
    ]  # fmt: skip
    curve = m.deferral_curve(scores, model, expert)
    assert len(curve.rate) == len(curve.cost) == n + 1
    np.testing.assert_allclose(curve.cost, cost, atol=1e-12)
    np.testing.assert_allclose(curve.rate, np.arange(n + 1) / n)


@given(PAIRS)
def test_areas_and_gap(triple):
    scores, model, expert = triple
    oracle, mean = m.deferral_curve(model - expert, model, expert).area, (model.mean() + expert.mean()) / 2
    constant = m.deferral_curve(np.zeros(len(model)), model, expert)
    assert constant.area == pytest.approx(mean, abs=1e-12)
    assert oracle <= m.deferral_curve(scores, model, expert).area + 1e-12
    if np.ptp(model - expert) == 0:
        with pytest.raises(ValueError, match="no gap"):
            m.gap_closed(scores, model, expert)
        return
    assert m.gap_closed(np.zeros(len(model)), model, expert) == pytest.approx(0.0, abs=1e-12)
    assert m.gap_closed(model - expert, model, expert) == pytest.approx(1.0)
    assert m.gap_closed(expert - model, model, expert) == pytest.approx(-1.0)
    assert m.gap_closed(np.exp(scores), model, expert) == pytest.approx(m.gap_closed(scores, model, expert))


def test_deferral_curve_bad_scores():
    with pytest.raises(ValueError, match="row 1 is"):
        m.deferral_curve([0.0, np.nan], [0, 1], [1, 0])
    with pytest.raises(ValueError, match="scores must be"):
        m.deferral_curve([[0.0], [1.0]], [0, 1], [1, 0])
    with pytest.raises(ValueError, match="same number of rows"):
        m.deferral_curve([0.0], [0, 1], [1, 0])
    np.testing.assert_allclose(m.deferral_curve([np.inf, -np.inf], [1, 0], [0, 1]).cost, [0.5, 0.0, 0.5])


def test_interval_against_scipy():
    values = np.random.default_rng(0).normal(2.0, 1.0, size=7)
    for level in (0.9, 0.95):
        want = stats.ttest_1samp(values, 0.0).confidence_interval(level)
        got = m.interval(values, level)
        np.testing.assert_allclose(got, [values.mean(), want.low, want.high], rtol=1e-12)
    other = np.random.default_rng(1).normal(2.0, 1.0, size=7)
    want = stats.ttest_rel(values, other).confidence_interval(0.95)
    np.testing.assert_allclose(m.paired(values, other)[1:], [want.low, want.high], rtol=1e-12)
    assert m.interval([1.0, 1.1, 0.9]).excludes_zero and m.interval([-1.0, -1.1, -0.9]).excludes_zero
    assert not m.interval([1.0, -1.0, 0.1]).excludes_zero
    for bad in ([1.0], [], [1.0, np.nan], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="at least 2 finite"):
            m.interval(bad)
    with pytest.raises(ValueError, match="same number of rows"):
        m.paired([1.0, 2.0], [1.0])
