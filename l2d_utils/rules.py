"""Scores → decisions, without retraining: Chow's rule, thresholds, and per-agent offsets.

One convention everywhere: with two agents, *defer iff score ≥ threshold*; with K agents, route to the agent of the
largest score plus offset (the first of equals).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import KFold

from l2d_utils.validate import check_matrix, check_per_agent, check_positive, check_with_costs


def chow(model_cost: ArrayLike, expert_cost: ArrayLike, price: float = 0.0) -> NDArray[np.bool_]:
    """Chow's rule: defer iff E[c_h|x] − E[c_m|x] ≥ price.  [prior: Chow 1970; paper for two agents]

    Expected costs (n,) and the price of asking the expert are in errors; (n,) True where the input goes to the expert.

    Example:
        >>> chow([0.5, 0.5, 0.2], [0.25, 0.5, 0.4], price=0.25)
        array([ True, False, False])
    """
    return np.asarray(model_cost) - np.asarray(expert_cost) >= price


def log_ratio_threshold(price: float, temperature: float, log_z_model: float, log_z_expert: float) -> float:
    """log τ at which thresholding log Q_m/Q_h of the marginal KL ideals is Chow's rule at `price`.

    t = λ·log(τ·Z_m/Z_h), hence log τ = t/λ + log Z_h − log Z_m.  [paper, form reconstructed]
    """
    return float(price / check_positive("temperature", temperature) + log_z_model - log_z_expert)


def threshold_for_rate(scores: ArrayLike, rate: float) -> float:
    """The threshold whose deferral rate on `scores` is nearest to `rate`; full and no deferral can be reached.

    That is the midpoint between the last deferred and the first kept of the scores (n,) of validation examples; −inf
    defers all, +inf none. Blocks of tied scores are deferred whole or not at all.

    Example:
        >>> threshold_for_rate([0.0, 1.0, 2.0, 3.0], rate=0.5)
        1.5
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must lie in [0, 1]; found {rate}")
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or len(scores) == 0 or np.isnan(scores).any():
        raise ValueError(f"scores must be (n,) without NaN, n ≥ 1; found shape {scores.shape}")
    scores, n = np.sort(scores)[::-1], len(scores)
    cuts = np.concatenate([[0], np.flatnonzero(scores[:-1] > scores[1:]) + 1, [n]])
    deferred = cuts[np.argmin(np.abs(cuts - rate * n))]
    if deferred in (0, n):
        return -np.inf if deferred else np.inf
    above, below = scores[deferred - 1], scores[deferred]
    with np.errstate(invalid="ignore"):  # −inf beside +inf
        middle = 0.5 * below + 0.5 * above
    return float(middle) if below < middle <= above else float(above)


def route(scores: ArrayLike, offsets: ArrayLike = 0.0) -> NDArray[np.int64]:
    """argmax_k (s_k + b_k), the first of equals.  Shapes (n, K), (K,) → (n,).

    Example:
        >>> route([[1.0, 0.0], [0.0, 0.4]], offsets=[0.0, 0.7])
        array([0, 1])
    """
    scores = np.asarray(scores)
    return (scores + check_per_agent("offsets", offsets, scores.shape[1])).argmax(axis=1)


def offsets_for_prices(prices: ArrayLike, temperature: float, n_agents: int) -> NDArray[np.float64]:
    """b_k = −price_k/λ: charges each agent a further price, exactly, if s_k = −E[c_k|x]/λ + const.

    Exact for marginal DR-CPE (with its λ) and for the plug-in router (λ = 1); approximate elsewhere.  [ours]
    """
    return -check_per_agent("prices", prices, n_agents) / check_positive("temperature", temperature)


