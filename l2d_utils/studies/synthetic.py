"""A synthetic world whose Bayes router is known, and many linear routers at once in it, each fitted as by
`routers.DeferralRouter` (`fit_linear`) or `routers.PlugInRouter` (`fit_plug_in`)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from torch import Tensor

from l2d_utils.validate import check_matrix

MAX_STEPS = 200  # of Newton's method; a dozen are enough unless a ridge is very weak


@dataclass(frozen=True)
class SpecialistMixture:
    """K home regions, one specialist for each.  [ours]

    Input: home k is drawn with probability shares[k]; then x ~ N(separation·e_k, I) in `n_features` dimensions.
    Agent k is right with probability `accuracy` on its home and `overlap`·`accuracy` elsewhere; costs are 0–1.

    Hence E[c_k|x] = 1 − accuracy·(overlap + (1 − overlap)·P(home k|x)): the Bayes router picks the likeliest home,
    whatever the overlap below 1, and its borders are hyperplanes, so a linear router can be exactly right. ValueError:
    shares that are no distribution, overlap outside [0, 1), accuracy outside (0, 1], n_features < K.
    """

    shares: tuple[float, ...]
    overlap: float = 0.0
    separation: float = 2.0
    n_features: int = 6
    accuracy: float = 0.95

    def __post_init__(self) -> None:
        shares = np.asarray(self.shares, dtype=np.float64)
        if len(shares) < 2 or (shares <= 0).any() or not np.isclose(shares.sum(), 1.0):
            raise ValueError(f"shares must be at least 2 positive numbers that sum to 1; found {self.shares}")
        if not (0 <= self.overlap < 1 and 0 < self.accuracy <= 1):
            raise ValueError(f"overlap must lie in [0, 1), accuracy in (0, 1]; found {self.overlap}, {self.accuracy}")
        if self.n_features < len(shares):
            raise ValueError(f"n_features must be at least {len(shares)}, one per agent; found {self.n_features}")

    def sample(self, n: int, random_state: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Features (n, n_features) and observed 0–1 costs (n, K)."""
        rng = np.random.default_rng(random_state)
        agents = np.arange(len(self.shares))
        at_home = rng.choice(len(agents), size=n, p=self.shares)[:, None] == agents
        X = rng.normal(size=(n, self.n_features))
        X[:, agents] += self.separation * at_home
        right = self.accuracy * np.where(at_home, 1.0, self.overlap)
        return X, (rng.random(at_home.shape) >= right).astype(np.float64)

    def expected_costs(self, X: ArrayLike) -> NDArray[np.float64]:
        """E[c_k|x], (n, K), exact."""
        X = check_matrix("X", X, columns=self.n_features)
        home = softmax(np.log(self.shares) + self.separation * X[:, : len(self.shares)], axis=1)
        return 1.0 - self.accuracy * (self.overlap + (1.0 - self.overlap) * home)


