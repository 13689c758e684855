"""What routing an input to an agent costs, and the weights that surrogate losses put on input–agent pairs.

A cost table `costs[n, K]` has one row per input and one column per agent; lower is better. Costs are in
*errors*: 1 is the price of one wrong answer, so a `price` of 0.1 says "ten questions cost as much as one error".
"""

from __future__ import annotations

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
    """m_k = Σ_i w_ik, (K,), of weights (n, K): for 0–1 costs, the number of inputs that agent k answers correctly.

    Raises:
        ValueError: an agent's total is 0, so that no loss could learn when to use it, or not a number.

    Example:
        >>> weight_totals(reward_weights([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]))
        array([2., 1.])
    """
    weights = np.asarray(weights, dtype=np.float64)
    totals = weights.sum(axis=0)
    if not (totals > 0).all():
        raise ValueError(
            f"agent {int(np.argmin(totals > 0))} is never better than the worst cost on any of the {len(weights)} rows "
            "(never correct?), so no loss can learn when to use it; drop its column"
        )
    return totals
