"""Numerics behind `losses`: the soft margin and its derivative, and sums over row blocks. No tensor is n×K×K.

    m_k       = s_k/ρ_k − log R_k,   R_k = Σ_{j≠k} exp(s_j/ρ_k)                                               (2)
    ∂m_k/∂s_k = 1/ρ_k                                                                                         (3)
    ∂m_k/∂s_j = −exp(s_j/ρ_k) / (ρ_k·R_k)   for j ≠ k                                                         (4)
    Σ_k g_k·∂m_k/∂s_j = g_j/ρ_j − Σ_{k≠j} (g_k/R_k)·exp(s_j/ρ_k)/ρ_k   for a gradient g in the margins        (5)

Tables here are agent-major, (K, n): sums over agents then run along whole rows, which vectorises.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Numbers in one temporary of a block: small enough to stay in a processor's cache.
BLOCK_SIZE = 160_000

#: (scores (b, K), rows, whether the gradient is wanted) → summed loss, and its gradient (b, K) if wanted.
BlockLoss = Callable[[Tensor, slice, bool], tuple[Tensor, Tensor | None]]


def _agents_by_margin(margins: Tensor) -> list[tuple[float, list[int] | slice, int]]:
    """Each distinct ρ, the agents that have it, and their number; agents in a row are a slice: a list would copy."""
    every, groups = margins.tolist(), []
    for rho in dict.fromkeys(every):
        own = [agent for agent, other in enumerate(every) if other == rho]
        together = own[-1] - own[0] < len(own)
        groups.append((rho, slice(own[0], own[-1] + 1) if together else own, len(own)))
    return groups


class _SoftMargins(torch.autograd.Function):
    """Equation (2) and its derivative (5); each *group* of agents shares one ρ.

    A group of one sums its rivals directly. In a larger group one sum serves all: the leaders (entries exactly 1 after
    the maximum is taken off) are counted and the rest summed apart, so that taking a target off its own sum never
    cancels the small sum of a leader's rivals.
    """

    @staticmethod
    def forward(ctx, scores: Tensor, margins: Tensor) -> Tensor:
        gap = scores - scores.amax(dim=0, keepdim=True)
        out = gap / margins.to(gap)[:, None]
        # Where one agent leads by hundreds of nats its rivals underflow; the floor keeps the logarithm finite.
        floor = torch.finfo(gap.dtype).tiny ** 0.75
        saved = []
        for rho, own, size in _agents_by_margin(margins):
            e = (gap / rho).exp_()
            if size == 1:
                e[own] = 0.0
                out[own] -= e.sum(dim=0).clamp_(min=floor).log_()  # (2)
                continue
            leads = (e == 1.0).to(e)
            rest = e - leads
            rivals = (rest.sum(dim=0, keepdim=True) - rest).add_(leads.sum(dim=0, keepdim=True) - leads)
            rivals.clamp_(min=floor)  # R_k
            out[own] -= rivals[own].log()  # (2)
            saved += [e, leads, rivals]
        ctx.save_for_backward(gap, margins, out, *saved)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        gap, margins, out, *saved = ctx.saved_tensors
        groups = iter(zip(saved[::3], saved[1::3], saved[2::3], strict=True))  # e, leads, R of each larger group
        result = grad / margins.to(gap)[:, None]  # (3): g_j/ρ_j
        for rho, own, size in _agents_by_margin(margins):
            if size == 1:
                # exp(s_j/ρ)/R_k of (4), a softmax over k's rivals: by (2) log R_k = s_k/ρ − m_k; times g_k
                e = (gap / rho).sub_(gap[own] / rho - out[own]).exp_().mul_(grad[own])
                e[own] = 0.0  # (4) is for j ≠ k
                result.sub_(e, alpha=1.0 / rho)  # (5), the one term k of the sum
                continue
            e, leads, rivals = next(groups)
            pull = torch.zeros_like(grad)
            pull[own] = grad[own] / rivals[own]  # (5): g_k/R_k, terms k of this group only
            # (5): Σ_{k≠j} is Σ_k less the term k = j, leaders apart as above
            lead_pull = pull * leads
            pull.sub_(lead_pull)
            lead_pull = lead_pull.sum(dim=0, keepdim=True) - lead_pull
            others = (pull.sum(dim=0, keepdim=True) - pull).add_(lead_pull)
            result.addcmul_(e, others, value=-1.0 / rho)  # (5): −exp(s_j/ρ)/ρ·Σ_{k≠j} g_k/R_k
        return result, None


def soft_margins(scores: Tensor, margins: Tensor | float = 1.0) -> Tensor:
    """m_k = s_k/ρ_k − log Σ_{j≠k} exp(s_j/ρ_k), equation (2).  [ours: the common coordinate of all presets]

    Shapes: floating-point scores (n, K), K ≥ 2, and ρ, one positive number or (K,) → (n, K), differentiable once in
    the scores. A lead so large that σ(−m_k) < 1e-28 (float32; 1e-230 in float64) is returned as that bound.

    Example:
        >>> soft_margins(torch.tensor([[2.0, 0.0]]))
        tensor([[ 2., -2.]])
    """
    rho = torch.as_tensor(margins, dtype=torch.float64).expand(scores.shape[1])
    return _SoftMargins.apply(scores.t().contiguous(), rho).t()


def log_loss(weights: Tensor, margins: Tensor) -> BlockLoss:
    """Equation (1) at q = 0 without focus or shift, in the given scores.

    There −log σ(m_k) = log Σ_j exp(s_j/ρ_k) − s_k/ρ_k: one log-softmax for each distinct ρ serves value and gradient.
    """
    groups = _agents_by_margin(margins)

    def block_loss(scores: Tensor, rows: slice, wanted: bool) -> tuple[Tensor, Tensor | None]:
        # arithmetic transposes a narrow table faster than a copy does
        scores = torch.mul(scores.t(), 1.0, out=scores.new_empty(scores.shape[::-1]))
        total, gradient = torch.zeros((), dtype=torch.float64, device=scores.device), None
        for rho, own, _ in groups:
            w = weights[rows].t()[own]
            log_p = torch.log_softmax(scores / rho, dim=0)
            total -= (w * log_p[own]).sum(dim=0).sum(dtype=torch.float64)
            if wanted:  # Σ_k W_k·(softmax(s/ρ) − e_k)/ρ over the agents k of this ρ
                pull = log_p.exp_().mul_(w.sum(dim=0))
                pull[own] -= w
                pull.div_(rho)
                gradient = pull if gradient is None else gradient.add_(pull)
        return total, gradient.t() if wanted else None

    return block_loss


def by_autograd(loss: Callable[[Tensor, slice], Tensor]) -> BlockLoss:
    """A block loss whose gradient torch derives."""

    def block_loss(scores: Tensor, rows: slice, wanted: bool) -> tuple[Tensor, Tensor | None]:
        with torch.set_grad_enabled(wanted):
            scores = scores.detach().requires_grad_(wanted)
            value = loss(scores, rows)
        return value.detach(), torch.autograd.grad(value, scores)[0] if wanted else None

    return block_loss


def mean_over_blocks(scores: Tensor, loss: BlockLoss, wanted: bool) -> tuple[Tensor, Tensor | None]:
    """(1/n) Σ_rows loss(scores[rows], rows), and its gradient (n, K) if wanted.

    A block's temporaries are dropped before the next one starts: beyond the gradient itself the memory does not grow
    with n. The sum is float64 whatever the scores are: rounded to float32 it would be too coarse for a line search.
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


class Differentiable(torch.autograd.Function):
    """A value that comes with its gradient, made known to torch."""

    @staticmethod
    def forward(ctx, scores: Tensor, value_and_gradient: Callable[..., tuple[Tensor, Tensor | None]]) -> Tensor:
        value, gradient = value_and_gradient(scores, wanted=ctx.needs_input_grad[0])
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * grad.to(ctx.saved_tensors[0]), None