def _standardised(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean, scale = X.mean(dim=1, keepdim=True), X.std(dim=1, keepdim=True, correction=0)
    return torch.cat([(X - mean) / scale, torch.ones_like(X[..., :1])], dim=2), mean, scale


def _in_raw_features(theta: Tensor, mean: Tensor, scale: Tensor) -> NDArray[np.float64]:
    """(D, S, K, d+1) on standardised features → (D, S, d+1, K) on raw ones."""
    weight = theta[..., :-1] / scale[:, None]
    bias = theta[..., -1] - (weight * mean[:, None]).sum(dim=-1)
    return torch.cat([weight, bias[..., None]], dim=-1).mT.numpy()


def fit_linear(
    X: ArrayLike, weights: ArrayLike, margins: ArrayLike, l2: ArrayLike, importance: ArrayLike = 1.0
) -> NDArray[np.float64]:
    """Linear routers for D data sets × S settings at once, by damped Newton steps: coefficients (D, S, d+1, K); scores
    are X @ coefficients[:-1] + coefficients[-1].

    Each minimises mean_i Σ_k u_k·w_ik·[logsumexp(s_i/ρ_k) − s_ik/ρ_k] / (mean row weight) + ridge: the loss of
    `losses.mild` with the standardisation and the penalty of `routers.DeferralRouter`. Raises RuntimeError if a problem
    is not at its minimum after `MAX_STEPS` steps.

    X: (D, n, d) features, none constant. weights: w, (D, n, K) ≥ 0. margins: ρ > 0, and importance: u > 0, broadcast to
    (D, S, K). l2: (S,) > 0, ridge strengths on the standardised features; biases are free.
    """
    X, w, rho, l2, u = (torch.as_tensor(np.asarray(a, dtype=np.float64)) for a in (X, weights, margins, l2, importance))
    design, mean, scale = _standardised(X)
    n, width = design.shape[1:]
    shape = (len(X), len(l2), w.shape[2])
    rho, u = rho.expand(shape), u.expand(shape)
    u = u / (u * w.sum(dim=1)[:, None]).sum(dim=2, keepdim=True)
    pull = (u / rho)[..., None] * w.mT[:, None]  # (D, S, K, n): u_k w_ik / ρ_k
    ridge = l2[:, None, None].expand(*shape[1:], width).clone()
    ridge[..., -1] = 1e-9  # scores may be shifted together; this much pins them without being felt
    squares = (design[..., :, None] * design[..., None, :]).flatten(2).mT.contiguous()

    def value(theta: Tensor) -> tuple[Tensor, Tensor]:
        scores = (theta.flatten(1, 2) @ design.mT).view(*shape, n)
        tempered = scores[:, :, None] / rho[..., None, None]  # (D, S, target, agent, n)
        log_p = tempered - tempered.logsumexp(dim=3, keepdim=True)
        loss = (pull * rho[..., None] * torch.diagonal(log_p, dim1=2, dim2=3).mT).sum(dim=(2, 3))
        return 0.5 * (ridge * theta.square()).sum(dim=(2, 3)) - loss, log_p

    theta = torch.zeros(*shape, width, dtype=torch.float64)
    now, log_p = value(theta)
    for _ in range(MAX_STEPS):
        p = log_p.exp()
        residual = (pull[:, :, :, None] * p).sum(dim=2) - pull
        gradient = (residual.flatten(1, 2) @ design).view_as(theta) + ridge * theta
        if gradient.abs().max() < 1e-8:
            return _in_raw_features(theta, mean, scale)
        curve = (pull / rho[..., None])[:, :, :, None] * p
        blocks = torch.empty(*shape, width, shape[2], width, dtype=torch.float64)
        for j, k in itertools.combinations_with_replacement(range(shape[2]), 2):
            m = (j == k) * curve[:, :, :, j].sum(dim=2) - (curve[:, :, :, j] * p[:, :, :, k]).sum(dim=2)
            blocks[:, :, j, :, k] = blocks[:, :, k, :, j] = (m @ squares.mT).view(*shape[:2], width, width)
        hessian = blocks.flatten(4).flatten(2, 3) + torch.diag_embed(ridge.flatten(1))
        step = torch.linalg.solve(hessian, gradient.flatten(2)).view_as(theta)
        length = torch.ones(*shape[:2], 1, 1, dtype=torch.float64)
        for _ in range(30):
            trial = theta - length * step
            then, log_p = value(trial)
            worse = then > now + 1e-13 * now.abs()
            if not worse.any():
                break
            length[worse] *= 0.5
        theta, now = trial, then
    raise RuntimeError(f"Newton's method is not at a minimum after {MAX_STEPS} steps; is some l2 too small?")


def fit_plug_in(X: ArrayLike, costs: ArrayLike, l2: ArrayLike) -> NDArray[np.float64]:
    """Ridge regressions of the costs for D data sets × S settings: coefficients (D, S, d+1, K) of the scores −E[c_k|x],
    to be used as those of `fit_linear`.

    X: (D, n, d) features, none constant. costs: (D, n, K). l2: (S,) > 0, as in `routers.PlugInRouter`.
    """
    X, costs, l2 = (torch.as_tensor(np.asarray(a, dtype=np.float64)) for a in (X, costs, l2))
    design, mean, scale = _standardised(X)
    n, width = design.shape[1:]
    ridge = l2[:, None].repeat(1, width)
    ridge[:, -1] = 0.0
    normal = (design.mT @ design / n)[:, None] + torch.diag_embed(ridge)
    return _in_raw_features(torch.linalg.solve(normal, (design.mT @ -costs / n)[:, None]).mT, mean, scale)
