import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from l2d_utils import rules
from l2d_utils.metrics import deferral_loss
from l2d_utils.routers import PlugInRouter

TIED = st.integers(1, 30).flatmap(lambda n: arrays(np.float64, n, elements=st.integers(0, 5).map(float)))
FREE = st.integers(1, 30).flatmap(lambda n: arrays(np.float64, n, elements=st.floats(-1e6, 1e6)))


def test_chow_defers_at_the_price_exactly():
    got = rules.chow([0.5, 0.5, 0.2], [0.25, 0.5, 0.4], price=0.25)
    assert got.tolist() == [True, False, False]
    assert rules.chow([0.5], [0.5]).tolist() == [True]  # equal costs at price 0: the convention is ≥


@given(st.floats(-2, 2), st.floats(0.05, 20), st.floats(-3, 3), st.floats(-3, 3))
def test_log_ratio_threshold_inverts(price, temperature, log_z_h, log_z_m):
    log_tau = rules.log_ratio_threshold(price, temperature, log_z_h, log_z_m)
    assert temperature * (log_tau + log_z_m - log_z_h) == pytest.approx(price, abs=1e-9)
    with pytest.raises(ValueError, match="temperature"):
        rules.log_ratio_threshold(price, 0.0, log_z_h, log_z_m)


@given(st.one_of(TIED, FREE), st.floats(0, 1))
def test_threshold_for_rate_is_the_nearest_reachable(scores, rate):
    n = len(scores)
    deferred = (scores >= rules.threshold_for_rate(scores, rate)).sum()
    reachable = {int((scores >= t).sum()) for t in scores} | {0}
    assert abs(deferred - rate * n) <= min(abs(r - rate * n) for r in reachable) + 1e-9
    assert (scores >= rules.threshold_for_rate(scores, 0.0)).sum() == 0
    assert (scores >= rules.threshold_for_rate(scores, 1.0)).sum() == n


def test_threshold_lies_between_the_scores():
    """The same convention on new rows: a score just under the threshold is kept."""
    threshold = rules.threshold_for_rate([0.0, 1.0, 2.0, 3.0], 0.5)
    assert threshold == 1.5
    neighbours = np.array([1.0, np.nextafter(1.0, 2.0)])  # no number lies between: the upper one is the threshold
    assert rules.threshold_for_rate(neighbours, 0.5) == neighbours[1]
    assert rules.threshold_for_rate([-np.inf, 0.0], 0.5) == 0.0
    assert np.isfinite(rules.threshold_for_rate([-1.7e308, 1.7e308], 0.5))
    for bad, rate in (([np.nan], 0.5), ([], 0.5), ([[1.0]], 0.5), ([1.0], 1.5), ([1.0], -0.1), ([1.0], np.nan)):
        with pytest.raises(ValueError, match="scores|rate"):
            rules.threshold_for_rate(bad, rate)


def test_route_and_prices():
    assert rules.route([[1.0, 1.0], [0.0, 1.0]]).tolist() == [0, 1]  # the first of equals
    assert rules.route([[1.0, 0.0]], [-1.0, 0.5]).tolist() == [1]
    rng = np.random.default_rng(0)
    expected, prices, temperature = rng.random((200, 4)), rng.random(4), 0.3
    offsets = rules.offsets_for_prices(prices, temperature, 4)
    got = rules.route(-expected / temperature + 7.0, offsets)
    assert (got == (expected + prices).argmin(axis=1)).all()
    with pytest.raises(ValueError, match="prices"):
        rules.offsets_for_prices([1.0, np.nan], 1.0, 2)
    X, costs = rng.normal(size=(50, 2)), rng.random((50, 3))
    plug_in = PlugInRouter().fit(X, costs)
    charged = PlugInRouter().fit(X, costs + [0.1, 0.0, 0.3])
    got = rules.route(plug_in.decision_function(X), rules.offsets_for_prices([0.1, 0.0, 0.3], 1.0, 3))
    assert (got == charged.predict(X)).all()


@st.composite
def share_problems(draw):
    n, n_agents = draw(st.integers(1, 60)), draw(st.integers(2, 6))
    parts = np.array(draw(st.lists(st.integers(0, 5), min_size=n_agents, max_size=n_agents)), dtype=float)
    parts[draw(st.integers(0, n_agents - 1))] += 1.0
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    return rng.normal(size=(n, n_agents)) * rng.choice([0.01, 1.0, 100.0]), parts / parts.sum()