def offsets_for_shares(scores: ArrayLike, shares: ArrayLike, *, sweeps: int = 100) -> NDArray[np.float64]:
    """Offsets at which each agent receives its target share of these rows.  [ours]

    Routing to target shares at the largest total score is a transport problem between rows and agents; its dual
    F(b) = mean_i max_k (s_ik + b_k) − Σ_k share_k·b_k is convex with gradient "got share − target share". Each step
    sets one b_k to the exact minimiser of F along that coordinate: the quantile of the lead it needs.

    Shapes: scores (n, K) and shares (K,) ≥ 0 with sum 1 → offsets (K,) with mean 0, after at most `sweeps` passes over
    the agents. Without ties each share is met to within one row; tied rows move together; a share of 0 gets no row.

    Example:
        >>> scores = np.array([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0], [0.5, 0.0]])  # agent 0 leads everywhere
        >>> route(scores, offsets_for_shares(scores, [0.5, 0.5]))
        array([0, 0, 1, 1])
    """
    scores = check_matrix("scores", scores)
    n, n_agents = scores.shape
    shares = check_per_agent("shares", shares, n_agents)
    if (shares < 0).any() or not np.isclose(shares.sum(), 1.0):
        raise ValueError(f"shares must be ≥ 0 and sum to 1; found {shares} with sum {shares.sum():.6g}")
    # Whole rows by largest remainders: with whole targets the steps do not stall.
    exact = shares / shares.sum() * n
    target = np.floor(exact + 1e-9).astype(np.int64)
    target[np.argsort(target - exact, kind="stable")[: n - target.sum()]] += 1
    offsets = np.zeros(n_agents)
    for _ in range(sweeps):
        got = np.bincount((scores + offsets).argmax(axis=1), minlength=n_agents)
        if (got == target).all():
            break
        before = offsets.copy()
        for agent in np.argsort(-np.abs(got - target)):
            shifted = scores + offsets
            shifted[:, agent] = -np.inf
            needed = shifted.max(axis=1) - scores[:, agent]
            offsets[agent] = -threshold_for_rate(-needed, target[agent] / n)
            if not np.isfinite(offsets[agent]):
                spread = np.ptp(needed) + 1.0
                offsets[agent] = needed.max() + spread if offsets[agent] > 0 else needed.min() - spread
        if np.array_equal(offsets, before):
            break
    return offsets - offsets.mean()


def offsets_for_costs(
    scores: ArrayLike, costs: ArrayLike, *, start: ArrayLike = 0.0, sweeps: int = 20
) -> NDArray[np.float64]:
    """Offsets that lower the deferral loss on these (validation) rows: coordinate descent, each step exact.  [ours]

    Along one b_k the loss is a step function: row i is agent k's iff b_k beats the lead it needs. Sorting the leads
    and summing the cost differences gives the best interval in O(n log n); its midpoint is taken.

    Shapes: scores and costs (n, K) of the same rows → offsets (K,) after at most `sweeps` passes over the agents: the
    offsets `start` themselves if nothing beats them on these rows, else better ones, with mean 0.

    Example:
        >>> scores, costs = np.array([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0]]), np.array([[0, 1], [1, 0], [1, 0]])
        >>> route(scores, offsets_for_costs(scores, costs))
        array([0, 1, 1])
    """
    scores, costs = check_with_costs("scores", scores, costs)
    return _offsets_for_costs(scores, costs, check_per_agent("start", start, scores.shape[1]), sweeps)


