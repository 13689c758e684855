"""Negative controls: each takes one thing away from a real problem, so that there is nothing left to learn: who is good
at what (`shuffled_experts`), what the inputs say (`shuffled_costs`), the training (`untrained_routes`). `routing_skill`
must then be 0; in `shown_test_rows`, a planted mistake, it must not.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l2d_utils.metrics import deferral_loss, deferral_ratios, random_loss
from l2d_utils.studies.compare import Problem
from l2d_utils.validate import check_costs, check_matrix


def shuffled_experts(problem: Problem, random_state: int) -> Problem:
    """The problem with the costs of every row dealt out anew among the agents: every routing has the expected loss of
    uniform random routing. What the oracle and random routing lose stays exactly as it was.  [ours]"""
    rng = np.random.default_rng(random_state)
    return problem._replace(costs=rng.permuted(problem.costs, axis=1), expected=None, labels=None, dollars=None)


def shuffled_costs(problem: Problem, random_state: int) -> Problem:
    """The problem with the rows of costs dealt out anew among the inputs, within each part of the split: there still is
    a best agent on average, but no input says anything about its costs.  [ours]"""
    rng, costs = np.random.default_rng(random_state), problem.costs.copy()
    for rows in vars(problem.split).values():
        costs[rows] = costs[rng.permutation(rows)]
    return problem._replace(costs=costs, expected=None, labels=None, dollars=None)


def shown_test_rows(problem: Problem) -> Problem:
    """The problem measured on the rows that its routers train on: a mistake that a check has to notice.  [ours]"""
    return problem._replace(split=dataclasses.replace(problem.split, test=problem.split.train))


def untrained_routes(X: ArrayLike, n_agents: int, *, hidden: int = 0, random_state: int) -> NDArray[np.int64]:
    """Routes (n,) of a scorer with random initial weights: linear, or with one layer of `hidden` units.  [ours]

    Over many draws of the weights every agent is equally likely at every input. One draw may by luck be good, or bad.
    """
    X, rng = check_matrix("X", X), np.random.default_rng(random_state)
    spread = X.std(axis=0)
    layer = (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    if hidden:
        layer = np.tanh(layer @ rng.normal(size=(layer.shape[1], hidden)) / np.sqrt(layer.shape[1]))
    return (layer @ rng.normal(size=(layer.shape[1], n_agents))).argmax(axis=1)


def routing_skill(costs: ArrayLike, routes: ArrayLike) -> float:
    """What the routing knows of single inputs, as a share of the random–oracle gap; 0 for a routing that knows nothing.

    (loss of handing out the same shares of inputs at random − loss) / (loss of uniform random routing − oracle loss):
    knowing which agent is best on average does not count, whom to ask when does.  [ours]  ValueError: all agents cost
    the same on every row.
    """
    costs = check_costs(costs)
    gap = random_loss(costs) - float(costs.min(axis=1).mean())
    if gap <= 1e-15:
        raise ValueError("the agents cost the same on every row: there is no gap to close")
    same_shares = float(deferral_ratios(routes, costs.shape[1]) @ costs.mean(axis=0))
    return (same_shares - deferral_loss(costs, routes)) / gap
