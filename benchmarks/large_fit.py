"""A million rows, 256 float32 features, twenty agents: time and memory of fitting the two-stage router."""

from __future__ import annotations

import argparse
import resource

import numpy as np
from timing import report, seconds

from l2d_utils.routers import DeferralRouter


def problem(n: int, d: int, n_agents: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) float32, neighbours correlated, and costs (n, K) of 0 or 1 that a linear router half knows."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d), dtype=np.float32)
    for block in np.array_split(X, max(1, n // 4096)):  # independent features would make it too easy
        block[:, 1:] += block[:, :-1].copy()
    slopes = rng.standard_normal((d, n_agents), dtype=np.float32) / np.sqrt(d)
    return X, (rng.random((n, n_agents)) > 1.0 / (1.0 + np.exp(-(X @ slopes)))).astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--agents", type=int, default=20)
    arguments = parser.parse_args()
    X, costs = problem(arguments.rows, arguments.features, arguments.agents)
    DeferralRouter().fit(X[:1000], costs[:1000])  # warm-up
    router = DeferralRouter(l2=1e-3)
    took = seconds(lambda: router.fit(X, costs))
    shape = f"{arguments.rows:,} × {arguments.features}, K = {arguments.agents}"
    report(f"fit of the two-stage router, {shape}", took, 60, "s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB
    report("peak memory of the process, the data included", peak, 6, "GiB")
    single = costs.mean(axis=0).min()
    print(
        f"  ({router.n_iter_} iterations; loss {-router.score(X[:100_000], costs[:100_000]):.4f}, "
        f"best single agent {single:.4f})"
    )


if __name__ == "__main__":
    main()
