"""Every "Must hold" statement of the theory: checked against the library, and shown to fail for a planted error.

Numbers in the names: section and statement. 1: deferral as cost-sensitive learning; 3: MILD; 4: density ratios;
5: the bridge. Each check is a function of the formula in question; the test calls it with the library's formula and
with wrong ones.
"""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp

from l2d_utils import costs as costs_module
from l2d_utils import ideals, losses, rules
from l2d_utils.routers import DensityRatioScorer
from references import finite_two_agent_problem, minimise_table, reference_loss

EXACT = {"rtol": 1e-9, "atol": 1e-9}


def fails(check, formula):
    """The check must notice the planted error."""
    with pytest.raises(AssertionError):
        check(formula)


def value(objective, scores):
    return float(objective(torch.as_tensor(np.asarray(scores, dtype=np.float64))))


def random_tables(seed, count=40):
    """Scores (with ties), costs (with ties), K from 2 to 6."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        n, n_agents = int(rng.integers(2, 30)), int(rng.integers(2, 7))
        costs = rng.gamma(1.0, 1.0, size=(n, n_agents))
        if rng.random() < 0.5:
            costs = (costs > 0.7).astype(float) + 0.1 * rng.integers(0, 3, size=n_agents)
        scores = rng.normal(size=(n, n_agents)) * rng.choice([0.1, 1.0, 10.0])
        if rng.random() < 0.5:
            scores = np.round(scores)
        yield rng, scores, costs


# ---------------------------------------------------------------------------------------------------------------
# 1. deferral as cost-sensitive learning


def check_reward_identity(weights_of):
    for _, scores, costs in random_tables(11):
        if (costs.max(axis=0) == costs.min(axis=0)).any() or (costs.min(axis=0) == costs.max()).any():
            continue
        r = rules.route(scores)
        w, others = weights_of(costs), np.arange(costs.shape[1]) != r[:, None]
        right = (w * others).sum(axis=1) + (costs.max() - w.sum(axis=1))
        np.testing.assert_allclose(costs[np.arange(len(r)), r], right, **EXACT)


def test_must_hold_1_reward_weight_identity():
    check_reward_identity(costs_module.reward_weights)
    fails(check_reward_identity, lambda c: c.max() + c)  # flipped sign
    fails(check_reward_identity, lambda c: 1.0 - c)  # c_max taken as 1 (true for 0-1 costs only)


def check_cost_sum_identity(weights_of):
    for _, scores, costs in random_tables(12):
        r = rules.route(scores)
        v, others = weights_of(costs), np.arange(costs.shape[1]) != r[:, None]
        right = (v * others).sum(axis=1) - (costs.shape[1] - 2) * costs.sum(axis=1)
        np.testing.assert_allclose(costs[np.arange(len(r)), r], right, **EXACT)


def test_must_hold_1_cost_sum_identity():
    check_cost_sum_identity(costs_module.cost_sum_weights)
    fails(check_cost_sum_identity, lambda c: c)  # swapped weight
    fails(check_cost_sum_identity, lambda c: c.sum(axis=1, keepdims=True) + c)  # flipped sign
    fails(check_cost_sum_identity, lambda c: costs_module.cost_sum_weights(c) / (c.shape[1] - 1))  # a mean for a sum


# ---------------------------------------------------------------------------------------------------------------
# 3. MILD


def check_chain_of_bounds(formulas):
    """0-1 loss ≤ ramp loss ≤ surrogate/log 2, row by row; and the chain is tight where theory says so."""
    ramp, surrogate = formulas
    for rng, scores, costs in random_tables(31):
        w = costs.max() - costs
        rho = rng.uniform(0.1, 3.0, size=costs.shape[1])
        best = scores.max(axis=1, keepdims=True)
        tied = (scores == best).sum(axis=1, keepdims=True) > 1
        error = np.where((scores == best) & ~tied, 0.0, 1.0)
        middle = ramp(scores, w, rho)
        upper = np.array([surrogate(s[None], v[None], rho) for s, v in zip(scores, w, strict=True)]) / np.log(2)
        assert ((w * error).sum(axis=1) <= middle + 1e-9).all()
        assert (middle <= upper + 1e-9).all()
        np.testing.assert_allclose(
            ramp(scores * 1e6, w, rho), (w * error).sum(axis=1), **EXACT
        )  # wide margins: the ramp is the 0-1 loss
    # where the bounds touch: two agents, tied scores
    w, rho = np.array([[0.3, 0.8]]), np.array([0.5, 2.0])
    tie = np.zeros((1, 2))
    np.testing.assert_allclose(ramp(tie, w, rho), 1.1, **EXACT)
    np.testing.assert_allclose(surrogate(tie, w, rho) / np.log(2), 1.1, **EXACT)
    # half a margin ahead: half a ramp
    np.testing.assert_allclose(ramp(np.array([[0.25, 0.0]]), w, rho), 0.3 * 0.5 + 0.8, **EXACT)


def library_surrogate(scores, weights, rho):
    return value(losses.pair_loss(weights, margins=rho), scores)


def test_must_hold_3_1_chain_of_bounds():
    check_chain_of_bounds((losses.ramp_loss, library_surrogate))

    def ramp_of(margin_of):
        return lambda s, w, rho: (w * np.clip(1.0 - margin_of(s) / rho, 0.0, 1.0)).sum(axis=1)

    for planted in (
        ramp_of(lambda s: -losses.agent_margins(s)),  # flipped sign
        ramp_of(lambda s: s - s.max(axis=1, keepdims=True)),  # the winner's rival is itself
        lambda s, w, rho: losses.ramp_loss(s, w, np.ones_like(rho)),  # missing 1/ρ
        lambda s, w, rho: losses.ramp_loss(s, w[:, ::-1], rho),  # swapped weight
    ):
        fails(check_chain_of_bounds, (planted, library_surrogate))
    for planted in (
        lambda s, w, rho: library_surrogate(-s, w, rho),
        lambda s, w, rho: library_surrogate(s, w, 1.0),
        lambda s, w, rho: library_surrogate(s, w[:, ::-1].copy(), rho),
        lambda s, w, rho: library_surrogate(s, w, rho) * np.log(2),  # the factor log 2 forgotten
    ):
        fails(check_chain_of_bounds, (losses.ramp_loss, planted))


def check_equal_margins(mild):
    for rng, scores, costs in random_tables(32):
        if (costs.min(axis=0) == costs.max()).any():
            continue
        rho = rng.uniform(0.1, 3.0)
        want = value(losses.two_stage(costs), scores / rho)
        np.testing.assert_allclose(value(mild(costs, rho), scores), want, **EXACT)
        np.testing.assert_allclose(want, reference_loss(scores / rho, costs.max() - costs), **EXACT)


def test_must_hold_3_2_equal_margins_rescale_two_stage():
    check_equal_margins(lambda costs, rho: losses.mild(costs, np.full(costs.shape[1], rho)))
    check_equal_margins(losses.global_temperature)
    check_equal_margins(lambda costs, rho: losses.mild_power(costs, gamma=0.0, scale=rho))
    fails(check_equal_margins, lambda costs, rho: losses.mild(costs, 1.0))  # missing 1/ρ
    fails(check_equal_margins, lambda costs, rho: losses.mild(costs, 1.0 / rho))  # 1/ρ for ρ
    fails(check_equal_margins, lambda costs, rho: losses.pair_loss(costs, margins=rho))  # swapped weight


def check_capacity_margins(margins_of):
    """Against a generic constrained minimiser, with the capacity written out here."""
    rng = np.random.default_rng(33)
    for _ in range(12):
        n, n_agents = 20, int(rng.integers(2, 6))
        w = rng.gamma(1.0, 1.0, size=(n, n_agents)) * rng.uniform(0.1, 3.0, size=n_agents)
        radius, total = rng.uniform(0.5, 2.0, size=n_agents), rng.uniform(0.5, 5.0)

        def capacity(rho, w=w, radius=radius):
            return sum(radius[k] ** 2 * (w[:, k] ** 2).sum() / rho[k] ** 2 for k in range(len(rho)))

        def on_simplex(u, total=total, capacity=capacity):
            return np.log(capacity(total * np.exp(u - logsumexp(u))))

        found = minimize(on_simplex, np.zeros(n_agents), method="BFGS", options={"gtol": 1e-10}).x
        best = total * np.exp(found - logsumexp(found))
        rho = margins_of(w, radius, total)
        np.testing.assert_allclose(rho.sum(), total, **EXACT)
        np.testing.assert_allclose(rho, best, rtol=1e-5)
        # exact: at the minimum ∂C/∂ρ_k is the same for every agent
        slope = radius**2 * (w**2).sum(axis=0) / rho**3
        np.testing.assert_allclose(slope, slope[0], **EXACT)
        np.testing.assert_allclose(losses.capacity(rho, w, radius), capacity(rho), **EXACT)


def test_must_hold_3_3_capacity_margins():
    check_capacity_margins(lambda w, radius, total: losses.capacity_margins(w, radius, total=total))

    def power(exponent, moment=2, with_radius=2):
        def margins(w, radius, total):
            root = (radius**with_radius * (w**moment).sum(axis=0)) ** exponent
            return total * root / root.sum()

        return margins

    check_capacity_margins(power(1 / 3))
    fails(check_capacity_margins, power(-1 / 3))  # the opposite direction
    fails(check_capacity_margins, power(1 / 2))
    fails(check_capacity_margins, power(1 / 3, moment=1))  # counts in place of sums of squares
    fails(check_capacity_margins, power(1 / 3, with_radius=1))
    fails(check_capacity_margins, lambda w, r, total: losses.capacity_margins(w, r, total=1.0))


def test_must_hold_3_3_capacity_margins_grow_where_ldam_shrinks():
    rng = np.random.default_rng(34)
    costs = (rng.random((400, 3)) > [0.7, 0.2, 0.1]).astype(float)
    weights = costs_module.reward_weights(costs)
    order = np.argsort(costs_module.weight_totals(weights))
    assert (np.diff(losses.capacity_margins(weights, total=3.0)[order]) > 0).all()
    assert (np.diff(losses.mild_power(costs).margins.numpy()[order]) > 0).all()
    assert (np.diff(losses.ldam(costs).shift.numpy()[order]) < 0).all()


def check_ramp_minimiser(ramp):
    """No score row does better than Σ a − max a, and only rows that route to argmax a can reach it, for any ρ."""
    rng = np.random.default_rng(35)
    for _ in range(60):
        n_agents = int(rng.integers(2, 6))
        a, rho = rng.random(n_agents), rng.uniform(0.05, 5.0, size=n_agents)
        trials = rng.normal(size=(200, n_agents)) * rng.choice([0.1, 1.0, 10.0], size=(200, 1))
        got = ramp(trials, np.broadcast_to(a, trials.shape), rho)
        assert (got >= a.sum() - a[trials.argmax(axis=1)] - 1e-9).all()
        confident = np.eye(n_agents) * 10.0
        np.testing.assert_allclose(ramp(confident, np.broadcast_to(a, confident.shape), rho), a.sum() - a, **EXACT)


def test_must_hold_3_4_ramp_loss_is_consistent_for_any_margins():
    check_ramp_minimiser(losses.ramp_loss)
    fails(check_ramp_minimiser, lambda s, w, rho: losses.ramp_loss(s, w / rho, rho))  # as the smooth surrogate acts
    fails(check_ramp_minimiser, lambda s, w, rho: losses.ramp_loss(-s, w, rho))
    fails(check_ramp_minimiser, lambda s, w, rho: losses.ramp_loss(s, w[:, ::-1], rho))


def check_smooth_boundary(threshold):
    """`threshold(ρ)` is the ratio a_1/a_2 at which the smooth surrogate's pointwise minimiser changes sides (K = 2)."""
    rng = np.random.default_rng(36)
    for _ in range(25):
        rho = rng.uniform(0.2, 3.0, size=2)
        for side in (1.0 - 1e-3, 1.0 + 1e-3):
            a = np.array([[threshold(rho) * side, 1.0]])
            objective = losses.pair_loss(a, margins=rho)

            def graph(table, objective=objective):
                s = torch.tensor(table, requires_grad=True)
                loss = objective(s)
                loss.backward()
                return float(loss.detach()), s.grad.numpy()

            s = minimise_table(graph, (1, 2))[0]
            assert (s[0] > s[1]) == (side > 1), (rho, side, s)


