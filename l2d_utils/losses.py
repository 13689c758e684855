"""The one loss core, and every loss of the two papers and their baselines as a named preset of it.

    (1/n) Σ_i Σ_k  W_ik · φ( m_k((δ ⊙ s_i + ι) / ρ_k) − Δ_k/ρ_k )                                             (1)

where m_k is the *soft margin* of agent k at its own temperature ρ_k,

    m_k = s_k/ρ_k − log Σ_{j≠k} exp(s_j/ρ_k).                                                                (2)

With p = softmax(s/ρ_k), σ(m_k) = p_k. So one number per input–agent pair carries the cross-entropy
−log p_k = −log σ(m_k), the focal factor (1 − p_k)^γ = σ(−m_k)^γ, the comp-sum family (1 − p_k^q)/q, and the
additive margin of LDAM, which lowers m_k by Δ_k/ρ_k. As ρ → 0, ρ·m_k tends to the agent margin s_k − max_{j≠k} s_j.

A preset is a function `costs (n, K) → objective`; an objective maps scores (n, K) to a scalar mean loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from l2d_utils._pairwise import BlockLoss, Differentiable, by_autograd, log_loss, mean_over_blocks, soft_margins
from l2d_utils.costs import agent_margins, capacity, capacity_margins, ramp_loss  # noqa: F401

# isort: split
from l2d_utils.costs import cost_sum_weights, margins_from_counts, reward_weights, weight_totals
from l2d_utils.ideals import kl_log_density
from l2d_utils.validate import check_costs, check_per_agent, check_positive, check_weights


def two_stage(costs: ArrayLike, q: float = 0.0) -> PairLoss:
    """W = c_max − c_k.  [prior: Mao, Mohri, Mohri, Zhong 2023, two-stage learning to defer]

    Example:
        >>> loss = two_stage([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])  # 3 inputs, 2 agents
        >>> loss(torch.zeros(3, 2))  # (1 + 1 + 2)·log 2 / 3
        tensor(0.9242, dtype=torch.float64)
    """
    return _pair(reward_weights(costs), q=q)


def comp_sum(margin: Tensor, q: float = 0.0, focusing: float = 0.0) -> Tensor:
    """φ(m): (1 − p^q)/q with p = σ(m), and −log p at q = 0; times (1 − p)^focusing.

    [prior: Mao, Mohri, Zhong 2023, cross-entropy versions of comp-sum losses; Lin et al. 2017 for the focal factor]
    """
    log_p = logsigmoid(margin)
    loss = -log_p if q == 0 else torch.expm1(q * log_p) / -q
    return loss * torch.exp(focusing * logsigmoid(-margin)) if focusing else loss


class Objective:
    """What routers train: each kind supplies `weights` (n, K), `decision_offset` (K,) and `_block_loss(rows)`."""

    weights: Tensor
    decision_offset: Tensor

    def value_and_gradient(
        self, scores: Tensor, rows: Tensor | slice = slice(None), *, wanted: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Mean loss of `scores` (b, K), which belong to the training rows `rows`, and its gradient (b, K) if wanted."""
        expected = (len(self.weights[rows]), self.weights.shape[1])
        if scores.shape != expected:
            raise ValueError(f"scores must have shape {expected}, as the weights; found {tuple(scores.shape)}")
        return mean_over_blocks(scores.detach(), self._block_loss(rows), wanted)

    def __call__(self, scores: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Mean loss of `scores` (b, K), which belong to the training rows `rows`; differentiable once."""
        return Differentiable.apply(scores, partial(self.value_and_gradient, rows=rows))


@dataclass(frozen=True, eq=False)
class PairLoss(Objective):
    """Equation (1) with everything but the scores fixed; made by `pair_loss`.

    Attributes (tensors; all but the weights of shape (K,)):
        weights, margins: W (n, K), and ρ.
        scale, offset: δ and ι, which act on agent j's score whatever the target.
        shift: Δ, taken off the target's own score.
        decision_offset: added to the trained scores before the argmax (DR-CPE: log Z_k).
        q, focusing (numbers): comp-sum shape, 0 is the cross-entropy, 1 the mean absolute error; focal exponent.
    """

    weights: Tensor
    margins: Tensor
    scale: Tensor
    offset: Tensor
    shift: Tensor
    decision_offset: Tensor
    q: float = 0.0
    focusing: float = 0.0

    def _block_loss(self, rows: Tensor | slice) -> BlockLoss:
        weights = self.weights[rows]
        # Most presets leave these parts neutral; passing over them saves sweeps of the scores.
        scaled, shifted = self._turned
        plain = self.q == 0 and self.focusing == 0 and not shifted
        loss = log_loss(weights, self.margins) if plain else by_autograd(partial(self._general, weights))

        def rescaled(scores: Tensor, here: slice, wanted: bool) -> tuple[Tensor, Tensor | None]:
            value, gradient = loss(torch.addcmul(self.offset, scores, self.scale), here, wanted)
            return value, gradient * self.scale if wanted else None

        return rescaled if scaled else loss

    @cached_property
    def _turned(self) -> tuple[bool, bool]:
        """Whether δ or ι, and whether Δ, differ from their neutral values."""
        return bool((self.scale != 1).any() or (self.offset != 0).any()), bool((self.shift != 0).any())

    def _general(self, weights: Tensor, scores: Tensor, rows: slice) -> Tensor:
        margin = soft_margins(scores, self.margins) - self.shift / self.margins
        return (comp_sum(margin.t(), self.q, self.focusing) * weights[rows].t()).sum(dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class OneVsAll(Objective):
    """(1/n) Σ_i Σ_k [W_ik·log(1 + e^{−s_k}) + N_ik·log(1 + e^{s_k})]: K binary problems, no softmax.

    With the second weight N, σ(s_k) estimates E[W_k|x] / E[W_k + N_k|x].  [prior: Verma et al. 2022, 2023]
    """

    weights: Tensor
    negatives: Tensor
    decision_offset: Tensor

    def _block_loss(self, rows: Tensor | slice) -> BlockLoss:
        weights, negatives = self.weights[rows], self.negatives[rows]

        def block_loss(scores: Tensor, here: slice, wanted: bool) -> tuple[Tensor, Tensor | None]:
            w, v = weights[here], negatives[here]
            total = -(w * logsigmoid(scores) + v * logsigmoid(-scores)).sum(dtype=torch.float64)
            return total, v * torch.sigmoid(scores) - w * torch.sigmoid(-scores) if wanted else None

        return block_loss


def to_tensor_type(objective: Objective, like: Tensor) -> Objective:
    """The same objective with its tensors in the dtype and on the device of `like`."""
    moved = {f.name: v.to(like) for f in fields(objective) if isinstance(v := getattr(objective, f.name), Tensor)}
    return replace(objective, **moved)


def pair_loss(weights: ArrayLike, **parts: Any) -> PairLoss:
    """Check and bind the parts of equation (1): what to build a loss of one's own from.

    Args:
        weights: W, (n, K), ≥ 0.
        parts: margins, scale, offset, shift, decision_offset (one number or (K,)), q, focusing (numbers ≥ 0): see
            `PairLoss`; those left out are neutral.

    Raises:
        ValueError: weights negative or not finite (row named), ρ ≤ 0 (agent named), q or focusing negative.

    Example:
        >>> pair_loss([[1.0, 0.0], [0.2, 0.8]], margins=[1.0, 0.5], q=0.7)(torch.zeros(2, 2))
        tensor(0.5492, dtype=torch.float64)
    """
    return _pair(check_weights(weights), **parts)


def _pair(weights: NDArray, *, q: float = 0.0, focusing: float = 0.0, **per_agent: ArrayLike) -> PairLoss:
    q, focusing = check_positive("q", q, or_zero=True), check_positive("focusing", focusing, or_zero=True)
    parts = {"margins": 1.0, "scale": 1.0, "offset": 0.0, "shift": 0.0, "decision_offset": 0.0}
    if unknown := per_agent.keys() - parts:
        raise TypeError(f"a loss has no part {sorted(unknown)[0]!r}; there are q, focusing, {', '.join(parts)}")
    for name, value in (parts | per_agent).items():
        parts[name] = torch.tensor(check_per_agent(name, value, weights.shape[1], positive=name == "margins"))
    stored = torch.from_numpy(np.array(weights.T, order="C")).t()  # agent-major, as in _pairwise; still of shape (n, K)
    return PairLoss(stored, **parts, q=q, focusing=focusing)


def two_stage_cost_sum(costs: ArrayLike, q: float = 0.0) -> PairLoss:
    """W = Σ_{j≠k} c_j.  [prior: Mao, Mohri, Zhong 2023]"""
    return _pair(cost_sum_weights(costs), q=q)


def mild(costs: ArrayLike, margins: ArrayLike, q: float = 0.0) -> PairLoss:
    """W = c_max − c_k and one confidence margin per agent.  [paper, form reconstructed]"""
    return _pair(reward_weights(costs), margins=margins, q=q)


def mild_power(costs: ArrayLike, gamma: float = 1 / 3, scale: float = 1.0, q: float = 0.0) -> PairLoss:
    """MILD with ρ_k = scale·(m_k/m_max)^γ.  [paper, form reconstructed; the power law is after IMMAX]

    Example:
        >>> mild_power([[0.0, 1.0]] * 8 + [[1.0, 0.0]], gamma=1 / 3).margins  # agent 1 is right 8 times less often
        tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    weights = reward_weights(costs)
    return _pair(weights, margins=margins_from_counts(weight_totals(weights), scale, gamma), q=q)


def global_temperature(costs: ArrayLike, rho: float = 1.0, q: float = 0.0) -> PairLoss:
    """One ρ for all agents: the control for MILD.  [ours]"""
    return mild(costs, check_positive("rho", rho), q)


def reweighted(costs: ArrayLike, q: float = 0.0) -> PairLoss:
    """W = (c_max − c_k)/m_k, scaled to keep the mean weight.  [prior: inverse-frequency weighting]"""
    weights = reward_weights(costs)
    counts = weight_totals(weights)
    return _pair(weights * (counts.mean() / counts), q=q)


def class_balanced(costs: ArrayLike, beta: float = 0.999, q: float = 0.0) -> PairLoss:
    """W = (c_max − c_k)·(1−β)/(1−β^{m_k}).  [prior: Cui et al. 2019]"""
    if not 0 < beta < 1:
        raise ValueError(f"beta must lie in (0, 1); found {beta}")
    weights = reward_weights(costs)
    return _pair(weights * (1.0 - beta) / -np.expm1(weight_totals(weights) * np.log(beta)), q=q)


def focal(costs: ArrayLike, gamma: float = 2.0) -> PairLoss:
    """Cross-entropy × (1−p_k)^γ.  [prior: Lin et al. 2017]"""
    return _pair(reward_weights(costs), focusing=gamma)


def ldam(costs: ArrayLike, max_shift: float = 0.5, scale: float = 1.0, q: float = 0.0) -> PairLoss:
    """Additive margins Δ_k = max_shift·(m_k/m_min)^{−1/4}, ρ = 1/scale for all.  [prior: Cao et al. 2019]"""
    weights = reward_weights(costs)
    counts = weight_totals(weights)
    shift = check_positive("max_shift", max_shift) * (counts / counts.min()) ** -0.25
    return _pair(weights, margins=1.0 / check_positive("scale", scale), shift=shift, q=q)


def logit_adjustment(costs: ArrayLike, tau: float = 1.0, q: float = 0.0) -> PairLoss:
    """Scores shifted by ι_j = τ·log π_j while training, not when routing.  [prior: Menon et al. 2021]"""
    return vs(costs, gamma=0.0, tau=tau, q=q)


def vs(costs: ArrayLike, gamma: float = 0.2, tau: float = 1.0, q: float = 0.0) -> PairLoss:
    """Vector-scaling loss: δ_j = (m_j/m_max)^γ and ι_j = τ·log π_j.  [prior: Kini et al. 2021]

    With unequal δ a common shift of all scores costs nothing pointwise but moves the argmax, so that the pointwise
    minimiser alone fixes no decision.
    """
    weights = reward_weights(costs)
    counts = weight_totals(weights)
    return _pair(weights, scale=(counts / counts.max()) ** gamma, offset=tau * np.log(counts / counts.sum()), q=q)


def one_vs_all(costs: ArrayLike) -> OneVsAll:
    """K logistic losses with weights c_max − c_k for and c_k against agent k.  [prior: Verma et al. 2022, 2023]

    For 0–1 costs this is "is agent k right?", agent by agent; in general σ(s_k) estimates 1 − E[c_k|x]/c_max.
    """
    weights, negatives = torch.from_numpy(reward_weights(costs)), torch.from_numpy(np.array(costs, dtype=np.float64))
    return OneVsAll(weights, negatives, torch.zeros(weights.shape[1], dtype=torch.float64))


def dr_cpe(costs: ArrayLike, temperature: float = 1.0, q: float = 0.0) -> PairLoss:
    """Softmax class-probability estimation among K KL ideals: W = exp(−c_k/λ)/Z_k.  [paper, form reconstructed]

    The population minimiser is s_k = log Q_k/(1 − q) + const. Routing by argmax s_k alone would compare *normalised*
    densities, and so punish the agents that are good everywhere; Chow's rule at price 0 compares log Q_k + log Z_k:
    `decision_offset` = log Z_k/(1 − q) puts that back. At q ≥ 1 all mass goes to the largest Q_k, and no ratio is left.
    """
    if not 0 <= q < 1:
        raise ValueError(f"q must lie in [0, 1) for density ratios; found {q}")
    log_density, log_normaliser = kl_log_density(costs, temperature)
    return pair_loss(np.exp(log_density), decision_offset=(log_normaliser - log_normaliser.mean()) / (1.0 - q), q=q)


def margin_dr_cpe(
    costs: ArrayLike, temperature: float = 1.0, gamma: float = 0.0, scale: float = 1.0, q: float = 0.0
) -> PairLoss:
    """Unnormalised KL tilts exp(−(c_k − c_min)/λ) with MILD's margins: λ and ρ both free.  [ours]

    λ → 0 with 0–1 costs is MILD; γ = 0 is joint DR-CPE before its normalisers, hence with no decision offset.
    """
    costs = check_costs(costs)
    weights = np.exp((costs.min() - costs) / check_positive("temperature", temperature))
    return _pair(weights, margins=margins_from_counts(weight_totals(weights), scale, gamma), q=q)


@dataclass(frozen=True)
class Preset:
    """A named loss: how to build it, where it comes from, and what its pointwise minimiser decides.

    Attributes:
        build: (costs, **params) → objective.
        source: provenance mark and reference.
        consistent: whether argmax of the pointwise minimiser (plus decision offset) is the Bayes router: "yes",
            "0-1 costs" or "no"; a "no" is about the parameter that sets the preset apart: γ ≠ 0, Δ ≠ 0, unequal ρ.
        expected_costs: the loss is built from an estimate of E[c_k|x], not from the observed costs.
    """

    build: Callable[..., Objective]
    source: str
    consistent: str
    expected_costs: bool = False


PRESETS: dict[str, Preset] = {
    "two_stage": Preset(two_stage, "[prior] Mao, Mohri, Mohri, Zhong 2023", "yes"),
    "two_stage_cost_sum": Preset(two_stage_cost_sum, "[prior] Mao, Mohri, Zhong 2023", "yes"),
    "mild": Preset(mild_power, "[paper] form reconstructed", "no"),
    "mild_free": Preset(mild, "[paper] form reconstructed", "no"),
    "global_temperature": Preset(global_temperature, "[ours] control", "yes"),
    "reweighted": Preset(reweighted, "[prior] inverse frequency", "no"),
    "class_balanced": Preset(class_balanced, "[prior] Cui et al. 2019", "no"),
    "focal": Preset(focal, "[prior] Lin et al. 2017", "yes"),
    "ldam": Preset(ldam, "[prior] Cao et al. 2019", "no"),
    "logit_adjustment": Preset(logit_adjustment, "[prior] Menon et al. 2021", "no"),
    "vs": Preset(vs, "[prior] Kini et al. 2021", "no"),
    "one_vs_all": Preset(one_vs_all, "[prior] Verma et al. 2022, 2023", "yes"),
    "dr_cpe_joint": Preset(dr_cpe, "[paper] form reconstructed", "0-1 costs"),
    "dr_cpe_marginal": Preset(dr_cpe, "[paper] form reconstructed", "yes", expected_costs=True),
    "margin_dr_cpe": Preset(margin_dr_cpe, "[ours]", "no"),
}
