"""Ideal distributions and density ratios, for finite supports (exact) and samples (weights).

The *ideal* of agent k is the distribution on which that agent does best while staying close to the data
distribution P:  Q_k = argmin_Q E_Q[c_k] + λ·D(Q‖P). On n equally likely sample rows it is a vector of n density
values ω_ik = dQ_k/dP with mean 1. On a finite support with probabilities `p` the mean is taken under p.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp
from torch import Tensor
from torch.nn.functional import logsigmoid

from l2d_utils.validate import check_matrix, check_positive


def _log_probabilities(p: ArrayLike | None, n: int) -> NDArray[np.float64]:
    if p is None:
        return np.full(n, -np.log(n))
    p = np.asarray(p, dtype=np.float64)
    if p.shape != (n,) or (p < 0).any() or not np.isclose(p.sum(), 1.0):
        raise ValueError(f"p must be {n} probabilities that sum to 1; found shape {p.shape} with sum {p.sum():.6g}")
    with np.errstate(divide="ignore"):
        return np.log(p)


def kl_log_density(
    costs: ArrayLike, temperature: float, p: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """KL ideals: log dQ_k/dP = −c_k/λ − log Z_k with Z_k = E_P[exp(−c_k/λ)].  [paper, form reconstructed]

    Given as the log density (n, K), in nats, and log Z (K,). ValueError: λ ≤ 0, costs not finite, p no distribution.

    Args:
        costs: (n, K) of any sign: c_k(x, y) for the joint ideal, or E[c_k | x] for the marginal one.
        temperature: λ > 0, in their unit. p: (n,) probabilities of the rows; equal by default.

    Example:
        >>> log_density, log_normaliser = kl_log_density([[0.0, 1.0], [1.0, 1.0]], temperature=0.5)
        >>> np.exp(log_density).round(2)  # agent 0 prefers the first input; agent 1 costs the same on both
        array([[1.76, 1.  ],
               [0.24, 1.  ]])
    """
    costs = check_matrix("costs", costs).astype(np.float64, copy=False)
    temperature, log_p = check_positive("temperature", temperature), _log_probabilities(p, len(costs))
    # measured from the smallest cost, so that a tiny λ does not swamp the differences
    least = costs.min(axis=0)
    energy = (least - costs) / temperature
    log_mass = logsumexp(energy + log_p[:, None], axis=0)
    return energy - log_mass, log_mass - least / temperature


def alpha_density(cost: ArrayLike, temperature: float, alpha: float, p: ArrayLike | None = None) -> NDArray[np.float64]:
    """α-divergence ideal of one agent: ω = [(α−1)/2·(b − c/λ)]_+^{2/(α−1)}, b such that E_P[ω] = 1.  [reconstructed]

    The density (n,) is 0 on rows of probability 0 (α ≠ 1), where it is not determined. The divergence is
    D_f(Q‖P) = E_P[f(ω)] with f(t) = 4/(1−α²)·(1 − t^{(1+α)/2}), so f'(t) = 2/(α−1)·t^{(α−1)/2}; α → 1 is the KL
    ideal, and that value is computed as such. ValueError: cost not finite, λ ≤ 0, α = −1, p no distribution.

    Args:
        cost: (n,) costs of one agent. temperature: λ > 0. p: (n,) probabilities; equal by default.
        alpha: any finite number except −1; below 1 every row keeps mass, above 1 dear rows get none.
    """
    cost = check_matrix("cost", np.asarray(cost)[:, None])[:, 0].astype(np.float64)
    temperature = check_positive("temperature", temperature)
    if not np.isfinite(alpha) or alpha == -1:
        raise ValueError(f"alpha must be finite and not -1; found {alpha}")
    log_p = _log_probabilities(p, len(cost))
    if abs(alpha - 1) < 1e-6:
        return np.exp(kl_log_density(cost[:, None], temperature, p)[0][:, 0])
    support = np.isfinite(log_p)
    log_p, energy = log_p[support], cost[support] / temperature
    cheapest, half = int(energy.argmin()), (alpha - 1.0) / 2.0
    energy = energy - energy[cheapest]

    # Solve for t = log ω of the cheapest row in place of b. Then half·(b − energy_cheapest) = exp(half·t), so that
    # log ω = t + log1p(−half·energy·exp(−half·t))/half: nothing cancels, and α → 1 gives t − energy.
    def log_density(t: float) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", over="ignore"):
            return t + np.log1p(np.maximum(-half * energy * np.exp(-half * t), -1.0)) / half

    def log_mass(t: float) -> float:
        return float(logsumexp(log_density(t) + log_p))

    # At t = 0 no row is above 1, so the mass is ≤ 1; at t = −log p(cheapest) that row alone has mass 1.
    low, high = 0.0, -float(log_p[cheapest])
    t = low if log_mass(low) >= 0 else high
    if log_mass(low) < 0 < log_mass(high):
        t = brentq(log_mass, low, high, xtol=1e-14, rtol=8.9e-16, maxiter=500)
    density = np.zeros(len(cost))
    density[support] = np.exp(log_density(t) - log_mass(t))
    return density


def alpha_generator(t: ArrayLike, alpha: float) -> NDArray[np.float64]:
    """f(t) of the α-divergence above (t·log t at α = 1, up to a linear term that D_f does not see)."""
    t = np.asarray(t, dtype=np.float64)
    if abs(alpha - 1) < 1e-6:
        return t * np.log(np.where(t > 0, t, 1.0))
    return 4.0 / (1.0 - alpha**2) * (1.0 - t ** ((1.0 + alpha) / 2.0))


def tilted_posterior(posterior: ArrayLike, expert_cost: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Expert-tilted posterior η̃_y(x) ∝ η_y(x)·exp(−c_m(x, y)/λ), all (n, L).  [paper, form reconstructed]"""
    posterior = check_matrix("posterior", posterior)
    energy = -check_matrix("expert_cost", expert_cost) / check_positive("temperature", temperature)
    with np.errstate(divide="ignore"):
        log_tilted = np.log(posterior) + energy
    return np.exp(log_tilted - logsumexp(log_tilted, axis=1, keepdims=True))