def test_must_hold_3_4_smooth_surrogate_boundary_moves():
    check_smooth_boundary(lambda rho: rho[0] / rho[1])
    fails(check_smooth_boundary, lambda rho: 1.0)  # consistent: what would hold without margins
    fails(check_smooth_boundary, lambda rho: rho[1] / rho[0])


def test_must_hold_3_4_boundary_exactly():
    """At a_1/ρ_1 = a_2/ρ_2 the gradient at tied scores vanishes; away from it, it does not."""
    for rho in ([0.5, 2.0], [1.0, 3.0], [0.7, 0.7]):
        for a_1, zero in ((rho[0], True), (rho[0] * 1.01, False)):
            s = torch.zeros((1, 2), dtype=torch.float64, requires_grad=True)
            losses.pair_loss([[a_1, rho[1]]], margins=rho)(s).backward()
            assert (s.grad.abs().max() < 1e-12) == zero


# ---------------------------------------------------------------------------------------------------------------
# 4. density ratios


def check_marginal_kl(formulas):
    """log Q_m/Q_h from the definition of the ideals, against (E c_h − E c_m)/λ + log Z_h/Z_m."""
    ratio, threshold = formulas
    rng = np.random.default_rng(41)
    for _ in range(1000):
        p, posterior, c_h, c_m = finite_two_agent_problem(rng)
        e_h, e_m = (posterior * c_h).sum(axis=1), (posterior * c_m).sum(axis=1)
        temperature = np.exp(rng.uniform(np.log(0.05), np.log(20.0)))
        q_h, q_m = p * np.exp(-e_h / temperature), p * np.exp(-e_m / temperature)
        z_h, z_m = q_h.sum(), q_m.sum()
        want = np.log((q_m / z_m) / (q_h / z_h))
        got = ratio(e_h, e_m, temperature, p)
        np.testing.assert_allclose(got, want, **EXACT)
        # every threshold: one between each pair of neighbours, and the two extremes
        difference = np.sort(e_h - e_m)
        prices = np.concatenate([[difference[0] - 1.0], (difference[1:] + difference[:-1]) / 2, [difference[-1] + 1.0]])
        for price in prices:
            log_tau = threshold(price, temperature, np.log(z_h), np.log(z_m))
            assert ((got >= log_tau) == rules.chow(e_h, e_m, price)).all()
            back = temperature * (log_tau + np.log(z_m) - np.log(z_h))
            np.testing.assert_allclose(back, price, **EXACT)
        # and the other way: thresholds on the ratio, turned into prices
        levels = np.sort(got)
        for log_tau in (levels[1:] + levels[:-1]) / 2:
            price = temperature * (log_tau + np.log(z_m / z_h))
            assert ((got >= log_tau) == rules.chow(e_h, e_m, price)).all()