def _offsets_for_costs(scores: NDArray, costs: NDArray, offsets: NDArray, sweeps: int = 20) -> NDArray[np.float64]:
    n, n_agents = scores.shape
    offsets, rows = offsets.copy(), np.arange(n)
    best = _loss(scores, costs, offsets)
    for _ in range(sweeps):
        before = best
        for agent in range(n_agents):
            shifted = scores + offsets
            shifted[:, agent] = -np.inf
            rival = shifted.argmax(axis=1)
            needed = shifted[rows, rival] - scores[:, agent]
            order = np.argsort(needed, kind="stable")
            edges = np.concatenate([[needed.min() - 2.0], needed[order], [needed.max() + 2.0]])
            gain = costs[order, agent] - costs[order, rival[order]]
            # loss[j]: the j rows that need the least go to `agent`, the others to their best rival
            loss = (costs[rows, rival].sum() + np.concatenate([[0.0], np.cumsum(gain)])) / n
            j = int(np.argmin(np.where(edges[1:] > edges[:-1], loss, np.inf)))
            if loss[j] >= best - 1e-12:
                continue
            trial = offsets.copy()
            trial[agent] = edges[j] + 0.5 * (edges[j + 1] - edges[j])
            trial -= trial.mean()  # before it is judged: rounding may turn a tie
            if (reached := _loss(scores, costs, trial)) < best:
                best, offsets = reached, trial
        if best >= before - 1e-12:
            break
    return offsets


def _loss(scores: NDArray, costs: NDArray, offsets: NDArray) -> float:
    return float(costs[np.arange(len(costs)), (scores + offsets).argmax(axis=1)].mean())


#: How far offsets are moved from 0 towards the best ones of the validation rows.
SHRINKAGE = (0.0, 0.25, 0.5, 0.75, 1.0)


def shrunken_offsets(
    scores: ArrayLike, costs: ArrayLike, folds: int = 5, random_state: int = 0
) -> tuple[NDArray[np.float64], float]:
    """Offsets t·b: b minimises the loss on these rows, t in `SHRINKAGE` is chosen by cross-validation.  [ours]

    Fitted offsets are chosen to be good on their own rows. For t every row is judged by offsets that were fitted on
    the other folds; t = 0 leaves the router alone. Offsets (K,), and the cross-validated deferral loss of the chosen t.

    Example:
        >>> scores, costs = np.array([[1.0, 0.0]] * 10), np.array([[0.0, 1.0]] * 10)
        >>> shrunken_offsets(scores, costs)  # agent 0 is right and leads: nothing to move
        (array([0., 0.]), 0.0)
    """
    scores, costs = check_with_costs("scores", scores, costs)
    zero = np.zeros(scores.shape[1])
    routes = np.empty((len(SHRINKAGE), len(scores)), dtype=np.int64)
    for fit, judge in KFold(folds, shuffle=True, random_state=random_state).split(scores):
        offsets = _offsets_for_costs(scores[fit], costs[fit], zero)
        for row, t in zip(routes, SHRINKAGE, strict=True):
            row[judge] = (scores[judge] + t * offsets).argmax(axis=1)
    losses = [float(costs[np.arange(len(costs)), row].mean()) for row in routes]
    t = SHRINKAGE[int(np.argmin(losses))]
    return t * _offsets_for_costs(scores, costs, zero) if t else zero, min(losses)


#: Exponents that `offsets_by_power` chooses from; 0, first, leaves the router alone.
POWERS = (0.0, *(sign * g for g in (0.15, 0.35, 0.7, 1.4, 2.8) for sign in (1, -1)))


def offsets_by_power(scores: ArrayLike, costs: ArrayLike, totals: ArrayLike) -> NDArray[np.float64]:
    """b_k = −γ·log(m_k/m_max), one parameter, with the γ of `POWERS` that does best on these rows.  [ours]

    For a free scorer MILD's margins ρ_k = (m_k/m_max)^γ order the agents as these offsets do, so they say what margins
    are worth beyond moving the operating point by the same law.

    Scores and costs (n, K) are of the same (validation) rows, the weight totals m_k (K,) of the training rows.

    Example:
        >>> scores, costs = [[1.0, 0.9], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]
        >>> offsets_by_power(scores, costs, totals=[4.0, 1.0]).round(3)  # γ = 0.15
        array([-0.   ,  0.208])
    """
    scores, costs = check_with_costs("scores", scores, costs)
    totals = check_per_agent("totals", totals, scores.shape[1], positive=True)
    law = -np.log(totals / totals.max())
    return min((gamma * law for gamma in POWERS), key=lambda b: _loss(scores, costs, b))
