"""What routing an input to an agent costs, and the weights that surrogate losses put on input–agent pairs.

A cost table `costs[n, K]` has one row per input and one column per agent; lower is better. Costs are in
*errors*: 1 is the price of one wrong answer, so a `price` of 0.1 says "ten questions cost as much as one error".
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l2d_utils.validate import check_costs, check_matrix, check_per_agent, check_positive, check_same_rows, refuse


def costs_from_predictions(
    predictions: ArrayLike, labels: ArrayLike, *, error_cost: ArrayLike = 1.0, price: ArrayLike = 0.0
) -> NDArray[np.float64]:
    """c_k(x, y) = error_cost_k · 1[g_k(x) ≠ y] + price_k.  [prior: Mao, Mohri, Zhong 2023]

    Shapes: class indices that the agents answer, (n, K), and the true ones, (n,) → float64 costs (n, K). What a wrong
    answer and what asking costs is one number or one per agent, ≥ 0, in errors.

    Raises:
        ValueError: shapes do not match, or a resulting cost is negative or not finite.

    Example:
        >>> costs_from_predictions([[3, 5], [5, 5]], [3, 5], price=[0.0, 0.1])  # 2 images, 2 agents
        array([[0. , 1.1],
               [0. , 0.1]])
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.ndim != 2 or labels.ndim != 1:
        found = f"shapes {predictions.shape} and {labels.shape}"
        raise ValueError(f"predictions must be (n, K) and labels (n,); found {found}")
    check_same_rows(predictions=predictions, labels=labels)
    error_cost = check_per_agent("error_cost", error_cost, predictions.shape[1])
    price = check_per_agent("price", price, predictions.shape[1])
    return check_costs(error_cost * (predictions != labels[:, None]) + price)


def costs_from_scores(
    scores: ArrayLike, dollars: ArrayLike | None = None, *, price_weight: float = 0.0, dollar_unit: float | None = None
) -> NDArray[np.float64]:
    """c_k = (1 − score_k) + price_weight · dollars_k / dollar_unit, float64 (n, K).  [ours]

    Args:
        scores: (n, K) quality of each agent's answer in [0, 1].
        dollars: (n, K) price of each answer in dollars, ≥ 0; needed when `price_weight` > 0.
        price_weight: errors that one `dollar_unit` is worth, ≥ 0.
        dollar_unit: dollars; by default the mean price of the dearest agent in this table. Pass the training
            table's value (`default_dollar_unit`) when you price held-out rows.

    Raises:
        ValueError: a score outside [0, 1] (row and agent named), dollars missing or negative, shapes that differ.

    Example:
        >>> costs_from_scores([[0.9, 1.0]], [[0.001, 0.010]], price_weight=0.2)  # 1 prompt, 2 models
        array([[0.12, 0.2 ]])
    """
    scores = check_matrix("scores", scores).astype(np.float64, copy=False)
    refuse("scores", scores, (scores < 0) | (scores > 1), "lie in [0, 1]")
    if check_positive("price_weight", price_weight, or_zero=True) == 0:
        return check_costs(1.0 - scores)
    if dollars is None:
        raise ValueError("price_weight > 0 needs dollars (n, K); found None")
    dollars = check_matrix("dollars", dollars, columns=scores.shape[1])
    check_same_rows(scores=scores, dollars=dollars)
    refuse("dollars", dollars, dollars < 0, "be non-negative")
    unit = default_dollar_unit(dollars) if dollar_unit is None else check_positive("dollar_unit", dollar_unit)
    return check_costs(1.0 - scores + price_weight * dollars / unit)


def default_dollar_unit(dollars: ArrayLike) -> float:
    """Mean price in dollars of the dearest agent: the unit in which `costs_from_scores` counts money."""
    unit = float(check_matrix("dollars", dollars).mean(axis=0).max())
    if unit <= 0:
        raise ValueError("dollars are 0 for every agent, so no price unit exists; use price_weight=0")
    return unit


class UselessAgent(ValueError):
    """An agent that never earns weight: no loss can learn when to use it."""