def test_must_hold_4_1_chow_from_marginal_kl():
    ratio, threshold = ideals.marginal_log_ratio, rules.log_ratio_threshold
    check_marginal_kl((ratio, threshold))
    for wrong in (
        lambda h, m, t, p: (h - m) / t,  # missing normalisers
        lambda h, m, t, p: -ratio(h, m, t, p),  # flipped sign
        lambda h, m, t, p: ratio(h, m, 1.0, p),  # missing 1/λ
        lambda h, m, t, p: ratio(h, m, t, np.full(len(p), 1 / len(p))),  # p forgotten in Z
    ):
        fails(check_marginal_kl, (wrong, threshold))
    for wrong in (
        lambda price, t, z_h, z_m: threshold(price, t, z_m, z_h),  # Z_m and Z_h swapped
        lambda price, t, z_h, z_m: price / t,  # missing normalisers
        lambda price, t, z_h, z_m: price + z_h - z_m,  # missing 1/λ
    ):
        fails(check_marginal_kl, (ratio, wrong))


def check_classical_reject_option(decide):
    """Bayes-optimal h under 0-1 cost, an expert that always costs t: reject iff 1 − max_y P(y|x) ≥ t."""
    rng = np.random.default_rng(42)
    for _ in range(200):
        n, n_labels, price = 10, 4, rng.uniform(0.05, 0.7)
        p, posterior = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(n_labels), size=n)
        c_h = 1.0 - np.eye(n_labels)[posterior.argmax(axis=1)]
        want = 1.0 - posterior.max(axis=1) >= price
        assert (decide((posterior * c_h).sum(axis=1), np.full(n, price), p) == want).all()


