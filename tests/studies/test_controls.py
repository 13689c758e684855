"""Negative controls: what they keep, what they take away, and that the statistic tells the two apart."""

import numpy as np
import pytest

from l2d_utils.data import Split
from l2d_utils.metrics import random_loss
from l2d_utils.studies import controls
from l2d_utils.studies.compare import Problem

N = 600


@pytest.fixture
def problem():
    """The sign of the first feature says which of two agents is right; a third is wrong half of the time."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 4))
    costs = np.column_stack([X[:, 0] > 0, X[:, 0] <= 0, rng.random(N) < 0.5]).astype(float)
    return Problem(X, costs, Split(*np.split(np.arange(N), [200, 400])), costs, np.arange(N) % 3, costs)


def _best(problem):
    return (problem.X[:, 0] > 0).astype(int)


def _skill(problem, routes):
    return controls.routing_skill(problem.costs[problem.split.test], routes[problem.split.test])


def test_skill_is_one_for_the_oracle_and_zero_for_a_constant_or_unrelated_routing(problem):
    costs, best = problem.costs, _best(problem)
    # Every row and its mirror image: the oracle's shares are then those of uniform random routing.
    both = np.vstack([costs[:, :2], costs[:, 1::-1]])
    assert controls.routing_skill(both, np.concatenate([best, 1 - best])) == pytest.approx(1, abs=1e-12)
    for k in range(3):
        assert abs(controls.routing_skill(costs, np.full(N, k))) < 1e-12
    assert _skill(problem, _best(problem)) > 0.9


def test_skill_needs_a_gap():
    with pytest.raises(ValueError, match="no gap to close"):
        controls.routing_skill(np.ones((3, 2)), [0, 1, 0])


def test_shuffled_experts_keep_every_row_and_lose_every_order(problem):
    before = problem.costs.copy()
    shuffled = controls.shuffled_experts(problem, 1)
    np.testing.assert_array_equal(np.sort(shuffled.costs, axis=1), np.sort(problem.costs, axis=1))
    assert random_loss(shuffled.costs) == pytest.approx(random_loss(problem.costs), abs=1e-12)
    np.testing.assert_array_equal(problem.costs, before)


def test_shuffled_costs_keep_every_part_and_every_mean(problem):
    shuffled = controls.shuffled_costs(problem, 1)
    for rows in (problem.split.train, problem.split.validation, problem.split.test):
        a, b = problem.costs[rows], shuffled.costs[rows]
        np.testing.assert_array_equal(a[np.lexsort(a.T)], b[np.lexsort(b.T)])
        assert (a != b).any()


@pytest.mark.parametrize("change", [controls.shuffled_experts, controls.shuffled_costs])
def test_what_no_longer_belongs_to_the_costs_is_forgotten(problem, change):
    """Expected costs, labels and dollars would tell a control of what was shuffled away."""
    shuffled = change(problem, 1)
    assert shuffled.expected is shuffled.labels is shuffled.dollars is None


@pytest.mark.parametrize("change", [controls.shuffled_experts, controls.shuffled_costs])
def test_a_shuffle_takes_the_skill_away_on_average(problem, change):
    found = [_skill(change(problem, seed), _best(problem)) for seed in range(200)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))
    assert np.std(found) > 0


@pytest.mark.parametrize("hidden", [0, 8])
def test_untrained_scorers_know_nothing_on_average_and_something_by_luck(problem, hidden):
    draws = [controls.untrained_routes(problem.X, 3, hidden=hidden, random_state=s) for s in range(400)]
    found = [_skill(problem, routes) for routes in draws]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))
    assert max(found) > 0.2
    shares = np.bincount(np.concatenate(draws), minlength=3) / (400 * N)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.02)


def test_shown_test_rows_measures_where_it_trained(problem):
    shown = controls.shown_test_rows(problem)
    np.testing.assert_array_equal(shown.split.test, problem.split.train)
    np.testing.assert_array_equal(shown.split.validation, problem.split.validation)