def joint_log_ratio(
    posterior: ArrayLike, model_cost: ArrayLike, expert_cost: ArrayLike, temperature: float, p: ArrayLike
) -> NDArray[np.float64]:
    """Exact log Q_m(x)/Q_h(x) of the joint KL ideals on a finite support, (n,) nats.  [paper, form reconstructed]

    Args:
        posterior: (n, L) P(y | x) per support point. p: (n,) their probabilities.
        model_cost, expert_cost: (n, L) costs c_h(x, y) and c_m(x, y). temperature: λ > 0.

    Example:
        >>> eta = [[0.9, 0.1], [0.5, 0.5]]  # P(label | x) at two points
        >>> model, expert = [[0.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]  # costs by label
        >>> joint_log_ratio(eta, model, expert, 0.5, p=[0.5, 0.5]).round(2)
        array([-1.22,  0.76])
    """
    log_p = _log_probabilities(p, len(np.asarray(posterior)))
    with np.errstate(divide="ignore"):
        log_posterior = np.log(check_matrix("posterior", posterior))
    energies = (np.asarray(cost) / check_positive("temperature", temperature) for cost in (expert_cost, model_cost))
    masses = (logsumexp(log_posterior - energy, axis=1) for energy in energies)
    expert, model = (log_mass - logsumexp(log_mass + log_p) for log_mass in masses)
    return expert - model


def marginal_log_ratio(
    model_cost: ArrayLike, expert_cost: ArrayLike, temperature: float, p: ArrayLike
) -> NDArray[np.float64]:
    """Exact log Q_m(x)/Q_h(x) of the marginal KL ideals; costs are E[c | x], each (n,).  [paper, form reconstructed]

    Example:
        >>> marginal_log_ratio([0.1, 0.5], [0.3, 0.3], 0.5, p=[0.5, 0.5]).round(2)
        array([-0.32,  0.48])
    """
    log_density, _ = kl_log_density(np.column_stack([expert_cost, model_cost]), temperature, p)
    return log_density[:, 0] - log_density[:, 1]


class ProperLoss(NamedTuple):
    """A proper loss for two classes written on a real score s, with the link that turns s into a log density ratio.

    `positive(s)` is paid on examples of Q_m and `negative(s)` on examples of Q_h; `log_ratio(s)` inverts the
    population minimiser s* = s(log Q_m/Q_h).
    """

    positive: Callable[[Tensor], Tensor]
    negative: Callable[[Tensor], Tensor]
    log_ratio: Callable[[Tensor], Tensor]


def _square_link(score: Tensor) -> Tensor:
    # s* = 2η − 1 lies in (−1, 1); a fitted score may leave that interval, where the ratio is 0 or infinite.
    inside = 1.0 - torch.finfo(score.dtype).eps
    return 2.0 * torch.atanh(score.clamp(-inside, inside))


#: Proper losses by name.  [prior: Menon & Ong 2016]
PROPER_LOSSES = {
    "log": ProperLoss(lambda s: -logsigmoid(s), lambda s: -logsigmoid(-s), lambda s: s),
    "square": ProperLoss(lambda s: (1.0 - s).square(), lambda s: (1.0 + s).square(), _square_link),
    "exponential": ProperLoss(lambda s: torch.exp(-s), torch.exp, lambda s: 2.0 * s),
}


def cpe_loss(score: Tensor, expert_density: Tensor, model_density: Tensor, loss: str = "log") -> Tensor:
    """½·mean(ω_m·ℓ_+(s) + ω_h·ℓ_−(s)): class-probability estimation between two ideals.  [paper, form reconstructed]

    Args:
        score: (n,) s(x). loss: a name in `PROPER_LOSSES`.
        expert_density, model_density: (n,) ω_m = dQ_m/dP and ω_h = dQ_h/dP on the same rows.
    """
    proper = PROPER_LOSSES[loss]
    return 0.5 * (expert_density * proper.positive(score) + model_density * proper.negative(score)).mean()