def test_must_hold_4_1_classical_reject_option():
    def decide(e_h, e_m, p, temperature=0.3):
        _, log_z = ideals.kl_log_density(np.column_stack([e_h, e_m]), temperature, p)
        return ideals.marginal_log_ratio(e_h, e_m, temperature, p) >= rules.log_ratio_threshold(
            0.0, temperature, *log_z
        )

    check_classical_reject_option(decide)
    check_classical_reject_option(lambda h, m, p: rules.chow(h, m))
    fails(check_classical_reject_option, lambda h, m, p: decide(m, h, p))
    fails(check_classical_reject_option, lambda h, m, p: ideals.marginal_log_ratio(h, m, 0.3, p) >= 0.0)


def check_joint_kl(formulas):
    """Q_h/Q_m through the expert-tilted posterior, its log-loss form, and the 0-1 form."""
    log_ratio, tilt = formulas
    rng = np.random.default_rng(43)
    for _ in range(200):
        p, posterior, c_h, c_m = finite_two_agent_problem(rng)
        t = np.exp(rng.uniform(np.log(0.1), np.log(5.0)))
        h = rng.dirichlet(np.ones(posterior.shape[1]), size=len(p))
        errors = [(rng.random(posterior.shape) < 0.5).astype(float) for _ in range(2)]
        for model_cost, expert_cost in ((c_h, c_m), (-t * np.log(h), c_m), errors):
            joint = p[:, None] * posterior
            q = [joint * np.exp(-c / t) for c in (model_cost, expert_cost)]
            z_h, z_m = q[0].sum(), q[1].sum()
            direct = np.log(q[1].sum(axis=1) / z_m) - np.log(q[0].sum(axis=1) / z_h)
            got = log_ratio(posterior, model_cost, expert_cost, t, p)
            np.testing.assert_allclose(got, direct, **EXACT)
            tilted = tilt(posterior, expert_cost, t)
            np.testing.assert_allclose(tilted.sum(axis=1), 1.0, **EXACT)
            form = (tilted * np.exp((expert_cost - model_cost) / t)).sum(axis=1) * z_m / z_h
            np.testing.assert_allclose(np.exp(-got), form, rtol=1e-9)
            if model_cost is not c_h and expert_cost is c_m:  # the log loss
                form = (tilted * h * np.exp(c_m / t)).sum(axis=1) * z_m / z_h
                np.testing.assert_allclose(np.exp(-got), form, rtol=1e-9)
            if expert_cost is not c_m:  # 0-1 costs
                err_h, err_m = ((posterior * c).sum(axis=1) for c in (model_cost, expert_cost))
                kappa = 1.0 - np.exp(-1.0 / t)
                form = (1.0 - kappa * err_m) / (1.0 - kappa * err_h) * z_h / z_m
                np.testing.assert_allclose(np.exp(got), form, rtol=1e-9)


