"""The linear router against scikit-learn's LogisticRegression on the equivalent expanded problem, and its growth in n.

The two-stage loss with weights w_ik is a multinomial logistic regression on n·K rows: input i once per agent k, with
label k and sample weight w_ik. Both solve the same ridge problem from zero; the router's objective must come within
1e-4 (relative) of scikit-learn's.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from timing import fastest, report

from l2d_utils.losses import two_stage
from l2d_utils.routers import DeferralRouter

L2 = 1e-3


def problem(n: int, d: int, n_agents: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features with mean 0 and scale 1 (so that both penalise the same coefficients) and costs that depend on them."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d), dtype=np.float32)
    X -= X.mean(axis=0, dtype=np.float64).astype(np.float32)
    X /= X.std(axis=0, dtype=np.float64).astype(np.float32)
    quality = 1.0 / (1.0 + np.exp(-2.0 * (X @ rng.standard_normal((d, n_agents)).astype(np.float32)) / np.sqrt(d)))
    return X, (rng.random((n, n_agents)) > quality).astype(np.float64)


def objective(coefficients: np.ndarray, intercepts: np.ndarray, X: np.ndarray, costs: np.ndarray) -> float:
    loss = two_stage(costs)
    scores = torch.from_numpy(X.astype(np.float64) @ coefficients.T + intercepts)
    mean_weight = float(loss.weights.sum()) / len(X)
    return float(loss(scores)) / mean_weight + 0.5 * L2 * float((coefficients**2).sum())


def expanded_fit(X: np.ndarray, costs: np.ndarray) -> tuple[LogisticRegression, float]:
    n, n_agents = costs.shape
    weights = (costs.max() - costs).ravel()
    # C scales the summed loss; the router divides the mean loss by its mean row weight
    strength = L2 * weights.sum()
    model = LogisticRegression(C=1.0 / strength, max_iter=1000, tol=1e-4)
    rows, labels = np.repeat(X, n_agents, axis=0), np.tile(np.arange(n_agents), n)
    # the expansion itself is not counted
    return model, fastest(lambda: model.fit(rows, labels, sample_weight=weights))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--largest", type=int, default=1_000_000, help="rows of the last doubling")
    arguments = parser.parse_args()
    d, n_agents = 256, 9
    X, costs = problem(arguments.rows, d, n_agents)
    DeferralRouter(l2=L2).fit(X[:1000], costs[:1000])  # warm-up
    router = DeferralRouter(l2=L2)
    ours = fastest(lambda: router.fit(X, costs))
    expanded, theirs = expanded_fit(X, costs)
    layer = router.scorer_.layers[0]
    scale, mean = router.scorer_.scale.numpy(), router.scorer_.mean.numpy()
    weight = layer.weight.detach().numpy() / scale
    value = objective(weight, layer.bias.detach().numpy() - weight @ mean, X, costs)
    reference = objective(expanded.coef_, expanded.intercept_, X, costs)
    report(f"time, {arguments.rows:,} × {d}, K = {n_agents}, against LogisticRegression", ours / theirs, 0.1)
    report("objective, relative to LogisticRegression's", (value - reference) / reference, 1e-4, " ")
    print(f"  ({ours:.1f} s in {router.n_iter_} iterations, {theirs:.1f} s in {expanded.n_iter_.max()})")
    del X, costs, expanded
    before, n = None, arguments.largest // 8
    while n <= arguments.largest:
        X, costs = problem(n, d, n_agents)
        elapsed = fastest(lambda X=X, costs=costs: router.fit(X, costs))
        if before is not None:
            report(
                f"time per doubling of n, {n:,} rows ({elapsed:.1f} s, {router.n_iter_} iterations)",
                elapsed / before,
                2.2,
            )
        before, n = elapsed, 2 * n


if __name__ == "__main__":
    main()