def reward_weights(costs: ArrayLike) -> NDArray[np.float64]:
    """w_k = c_max − c_k, with c_max the largest entry of the table.  [prior: Mao, Mohri, Zhong 2023, c_max = 1]

    The weight of the pair (x, k) is what is lost, against the worst case, if x does *not* go to agent k.

    Raises:
        ValueError: bad costs; an agent that is at c_max on every row (it never earns weight: drop that column).

    Example:
        >>> reward_weights([[0.0, 1.0, 0.25], [1.0, 0.5, 0.25]])
        array([[1.  , 0.  , 0.75],
               [0.  , 0.5 , 0.75]])
    """
    costs = check_costs(costs)
    weights = costs.max() - costs
    weight_totals(weights)
    return weights


def cost_sum_weights(costs: ArrayLike) -> NDArray[np.float64]:
    """v_k = Σ_{j≠k} c_j.  [prior: Mao, Mohri, Zhong 2023]  Shape (n, K)."""
    costs = check_costs(costs)
    return costs.sum(axis=1, keepdims=True) - costs


def weight_totals(weights: ArrayLike) -> NDArray[np.float64]:
    """m_k = Σ_i w_ik of weights (n, K), (K,): for 0–1 costs, the number of inputs that agent k answers correctly.

    Raises:
        UselessAgent: an agent's total is 0, so that no loss could learn when to use it, or not a number.

    Example:
        >>> weight_totals(reward_weights([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]))
        array([2., 1.])
    """
    weights = np.asarray(weights, dtype=np.float64)
    totals = weights.sum(axis=0)
    if not (totals > 0).all():
        never = f"agent {int(np.argmin(totals > 0))} is never better than the worst cost on any of the {len(weights)}"
        raise UselessAgent(f"{never} rows (never correct?), so no loss can learn when to use it; drop its column")
    return totals


def margins_from_counts(counts: ArrayLike, scale: float = 1.0, gamma: float = 1 / 3) -> NDArray[np.float64]:
    """ρ_k = scale·(m_k/m_max)^γ; γ = 0 is one global temperature.  [reconstructed]  Shape (K,)."""
    counts = np.asarray(counts, dtype=np.float64)
    return check_positive("scale", scale) * (counts / counts.max()) ** gamma


def capacity(margins: ArrayLike, weights: ArrayLike, norms: ArrayLike = 1.0) -> float:
    """C(ρ) = Σ_k (R_k/ρ_k)²·Σ_i w_ik², the complexity that the margins control.  [reconstructed, after IMMAX]"""
    weights = check_costs(weights, "weights")
    rho = check_per_agent("margins", margins, weights.shape[1], positive=True)
    radius = check_per_agent("norms", norms, weights.shape[1], positive=True)
    return float(((radius / rho) ** 2 * (weights**2).sum(axis=0)).sum())


def capacity_margins(weights: ArrayLike, norms: ArrayLike = 1.0, *, total: float) -> NDArray[np.float64]:
    """The margins that minimise `capacity` at Σ_k ρ_k = total: ρ_k ∝ (R_k²·Σ_i w_ik²)^{1/3}.  [reconstructed]

    Example:
        >>> capacity_margins([[1.0, 0.0]] * 8 + [[0.0, 1.0]], total=3.0)  # 8 inputs for one agent, 1 for the other
        array([2., 1.])
    """
    weights = check_costs(weights, "weights")
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
    weights = check_costs(weights, "weights")
    rho = check_per_agent("margins", margins, weights.shape[1], positive=True)
    return (weights * np.clip(1.0 - agent_margins(scores) / rho, 0.0, 1.0)).sum(axis=1)


def agent_margins(scores: ArrayLike) -> NDArray[np.float64]:
    """μ_k = s_k − max_{j≠k} s_j, shape (n, K): positive only for the agent that the router picks.  [prior]"""
    scores = np.asarray(scores, dtype=np.float64)
    order = np.sort(scores, axis=1)
    leader = scores.argmax(axis=1)[:, None] == np.arange(scores.shape[1])
    return scores - np.where(leader, order[:, -2:-1], order[:, -1:])