def test_must_hold_4_2_expert_tilted_posterior():
    log_ratio, tilt = ideals.joint_log_ratio, ideals.tilted_posterior
    check_joint_kl((log_ratio, tilt))
    for wrong in (
        lambda eta, h, m, t, p: -log_ratio(eta, h, m, t, p),  # flipped sign
        lambda eta, h, m, t, p: log_ratio(eta, h, m, 1.0, p),  # missing 1/λ
        lambda eta, h, m, t, p: log_ratio(eta, m, h, t, p),  # swapped costs
        lambda eta, h, m, t, p: (
            logsumexp(np.log(eta) - m / t, axis=1) - logsumexp(np.log(eta) - h / t, axis=1)
        ),  # missing normalisers
        lambda eta, h, m, t, p: ideals.marginal_log_ratio((eta * h).sum(1), (eta * m).sum(1), t, p),  # the marginal one
    ):
        fails(check_joint_kl, (wrong, tilt))
    for wrong in (
        lambda eta, m, t: eta,  # not tilted
        lambda eta, m, t: tilt(eta, -m, t),  # flipped sign
        lambda eta, m, t: tilt(eta, m, 1.0),  # missing 1/λ
        lambda eta, m, t: eta * np.exp(-m / t),  # missing normaliser
    ):
        fails(check_joint_kl, (log_ratio, wrong))


def order_of(values):
    return tuple(np.argsort(values).tolist())


