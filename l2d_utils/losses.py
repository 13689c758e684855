"""The one loss core, and every loss of the two papers and their baselines as a named preset of it.

    (1/n) Σ_i Σ_k  W_ik · φ( m_k((δ ⊙ s_i + ι) / ρ_k) − Δ_k/ρ_k )                                             (1)

where m_k is the *soft margin* of agent k at its own temperature ρ_k,

    m_k = s_k/ρ_k − log Σ_{j≠k} exp(s_j/ρ_k).                                                                (2)

With p = softmax(s/ρ_k), σ(m_k) = p_k. So one number per input–agent pair carries the cross-entropy
−log p_k = −log σ(m_k), the focal factor (1 − p_k)^γ = σ(−m_k)^γ, the comp-sum family (1 − p_k^q)/q, and the
additive margin of LDAM, which lowers the target's own score and hence lowers m_k by Δ_k/ρ_k. As ρ → 0, ρ·m_k tends
to the agent margin s_k − max_{j≠k} s_j. No n×K×K tensor is built: the backward pass recomputes the exponentials.

A preset is a function `costs (n, K) → objective`; an objective maps scores (n, K) to a scalar mean loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid

from l2d_utils.costs import cost_sum_weights, weight_totals, reward_weights
from l2d_utils.ideals import kl_log_density
from l2d_utils.validate import check_costs, check_per_agent, check_positive, check_weights

# ---------------------------------------------------------------------------------------------------------------
# the soft margin


def _agents_by_margin(margins: Tensor) -> list[tuple[float, list[int]]]:
    groups: dict[float, list[int]] = {}
    for agent, rho in enumerate(margins.tolist()):
        groups.setdefault(rho, []).append(agent)
    return list(groups.items())


class _SoftMargins(torch.autograd.Function):
    """Equation (2) on agent-major scores (K, n): sums over agents then run along whole rows, which vectorises.

    Each *group* of agents shares one ρ. A group of one sums its rivals directly. In a larger group one sum serves
    all: the leaders (entries exactly 1 after the maximum is taken off) are counted and the rest summed apart, so that
    taking a target off its own sum never cancels the small sum of a leader's rivals.
    """

    @staticmethod
    def forward(ctx, scores: Tensor, margins: Tensor) -> Tensor:
        gap = scores - scores.amax(dim=0, keepdim=True)
        out = gap / margins.to(gap)[:, None]
        # Where one agent leads by hundreds of nats its rivals underflow; the floor keeps the logarithm finite.
        floor = torch.finfo(gap.dtype).tiny ** 0.75
        shared = []
        for rho, agents in _agents_by_margin(margins):
            e = (gap / rho).exp_()
            if len(agents) == 1:
                e[agents[0]] = 0.0
                out[agents[0]] -= e.sum(dim=0).clamp_(min=floor).log_()
                continue
            leads = (e == 1.0).to(e)
            rest = e - leads
            rivals = (rest.sum(dim=0, keepdim=True) - rest).add_(leads.sum(dim=0, keepdim=True) - leads)
            rivals.clamp_(min=floor)
            if len(agents) == len(gap):
                out -= rivals.log()
            else:
                out[agents] -= rivals[agents].log_()
            shared += [e, leads, rivals]
        ctx.save_for_backward(gap, margins, out, *shared)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        gap, margins, out, *shared = ctx.saved_tensors
        result = grad / margins.to(gap)[:, None]
        for rho, agents in _agents_by_margin(margins):
            if len(agents) == 1:
                k = agents[0]
                # softmax over k's rivals, whose log-sum is gap_k/ρ − m_k
                e = (gap / rho).sub_(gap[k] / rho - out[k]).exp_().mul_(grad[k])
                e[k] = 0.0
                result.sub_(e, alpha=1.0 / rho)
                continue
            e, leads, rivals, *shared = shared
            pull = grad / rivals
            if len(agents) < len(gap):
                pull[[k for k in range(len(gap)) if k not in agents]] = 0.0
            # Agent j is a rival of every target but itself: e_j·(Σ_k pull_k − pull_j), leaders apart as above.
            lead_pull = pull * leads
            pull.sub_(lead_pull)
            lead_pull = lead_pull.sum(dim=0, keepdim=True) - lead_pull
            others = (pull.sum(dim=0, keepdim=True) - pull).add_(lead_pull)
            result.addcmul_(e, others, value=-1.0 / rho)
        return result, None


def soft_margins(scores: Tensor, margins: Tensor | float = 1.0) -> Tensor:
    """m_k = s_k/ρ_k − log Σ_{j≠k} exp(s_j/ρ_k), equation (2).  [ours: the common coordinate of all presets]

    Args:
        scores: (n, K), K ≥ 2, floating point.
        margins: ρ, one positive number or (K,).

    Returns:
        (n, K); differentiable once in `scores`. A lead so large that σ(−m_k) < 1e-28 (float32; 1e-230 in float64)
        is returned as that bound.
    """
    rho = torch.as_tensor(margins, dtype=torch.float64).expand(scores.shape[1])
    return _SoftMargins.apply(scores.t().contiguous(), rho).t()


# ---------------------------------------------------------------------------------------------------------------
# row blocks

#: Numbers in one temporary of a block: small enough to stay in a processor's cache.
BLOCK_SIZE = 160_000

#: (scores (b, K), rows, whether the gradient is wanted) → summed loss, and its gradient (b, K) if wanted.
BlockLoss = Callable[[Tensor, slice, bool], tuple[Tensor, Tensor | None]]


def _mean_over_blocks(scores: Tensor, loss: BlockLoss, wanted: bool) -> tuple[Tensor, Tensor | None]:
    """(1/n) Σ_rows loss(scores[rows], rows), and its gradient (n, K) if wanted.

    Every loss here is a sum over rows, so a block's temporaries can be dropped before the next one starts: beyond
    the gradient itself the memory does not grow with n. The sum is float64 whatever the scores are: rounded to
    float32 it would be too coarse for a line search.
    """
    n, n_agents = scores.shape
    step = max(1, BLOCK_SIZE // n_agents)
    gradient = torch.empty_like(scores) if wanted else None
    total = torch.zeros((), dtype=torch.float64, device=scores.device)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        value, part = loss(scores[rows], rows, wanted)
        if wanted:
            torch.div(part, n, out=gradient[rows])
        total += value
    return total / n, gradient


class _Differentiable(torch.autograd.Function):
    """A value that comes with its gradient, made known to torch."""

    @staticmethod
    def forward(ctx, scores: Tensor, value_and_gradient: Callable[..., tuple[Tensor, Tensor | None]]) -> Tensor:
        value, gradient = value_and_gradient(scores, wanted=ctx.needs_input_grad[0])
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad.to(gradient), None


def _by_autograd(loss: Callable[[Tensor, slice], Tensor]) -> BlockLoss:
    """A block loss whose gradient torch derives."""

    def block_loss(scores: Tensor, rows: slice, wanted: bool) -> tuple[Tensor, Tensor | None]:
        with torch.set_grad_enabled(wanted):
            scores = scores.detach().requires_grad_(wanted)
            value = loss(scores, rows)
        return value.detach(), torch.autograd.grad(value, scores)[0] if wanted else None

    return block_loss


def _log_loss(weights: Tensor, margins: Tensor) -> BlockLoss:
    """Equation (1) at q = 0 without focus or shift, in the given scores.

    There −log σ(m_k) = log Σ_j exp(s_j/ρ_k) − s_k/ρ_k: one log-softmax for each distinct ρ serves the value and the
    gradient Σ_k W_k·(softmax(s/ρ_k) − e_k)/ρ_k, and the soft margins are not needed.
    """
    groups = _agents_by_margin(margins)

    def block_loss(scores: Tensor, rows: slice, wanted: bool) -> tuple[Tensor, Tensor | None]:
        # agent-major, as in _SoftMargins; arithmetic transposes a narrow table faster than a copy does
        scores = torch.mul(scores.t(), 1.0, out=scores.new_empty(scores.shape[::-1]))
        total = torch.zeros((), dtype=torch.float64, device=scores.device)
        gradient = None
        for rho, agents in groups:
            together = agents[-1] - agents[0] < len(agents)
            own = slice(agents[0], agents[-1] + 1) if together else agents  # a slice is a view, a list copies
            w = weights[rows].t()[own]
            log_p = torch.log_softmax(scores / rho, dim=0)
            total -= (w * log_p[own]).sum(dim=0).sum(dtype=torch.float64)
            if wanted:
                pull = log_p.exp_().mul_(w.sum(dim=0))
                pull[own] -= w
                pull.div_(rho)
                gradient = pull if gradient is None else gradient.add_(pull)
        return total, gradient.t() if wanted else None

    return block_loss


def _rescaled(loss: BlockLoss, scale: Tensor, offset: Tensor) -> BlockLoss:
    """The loss at the scores δ ⊙ s + ι, with its gradient in s."""

    def block_loss(scores: Tensor, rows: slice, wanted: bool) -> tuple[Tensor, Tensor | None]:
        value, gradient = loss(torch.addcmul(offset, scores, scale), rows, wanted)
        return value, gradient * scale if wanted else None

    return block_loss


# ---------------------------------------------------------------------------------------------------------------
# objectives: a loss bound to the weights of its training rows


def comp_sum(margin: Tensor, q: float = 0.0, focusing: float = 0.0) -> Tensor:
    """φ(m): (1 − p^q)/q with p = σ(m), and −log p at q = 0; times (1 − p)^focusing.

    [prior: Mao, Mohri, Zhong 2023, cross-entropy versions of comp-sum losses; Lin et al. 2017 for the focal factor]
    """
    log_p = logsigmoid(margin)
    loss = -log_p if q == 0 else torch.expm1(q * log_p) / -q
    return loss * torch.exp(focusing * logsigmoid(-margin)) if focusing else loss


class _Objective:
    """What the two objectives share: each supplies `weights` (n, K) and `_block_loss(rows)`."""

    weights: Tensor

    def value_and_gradient(
        self, scores: Tensor, rows: Tensor | slice = slice(None), *, wanted: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Mean loss of `scores` (b, K), which belong to the training rows `rows`, and its gradient (b, K) if wanted."""
        expected = (len(self.weights[rows]), self.weights.shape[1])
        if scores.shape != expected:
            raise ValueError(f"scores must have shape {expected}, as the weights; found {tuple(scores.shape)}")
        return _mean_over_blocks(scores.detach(), self._block_loss(rows), wanted)

    def __call__(self, scores: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Mean loss of `scores` (b, K), which belong to the training rows `rows`; differentiable once."""
        return _Differentiable.apply(scores, partial(self.value_and_gradient, rows=rows))


@dataclass(frozen=True, eq=False)
class PairLoss(_Objective):
    """Equation (1) with everything but the scores fixed.

    Attributes:
        weights: W, (n, K) tensor.
        margins: ρ, (K,) tensor.
        scale, offset: δ and ι, (K,) tensors: they act on agent j's score whatever the target.
        shift: Δ, (K,) tensor: taken off the target's own score.
        q: comp-sum shape, 0 is the cross-entropy, 1 is the mean absolute error.
        focusing: exponent of the focal factor.
        decision_offset: (K,) tensor added to the trained scores before the argmax (DR-CPE: log Z_k).
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
        loss = _log_loss(weights, self.margins) if plain else _by_autograd(partial(self._general, weights))
        return _rescaled(loss, self.scale, self.offset) if scaled else loss

    @cached_property
    def _turned(self) -> tuple[bool, bool]:
        """Whether δ or ι, and whether Δ, differ from their neutral values."""
        return bool((self.scale != 1).any() or (self.offset != 0).any()), bool((self.shift != 0).any())

    def _general(self, weights: Tensor, scores: Tensor, rows: slice) -> Tensor:
        margin = soft_margins(scores, self.margins) - self.shift / self.margins
        return (comp_sum(margin.t(), self.q, self.focusing) * weights[rows].t()).sum(dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class OneVsAll(_Objective):
    """(1/n) Σ_i Σ_k [W_ik·log(1 + e^{−s_k}) + N_ik·log(1 + e^{s_k})]: K binary problems, no softmax.

    The second weight N is what makes σ(s_k) estimate E[W_k|x] / E[W_k + N_k|x].  [prior: Verma et al. 2022, 2023]
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


Objective = PairLoss | OneVsAll


def to_tensor_type(objective: Objective, like: Tensor) -> Objective:
    """The same objective with its tensors in the dtype and on the device of `like`."""
    moved = {f.name: getattr(objective, f.name) for f in fields(objective)}
    return replace(objective, **{k: v.to(like) for k, v in moved.items() if isinstance(v, Tensor)})


def pair_loss(
    weights: ArrayLike,
    *,
    margins: ArrayLike = 1.0,
    scale: ArrayLike = 1.0,
    offset: ArrayLike = 0.0,
    shift: ArrayLike = 0.0,
    decision_offset: ArrayLike = 0.0,
    q: float = 0.0,
    focusing: float = 0.0,
) -> PairLoss:
    """Check and bind the parts of equation (1); each per-agent part is one number or (K,).

    Raises:
        ValueError: weights negative or not finite (row named), ρ ≤ 0 (agent named), q or focusing negative.
    """
    weights = check_weights(weights)
    n_agents = weights.shape[1]
    for name, value in (("q", q), ("focusing", focusing)):
        if not np.isfinite(value) or value < 0:
            raise ValueError(f"{name} must be a finite number ≥ 0; found {value}")

    def per_agent(name: str, value: ArrayLike, positive: bool = False) -> Tensor:
        return torch.from_numpy(np.array(check_per_agent(name, value, n_agents, positive=positive)))

    return PairLoss(
        # agent-major storage, as in _SoftMargins; the shape stays (n, K)
        weights=torch.from_numpy(np.array(weights.T, order="C")).t(),
        margins=per_agent("margins", margins, positive=True),
        scale=per_agent("scale", scale),
        offset=per_agent("offset", offset),
        shift=per_agent("shift", shift),
        decision_offset=per_agent("decision_offset", decision_offset),
        q=float(q),
        focusing=float(focusing),
    )


# ---------------------------------------------------------------------------------------------------------------
# margins


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
    """The margins that minimise `capacity` at Σ_k ρ_k = total: ρ_k ∝ (R_k²·Σ_i w_ik²)^{1/3}.  [reconstructed]"""
    weights = check_weights(weights)
    radius = check_per_agent("norms", norms, weights.shape[1], positive=True)
    weight_totals(weights)
    root = np.cbrt(radius**2 * (weights**2).sum(axis=0))
    return check_positive("total", total) * root / root.sum()


def ramp_loss(scores: ArrayLike, weights: ArrayLike, margins: ArrayLike) -> NDArray[np.float64]:
    """L_ρ = Σ_k w_k·min(1, max(0, 1 − μ_k/ρ_k)), μ_k = s_k − max_{j≠k} s_j.  [paper, form reconstructed]

    The cost-sensitive margin loss that the MILD surrogate bounds; not convex, so it is evaluated, never trained.

    Returns:
        (n,) loss per input.
    """
    scores, weights = np.asarray(scores, dtype=np.float64), check_weights(weights)
    rho = check_per_agent("margins", margins, weights.shape[1], positive=True)
    return (weights * np.clip(1.0 - agent_margins(scores) / rho, 0.0, 1.0)).sum(axis=1)


def agent_margins(scores: ArrayLike) -> NDArray[np.float64]:
    """μ_k = s_k − max_{j≠k} s_j, shape (n, K): positive only for the agent that the router picks.  [prior]"""
    scores = np.asarray(scores, dtype=np.float64)
    order = np.sort(scores, axis=1)
    leader = scores.argmax(axis=1)[:, None] == np.arange(scores.shape[1])
    return scores - np.where(leader, order[:, -2:-1], order[:, -1:])


# ---------------------------------------------------------------------------------------------------------------
# presets: costs (n, K) → objective


def two_stage(costs: ArrayLike, q: float = 0.0) -> PairLoss:
    """W = c_max − c_k.  [prior: Mao, Mohri, Mohri, Zhong 2023, two-stage learning to defer]"""
    return pair_loss(reward_weights(costs), q=q)


def two_stage_cost_sum(costs: ArrayLike, q: float = 0.0) -> PairLoss:
    """W = Σ_{j≠k} c_j.  [prior: Mao, Mohri, Zhong 2023]"""
    return pair_loss(cost_sum_weights(costs), q=q)


def mild(costs: ArrayLike, margins: ArrayLike, q: float = 0.0) -> PairLoss:
    """W = c_max − c_k and one confidence margin per agent.  [paper, form reconstructed]"""
    return pair_loss(reward_weights(costs), margins=margins, q=q)


def mild_power(costs: ArrayLike, gamma: float = 1 / 3, scale: float = 1.0, q: float = 0.0) -> PairLoss:
    """MILD with ρ_k = scale·(m_k/m_max)^γ.  [paper, form reconstructed; the power law is after IMMAX]"""
    return mild(costs, margins_from_counts(weight_totals(reward_weights(costs)), scale, gamma), q)


def global_temperature(costs: ArrayLike, rho: float = 1.0, q: float = 0.0) -> PairLoss:
    """One ρ for all agents: the control for MILD.  [ours]"""
    return mild(costs, check_positive("rho", rho), q)


def reweighted(costs: ArrayLike, q: float = 0.0) -> PairLoss:
    """W = (c_max − c_k)/m_k, scaled to keep the mean weight.  [prior: inverse-frequency weighting]"""
    weights = reward_weights(costs)
    counts = weight_totals(weights)
    return pair_loss(weights * (counts.mean() / counts), q=q)


def class_balanced(costs: ArrayLike, beta: float = 0.999, q: float = 0.0) -> PairLoss:
    """W = (c_max − c_k)·(1−β)/(1−β^{m_k}).  [prior: Cui et al. 2019]"""
    if not 0 < beta < 1:
        raise ValueError(f"beta must lie in (0, 1); found {beta}")
    weights = reward_weights(costs)
    return pair_loss(weights * (1.0 - beta) / -np.expm1(weight_totals(weights) * np.log(beta)), q=q)


def focal(costs: ArrayLike, gamma: float = 2.0) -> PairLoss:
    """Cross-entropy × (1−p_k)^γ.  [prior: Lin et al. 2017]"""
    return pair_loss(reward_weights(costs), focusing=gamma)


def ldam(costs: ArrayLike, max_shift: float = 0.5, scale: float = 1.0, q: float = 0.0) -> PairLoss:
    """Additive margins Δ_k = max_shift·(m_k/m_min)^{−1/4}, ρ = 1/scale for all.  [prior: Cao et al. 2019]"""
    weights = reward_weights(costs)
    counts = weight_totals(weights)
    shift = check_positive("max_shift", max_shift) * (counts / counts.min()) ** -0.25
    return pair_loss(weights, margins=1.0 / check_positive("scale", scale), shift=shift, q=q)


def logit_adjustment(costs: ArrayLike, tau: float = 1.0, q: float = 0.0) -> PairLoss:
    """Scores shifted by ι_j = τ·log π_j while training, not when routing.  [prior: Menon et al. 2021]"""
    return vs(costs, gamma=0.0, tau=tau, q=q)


def vs(costs: ArrayLike, gamma: float = 0.2, tau: float = 1.0, q: float = 0.0) -> PairLoss:
    """Vector-scaling loss: δ_j = (m_j/m_max)^γ and ι_j = τ·log π_j.  [prior: Kini et al. 2021]

    With unequal δ a common shift of all scores costs nothing pointwise but moves the argmax, so the pointwise
    minimiser alone does not even fix a decision (notebook 01).
    """
    weights = reward_weights(costs)
    counts = weight_totals(weights)
    return pair_loss(weights, scale=(counts / counts.max()) ** gamma, offset=tau * np.log(counts / counts.sum()), q=q)


def one_vs_all(costs: ArrayLike) -> OneVsAll:
    """K logistic losses with weights c_max − c_k for and c_k against agent k.  [prior: Verma et al. 2022, 2023]

    For 0–1 costs this is "is agent k right?", agent by agent; in general σ(s_k) estimates 1 − E[c_k|x]/c_max.
    """
    costs = check_costs(costs)
    weights = torch.from_numpy(reward_weights(costs))
    return OneVsAll(weights, torch.from_numpy(costs.copy()), torch.zeros(costs.shape[1], dtype=torch.float64))


def dr_cpe(costs: ArrayLike, temperature: float = 1.0, q: float = 0.0) -> PairLoss:
    """Softmax class-probability estimation among K KL ideals: W = exp(−c_k/λ)/Z_k.  [paper, form reconstructed]

    The population minimiser is s_k = log Q_k/(1 − q) + const. Routing by argmax s_k alone would compare *normalised*
    densities, and so punish the agents that are good everywhere; Chow's rule at price 0 compares
    log Q_k + log Z_k. `decision_offset` = log Z_k/(1 − q) puts that back. At q ≥ 1 the scores no longer hold the
    ratio (all mass goes to the largest Q_k), so q must be below 1.
    """
    if not 0 <= q < 1:
        raise ValueError(f"q must lie in [0, 1) for density ratios; found {q}")
    log_density, log_normaliser = kl_log_density(check_costs(costs), temperature)
    return pair_loss(np.exp(log_density), decision_offset=(log_normaliser - log_normaliser.mean()) / (1.0 - q), q=q)


def margin_dr_cpe(
    costs: ArrayLike, temperature: float = 1.0, gamma: float = 0.0, scale: float = 1.0, q: float = 0.0
) -> PairLoss:
    """Unnormalised KL tilts exp(−(c_k − c_min)/λ) with MILD's margins: λ and ρ both free.  [ours]

    λ → 0 with 0–1 costs is MILD; γ = 0 is joint DR-CPE before its normalisers, hence with no decision offset.
    """
    costs = check_costs(costs)
    weights = np.exp((costs.min() - costs) / check_positive("temperature", temperature))
    return pair_loss(weights, margins=margins_from_counts(weight_totals(weights), scale, gamma), q=q)


@dataclass(frozen=True)
class Preset:
    """A named loss: how to build it, where it comes from, and what its pointwise minimiser decides.

    Attributes:
        build: (costs, **params) → objective.
        source: provenance mark and reference.
        consistent: whether argmax of the pointwise minimiser (plus decision offset) is the Bayes router:
            "yes", "0-1 costs" or "no". Found numerically and argued in notebook 01. A "no" is about the parameter
            that makes the preset differ from its parent: γ ≠ 0, Δ ≠ 0, unequal ρ.
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