@given(share_problems())
def test_offsets_for_shares_meet_every_target(problem):
    scores, shares = problem
    before = scores.copy()
    offsets = rules.offsets_for_shares(scores, shares)
    got = np.bincount(rules.route(scores, offsets), minlength=len(shares))
    assert (np.abs(got - shares * len(scores)) < 1.0 + 1e-9).all()
    assert (got[shares == 0] == 0).all()
    assert offsets.mean() == pytest.approx(0.0, abs=1e-9 * (1 + np.abs(offsets).max()))
    np.testing.assert_array_equal(scores, before)


def test_offsets_for_shares_take_the_largest_total_score():
    """Any offsets route to their shares at the largest total score: against brute force."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        scores = rng.normal(size=(6, 3))
        got = rules.route(scores, rules.offsets_for_shares(scores, [1 / 3, 1 / 2, 1 / 6]))
        feasible = set(itertools.permutations([0, 0, 1, 1, 1, 2]))
        best = max(feasible, key=lambda r: scores[np.arange(6), list(r)].sum())
        assert got.tolist() == list(best)


def test_offsets_for_shares_with_ties_and_bad_input():
    scores = np.zeros((10, 2))  # one block: all to one agent or all to the other
    assert len(set(rules.route(scores, rules.offsets_for_shares(scores, [0.3, 0.7])))) == 1
    scores = np.repeat([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], 10, axis=0)
    got = np.bincount(rules.route(scores, rules.offsets_for_shares(scores, [0.4, 0.6])), minlength=2)
    assert got.tolist() == [10, 20]
    # tied blocks with more agents must end, and miss by less than the largest block
    scores = np.random.default_rng(2).integers(0, 3, size=(300, 4)).astype(float)
    rules.offsets_for_shares(scores, [0.1, 0.2, 0.3, 0.4])
    for bad in ([0.5, 0.6], [-0.1, 1.1], [1.0], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="shares"):
            rules.offsets_for_shares(np.ones((3, 2)), bad)


@given(st.integers(0, 2**31), st.integers(1, 25), st.integers(2, 5), st.booleans())
def test_offsets_for_costs_never_worse_than_the_start(seed, n, n_agents, tied):
    rng = np.random.default_rng(seed)
    scores, costs = rng.normal(size=(n, n_agents)), rng.random((n, n_agents))
    start = rng.normal(size=n_agents)
    if tied:
        scores, costs, start = np.round(scores), np.round(costs), np.round(start)
    kept = scores.copy(), costs.copy(), start.copy()
    offsets = rules.offsets_for_costs(scores, costs, start=start)
    for first in (start, np.zeros(n_agents)):
        found = rules.offsets_for_costs(scores, costs, start=first)
        assert deferral_loss(costs, rules.route(scores, found)) <= deferral_loss(costs, rules.route(scores, first))
    assert offsets.shape == (n_agents,)
    for array, copy in zip((scores, costs, start), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


@given(st.integers(0, 2**31), st.integers(1, 12), st.booleans())
def test_offsets_for_costs_are_optimal_for_two_agents(seed, n, tied):
    rng = np.random.default_rng(seed)
    scores, costs = rng.normal(size=(n, 2)), rng.random((n, 2))
    if tied:
        scores, costs = np.round(scores), np.round(costs)
    lead = np.sort(scores[:, 0] - scores[:, 1])
    cuts = np.concatenate([[lead[0] - 1], (lead[1:] + lead[:-1]) / 2, [lead[-1] + 1]])
    best = min(deferral_loss(costs, rules.route(scores, [0.0, b])) for b in np.concatenate([cuts, lead]))
    got = deferral_loss(costs, rules.route(scores, rules.offsets_for_costs(scores, costs)))
    assert got == pytest.approx(best, abs=1e-12)


def test_offsets_for_costs_bad_input():
    with pytest.raises(ValueError, match="same number of rows"):
        rules.offsets_for_costs(np.ones((3, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="start"):
        rules.offsets_for_costs(np.ones((3, 2)), np.ones((3, 2)), start=[0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="row 1, column 0"):
        rules.offsets_for_costs(np.ones((2, 2)), [[0.0, 1.0], [np.nan, 1.0]])