def check_large_temperature(joint):
    """At large λ joint, marginal and E c_h − E c_m order the inputs alike."""
    rng = np.random.default_rng(44)
    for _ in range(200):
        p, posterior, c_h, c_m = finite_two_agent_problem(rng)
        e_h, e_m = (posterior * c_h).sum(axis=1), (posterior * c_m).sum(axis=1)
        gaps = np.diff(np.sort(e_h - e_m))
        if gaps.min() < 1e-3:
            continue
        temperature = 1e4  # the joint ratio differs from the marginal one by O(1/λ²), the gaps are O(1/λ)
        assert order_of(joint(posterior, c_h, c_m, temperature, p)) == order_of(e_h - e_m)
        assert order_of(ideals.marginal_log_ratio(e_h, e_m, temperature, p)) == order_of(e_h - e_m)


#: Input 0: the expert errs half the time; input 1: it costs 0.45 for sure. The model costs 0.4 for sure.
SPLIT_POSTERIOR, SPLIT_P = np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([0.5, 0.5])
SPLIT_MODEL, SPLIT_EXPERT = np.full((2, 2), 0.4), np.array([[0.0, 1.0], [0.45, 0.45]])


def check_orders_differ(temperature):
    joint = ideals.joint_log_ratio(SPLIT_POSTERIOR, SPLIT_MODEL, SPLIT_EXPERT, temperature, SPLIT_P)
    e_h, e_m = SPLIT_MODEL.mean(axis=1), SPLIT_EXPERT.mean(axis=1)
    marginal = ideals.marginal_log_ratio(e_h, e_m, temperature, SPLIT_P)
    assert marginal[1] > marginal[0] and joint[0] > joint[1]
    # by hand: E exp(−c_m/λ) is (1 + e^{−1/λ})/2 at input 0 and e^{−0.45/λ} at input 1
    by_hand = np.log((1 + np.exp(-1 / temperature)) / 2) + 0.45 / temperature
    np.testing.assert_allclose(joint[0] - joint[1], by_hand, **EXACT)


def test_must_hold_4_3_large_temperature_orders_alike():
    check_large_temperature(ideals.joint_log_ratio)
    fails(check_large_temperature, lambda *a: -ideals.joint_log_ratio(*a))
    fails(check_large_temperature, lambda eta, h, m, t, p: ideals.joint_log_ratio(eta, h, m, 1e-4 * t, p))


def test_must_hold_4_3_small_temperature_orders_differently():
    check_orders_differ(0.1)
    fails(check_orders_differ, 1e3)  # not an example at large λ


def check_constant_expert(log_density):
    """A constant-cost expert has Q_m = P, so that deferral is rejection by Q_h/P (Soen et al. 2024)."""
    rng = np.random.default_rng(45)
    for _ in range(100):
        n, t = 8, rng.uniform(0.1, 3.0)
        p, cost = rng.dirichlet(np.ones(n)), rng.random(n)
        both = log_density(np.column_stack([cost, np.full(n, rng.random())]), t, p)
        np.testing.assert_allclose(both[:, 1], 0.0, **EXACT)
        rejection = p * np.exp(-cost / t) / (p * np.exp(-cost / t)).sum() / p
        np.testing.assert_allclose(np.exp(both[:, 1] - both[:, 0]), 1.0 / rejection, **EXACT)


def check_density_level_sets(log_density):
    """Reference measure μ in place of P, cost −λ·log dP/dμ: Q_h = P, and deferral is a level set of the density."""
    rng = np.random.default_rng(46)
    for _ in range(100):
        n, t = 8, rng.uniform(0.1, 3.0)
        p, mu = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(n))
        both = log_density(np.column_stack([-t * np.log(p / mu), np.full(n, 0.3)]), t, mu)
        np.testing.assert_allclose(both[:, 0], np.log(p / mu), **EXACT)
        np.testing.assert_allclose(both[:, 1], 0.0, **EXACT)
        level = rng.uniform(0.3, 3.0)
        assert ((both[:, 1] - both[:, 0] >= -np.log(level)) == (p / mu <= level)).all()


