"""Random finite problems and slow, independent references that the tests of the mathematics share.

Nothing here imports `l2d_utils`: a reference that shares code with what it checks proves nothing.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp


def reference_loss(
    scores, weights, *, margins=1.0, scale=1.0, offset=0.0, shift=0.0, q=0.0, focusing=0.0
):  # fmt: skip
    """Equation (1) of `losses` by loops over rows and targets, straight from its first line."""
    scores, weights = np.asarray(scores, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    n, n_agents = weights.shape
    rho, delta, iota, less = (np.broadcast_to(np.asarray(v, float), n_agents) for v in (margins, scale, offset, shift))
    total = 0.0
    for i in range(n):
        for k in range(n_agents):
            z = (delta * scores[i] + iota - less[k] * (np.arange(n_agents) == k)) / rho[k]
            log_p = z[k] - logsumexp(z)
            p = np.exp(log_p)
            value = -log_p if q == 0 else (1.0 - p**q) / q
            total += weights[i, k] * value * (1.0 - p) ** focusing
    return total / n


def tabular_problem(rng, *, points=40, outcomes=8, n_agents=3, zero_one=False):
    """(support index (n,), costs (n, K), expected costs (points, K)): each outcome of a point is equally likely.

    The agents are imbalanced, the first the best, and yet each is the best at some points.
    """
    shape, worse = (points, outcomes, n_agents), np.linspace(0.3, 1.7, n_agents)
    if zero_one:
        costs = (rng.random(shape) < rng.random((points, 1, n_agents)) ** (1.0 / worse)).astype(float)
    else:
        costs = np.minimum(rng.gamma(0.5, 1.0, size=shape) * worse, 1.5)
    return np.repeat(np.arange(points), outcomes), costs.reshape(-1, n_agents), costs.mean(axis=1)


def clear_points(values, gap):
    """Rows where the largest value leads the second by at least `gap`."""
    ranked = np.sort(values, axis=1)
    return ranked[:, -1] - ranked[:, -2] >= gap


def minimise_table(value_and_gradient, shape, *, ridge=0.0):
    """Minimise a loss of one free score row per support point by L-BFGS from zero."""

    def objective(flat):
        value, gradient = value_and_gradient(flat.reshape(shape))
        return value + 0.5 * ridge * flat @ flat, gradient.ravel() + ridge * flat

    start = np.zeros(int(np.prod(shape)))
    options = {"maxiter": 3000, "maxfun": 6000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 30}
    return minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x.reshape(shape)


def finite_two_agent_problem(rng, *, points=None, labels=None):
    """p (n,), posterior (n, L), model cost and expert cost (n, L): a random joint distribution and two agents."""
    n = points or int(rng.integers(2, 12))
    n_labels = labels or int(rng.integers(2, 5))
    p = rng.dirichlet(np.ones(n))
    posterior = rng.dirichlet(np.ones(n_labels), size=n)
    return p, posterior, rng.random((n, n_labels)), rng.random((n, n_labels))


def weak_model_and_expert(n=600, seed=0):
    """A weak model and an expert that is right on classes 0..2 only, as arguments of `scores.sample`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, n)
    penultimate = rng.standard_normal((n, 6)) + np.eye(6)[labels] * 2
    base = {"logits": penultimate + rng.standard_normal((n, 6)), "features": penultimate}
    answer = np.where(labels < 3, labels, rng.integers(0, 6, n))
    return base, {"logits": np.where(labels < 3, 4, 1)[:, None] * np.eye(6)[answer]}, labels
