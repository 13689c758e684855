"""Confidence margins: how they are set, the capacity that they control, and the margin loss behind the surrogates."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l2d_utils.validate import check_per_agent, check_positive, check_weights


def margins_from_counts(counts: ArrayLike, scale: float = 1.0, gamma: float = 1 / 3) -> NDArray[np.float64]:
    """ρ_k = scale·(m_k/m_max)^γ; γ = 0 is one global temperature.  [reconstructed]  Shape (K,)."""
    counts = np.asarray(counts, dtype=np.float64)
    return check_positive("scale", scale) * (counts / counts.max()) ** gamma


def capacity(margins: ArrayLike, weights: ArrayLike, norms: ArrayLike = 1.0) -> float:
    """C(ρ) = Σ_k (R_k/ρ_k)²·Σ_i w_ik², the complexity that the margins control.  [reconstructed, after IMMAX]"""
    weights = check_weights(weights)
    rho = check_per_agent("margins", margins, weights.shape[1], positive=True)
    radius = check_per_agent("norms", norms, weights.shape[1], positive=True)
    return float(((radius / rho) ** 2 * (weights**2).sum(axis=0)).sum())


def capacity_margins(weights: ArrayLike, norms: ArrayLike = 1.0, *, total: float) -> NDArray[np.float64]:
    """The margins that minimise `capacity` at Σ_k ρ_k = total: ρ_k ∝ (R_k²·Σ_i w_ik²)^{1/3}.  [reconstructed]

    Example:
        >>> capacity_margins([[1.0, 0.0]] * 8 + [[0.0, 1.0]], total=3.0)  # 8 inputs for one agent, 1 for the other
        array([2., 1.])
    """
    weights = check_weights(weights)
    radius = check_per_agent("norms", norms, weights.shape[1], positive=True)
    squares = (weights**2).sum(axis=0)
    if not squares.all():
        raise ValueError(f"agent {int(np.argmin(squares))} has no weight on any row, so that no margin suits it")
    root = np.cbrt(radius**2 * squares)
    return check_positive("total", total) * root / root.sum()


def ramp_loss(scores: ArrayLike, weights: ArrayLike, margins: ArrayLike) -> NDArray[np.float64]:
    """L_ρ = Σ_k w_k·min(1, max(0, 1 − μ_k/ρ_k)), μ_k = s_k − max_{j≠k} s_j, (n,).  [paper, form reconstructed]

    The cost-sensitive margin loss that the MILD surrogate bounds; not convex, so it is evaluated, never trained.
    """
    weights = check_weights(weights)
    rho = check_per_agent("margins", margins, weights.shape[1], positive=True)
    return (weights * np.clip(1.0 - agent_margins(scores) / rho, 0.0, 1.0)).sum(axis=1)


def agent_margins(scores: ArrayLike) -> NDArray[np.float64]:
    """μ_k = s_k − max_{j≠k} s_j, shape (n, K): positive only for the agent that the router picks.  [prior]"""
    scores = np.asarray(scores, dtype=np.float64)
    order = np.sort(scores, axis=1)
    leader = scores.argmax(axis=1)[:, None] == np.arange(scores.shape[1])
    return scores - np.where(leader, order[:, -2:-1], order[:, -1:])