def test_must_hold_4_4_rejection_and_anomaly_detection():
    def library(costs, t, p):
        return ideals.kl_log_density(costs, t, p)[0]

    for check in (check_constant_expert, check_density_level_sets):
        check(library)
        fails(check, lambda c, t, p: -c / t)  # missing normaliser
        fails(check, lambda c, t, p: library(-c, t, p))  # flipped sign
        fails(check, lambda c, t, p: library(c, 2 * t, p))
        fails(check, lambda c, t, p: library(c, t, p) + np.log(p)[:, None])  # the density of Q itself, not dQ/dP
    # the same for the α ideals
    np.testing.assert_allclose(ideals.alpha_density(np.full(5, 0.7), 0.2, 3.0), 1.0, **EXACT)


def learned_errors(target, loss, sizes, seeds):
    """Root mean squared error of the learned log ratio on a finite support, (sizes, seeds)."""
    posterior, p, temperature = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]), np.array([0.5, 0.3, 0.2]), 0.8
    model_cost, expert_cost = np.array([[0.0, 1.0]] * 3), np.array([[0.6, 0.1], [0.2, 0.7], [0.4, 0.3]])
    exact = target(posterior, model_cost, expert_cost, temperature, p)
    errors = np.empty((len(sizes), seeds))
    for i, n in enumerate(sizes):
        for seed in range(seeds):
            rng = np.random.default_rng([n, seed])
            x = rng.choice(3, size=n, p=p)
            y = (rng.random(n) < posterior[x, 1]).astype(int)
            costs = np.column_stack([model_cost[x, y], expert_cost[x, y]])
            scorer = DensityRatioScorer(loss, temperature=temperature, l2=0.0, tol=1e-9)
            learned = scorer.fit(np.eye(3)[x], costs).log_ratio(np.eye(3))
            errors[i, seed] = np.sqrt((p * (learned - exact) ** 2).sum())
    return errors


SIZES, SEEDS = (400, 1600, 6400, 25600), 16


def check_learned_scorer(target, loss="log"):
    mean = np.sqrt((learned_errors(target, loss, SIZES, SEEDS) ** 2).mean(axis=1))
    slope = np.polyfit(np.log(SIZES), np.log(mean), 1)[0]
    assert -0.65 < slope < -0.35, (slope, mean)
    assert mean[-1] < 0.02, mean


@pytest.mark.parametrize("loss", ["log", "square", "exponential"])
def test_must_hold_4_5_learned_scorer_converges_like_root_n(loss):
    check_learned_scorer(ideals.joint_log_ratio, loss)


def test_must_hold_4_5_planted_errors_do_not_converge():
    ratio = ideals.joint_log_ratio
    fails(check_learned_scorer, lambda *a: -ratio(*a))
    fails(check_learned_scorer, lambda eta, h, m, t, p: ratio(eta, h, m, 1.0, p))  # another λ
    fails(check_learned_scorer, lambda eta, h, m, t, p: ratio(eta, h, m, t, np.full(3, 1 / 3)))  # wrong normalisers


# ---------------------------------------------------------------------------------------------------------------
# 5. the bridge


def zero_one_costs(rng, n=60, n_agents=3):
    costs = (rng.random((n, n_agents)) > rng.uniform(0.2, 0.9, size=n_agents)).astype(float)
    costs[0], costs[1] = 0.0, 1.0
    return costs


def check_tilt_is_linear(weights_of):
    """On 0-1 costs the tilt exp(−c/λ) is a straight line in c, between its values at the two costs."""
    rng = np.random.default_rng(51)
    for t in np.geomspace(0.02, 50.0, 30):
        c = zero_one_costs(rng)
        np.testing.assert_allclose(weights_of(c, t), 1.0 - (1.0 - np.exp(-1.0 / t)) * c, **EXACT)


def test_must_hold_5_tilt_of_zero_one_costs_is_linear():
    def tilts(costs, temperature):
        return losses.margin_dr_cpe(costs, temperature=temperature).weights.numpy()

    check_tilt_is_linear(tilts)
    check_tilt_is_linear(lambda c, t: losses.dr_cpe(c, t).weights.numpy() * np.exp(-c / t).mean(axis=0))  # W·Z
    fails(check_tilt_is_linear, lambda c, t: losses.dr_cpe(c, t).weights.numpy())  # divided by Z_k
    fails(check_tilt_is_linear, lambda c, t: tilts(c, 2 * t))
    fails(check_tilt_is_linear, lambda c, t: tilts(c**2 + 0.1 * c, t))  # costs that are not 0-1


def check_zero_temperature_limit(limit_of):
    """Joint-KL DR-CPE at λ → 0 on 0-1 costs, divided by n, is which loss?  `limit_of(costs)` claims one."""
    rng = np.random.default_rng(52)
    for _ in range(20):
        costs = zero_one_costs(rng)
        scores = rng.normal(size=costs.shape)
        np.testing.assert_allclose(
            value(losses.dr_cpe(costs, temperature=1e-3), scores), limit_of(costs, scores), **EXACT
        )


def reweighted_by_counts(costs, scores):
    w = 1.0 - costs
    return value(losses.pair_loss(w * len(w) / w.sum(axis=0)), scores)


def test_must_hold_5_zero_temperature_is_the_reweighted_two_stage_loss():
    """W_k = (1 − c_k)/Z_k with Z_k = m_k/n. The normaliser stays: the limit is the *re-weighted* two-stage loss."""
    check_zero_temperature_limit(reweighted_by_counts)

    def up_to_a_constant(costs, scores):  # the preset differs only by the constant mean(m)/n
        mean_share = (1.0 - costs).mean()
        return value(losses.reweighted(costs), scores) / mean_share

    check_zero_temperature_limit(up_to_a_constant)


def test_must_hold_5_literal_statement_of_the_sheet_fails():
    """ "Is the two-stage loss with w = 1 − c" forgets Z_k; no common factor mends that either."""
    fails(check_zero_temperature_limit, lambda c, s: value(losses.two_stage(c), s))
    fails(check_zero_temperature_limit, lambda c, s: value(losses.two_stage(c), s) / (1.0 - c).mean())


def check_unnormalised_limit(build):
    rng = np.random.default_rng(53)
    for _ in range(20):
        costs = zero_one_costs(rng)
        scores, gamma, scale = rng.normal(size=costs.shape), rng.uniform(-0.5, 0.5), rng.uniform(0.3, 3.0)
        want = value(losses.mild_power(costs, gamma=gamma, scale=scale), scores)
        np.testing.assert_allclose(value(build(costs, gamma, scale), scores), want, **EXACT)


def test_must_hold_5_without_normalisers_it_is_mild_and_two_stage():
    def margin(c, gamma, scale, temperature=1e-3):
        return losses.margin_dr_cpe(c, temperature=temperature, gamma=gamma, scale=scale)

    check_unnormalised_limit(margin)
    fails(check_unnormalised_limit, lambda c, g, s: margin(c, g, s, temperature=1.0))  # not yet at the limit
    fails(check_unnormalised_limit, lambda c, g, s: margin(c, g, 1.0 / s))
    fails(check_unnormalised_limit, lambda c, g, s: margin(c, -g, s))
    rng = np.random.default_rng(54)
    costs = zero_one_costs(rng)
    scores = rng.normal(size=costs.shape)
    got = value(losses.margin_dr_cpe(costs, temperature=1e-3), scores)
    np.testing.assert_allclose(got, value(losses.two_stage(costs), scores), **EXACT)


def check_decisions_after_offset(decide):
    """For an unrestricted scorer the offset log Z_k brings back the two-stage decisions, at every λ on 0-1 costs."""
    rng = np.random.default_rng(55)
    for _ in range(40):
        points, outcomes, n_agents = 30, 10, 3
        costs = (rng.random((points, outcomes, n_agents)) < rng.random((points, 1, n_agents))).astype(float)
        error = costs.mean(axis=1)
        clear = np.diff(np.sort(error, axis=1)[:, :2], axis=1)[:, 0] > 0
        temperature = rng.uniform(0.1, 3.0)
        objective = losses.dr_cpe(costs.reshape(-1, n_agents), temperature)
        mass = objective.weights.numpy().reshape(costs.shape).mean(axis=1)  # E[W_k|x]; the minimiser is its logarithm
        chosen = decide(np.log(mass), objective.decision_offset.numpy())
        assert (chosen == error.argmin(axis=1))[clear].all()


def test_must_hold_5_offsets_restore_the_two_stage_decisions():
    check_decisions_after_offset(rules.route)
    fails(check_decisions_after_offset, lambda s, b: rules.route(s))  # no offset
    fails(check_decisions_after_offset, lambda s, b: rules.route(s, -b))  # flipped sign
