"""Ideal distributions: normalisers, optimality, limits, hard cases; the links of proper losses."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from l2d_utils import ideals
from references import finite_two_agent_problem, minimise_table

ALPHAS = [-9.0, -3.0, -0.5, 0.0, 0.5, 0.999, 1.0, 1.001, 2.0, 3.0, 5.0]


def problem(seed, n=9):
    rng = np.random.default_rng(seed)
    return rng.random(n) * rng.choice([0.1, 1.0, 10.0]), rng.dirichlet(np.ones(n)), float(np.exp(rng.uniform(-3, 3)))


def variational(omega, cost, temperature, alpha, p):
    """E_Q[c] + λ·D_f(Q‖P) for dQ/dP = ω."""
    return float((p * (cost * omega + temperature * ideals.alpha_generator(omega, alpha))).sum())


@pytest.mark.parametrize("alpha", ALPHAS)
@given(seed=st.integers(0, 2**31))
def test_alpha_density_has_mean_one_and_falls_with_the_cost(alpha, seed):
    cost, p, temperature = problem(seed)
    omega = ideals.alpha_density(cost, temperature, alpha, p)
    assert (omega >= 0).all() and (p * omega).sum() == pytest.approx(1.0, abs=1e-12)
    assert (np.diff(omega[np.argsort(cost)]) <= 1e-12).all()
    # the unit of the costs does not matter if λ goes with it, nor does a constant
    np.testing.assert_allclose(
        ideals.alpha_density(7 * cost + 2, 7 * temperature, alpha, p), omega, rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("alpha", [-3.0, -0.5, 0.0, 0.5, 2.0, 3.0, 5.0])
def test_generator_derivative_by_finite_differences(alpha):
    """f'(t) = 2/(α−1)·t^{(α−1)/2}, and f is convex with f(1) = 0: the density is made from the inverse of f'."""
    t, h = np.linspace(0.2, 4.0, 30), 1e-5
    slope = (ideals.alpha_generator(t + h, alpha) - ideals.alpha_generator(t - h, alpha)) / (2 * h)
    np.testing.assert_allclose(slope, 2.0 / (alpha - 1.0) * t ** ((alpha - 1.0) / 2.0), rtol=1e-7)
    assert (np.diff(slope) > 0).all() and ideals.alpha_generator(1.0, alpha) == 0
    # first-order condition: c + λ·f'(ω) is one constant where ω > 0, and no smaller where ω = 0
    for seed in range(20):
        cost, p, temperature = problem(seed)
        omega = ideals.alpha_density(cost, temperature, alpha, p)
        on = omega > 1e-3
        slope = (
            ideals.alpha_generator(omega[on] + 1e-7, alpha) - ideals.alpha_generator(omega[on] - 1e-7, alpha)
        ) / 2e-7
        level = cost[on] + temperature * slope
        scale = np.abs(cost[on]).max() + temperature * np.abs(slope).max()
        assert np.ptp(level) <= 1e-5 * scale
        assert (cost[omega == 0] >= level.max() - 1e-5 * scale).all()


def test_kl_generator():
    t = np.array([0.0, 0.5, 1.0, 3.0])
    np.testing.assert_allclose(ideals.alpha_generator(t, 1.0), [0.0, 0.5 * np.log(0.5), 0.0, 3 * np.log(3)])


@pytest.mark.parametrize("alpha", [-3.0, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0])
def test_alpha_density_beats_random_feasible_densities(alpha):
    rng = np.random.default_rng(0)
    for seed in range(10):
        cost, p, temperature = problem(seed)
        omega = ideals.alpha_density(cost, temperature, alpha, p)
        best = variational(omega, cost, temperature, alpha, p)
        slack = 1e-9 * (1 + abs(best))
        for _ in range(50):
            other = rng.dirichlet(np.ones(len(p))) / p
            for step in (1e-3, 1e-1, 1.0):
                moved = (1 - step) * omega + step * other
                assert variational(moved, cost, temperature, alpha, p) >= best - slack


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_alpha_density_against_a_generic_solver(alpha):
    cost, p, _ = problem(3, n=5)
    temperature = 0.5 * np.ptp(cost)
    result = minimize(
        lambda w: variational(w, cost, temperature, alpha, p), np.ones(5), method="SLSQP", bounds=[(1e-9, None)] * 5,
        constraints={"type": "eq", "fun": lambda w: p @ w - 1.0}, options={"ftol": 1e-14, "maxiter": 1000},
    )  # fmt: skip
    np.testing.assert_allclose(ideals.alpha_density(cost, temperature, alpha, p), result.x, atol=2e-4)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_alpha_tends_to_kl(side):
    for seed in range(20):
        cost, p, temperature = problem(seed)
        kl = np.exp(ideals.kl_log_density(cost[:, None], temperature, p)[0][:, 0])
        gaps = [np.abs(ideals.alpha_density(cost, temperature, 1 + side * e, p) - kl).max() for e in (1e-3, 1e-5)]
        assert gaps[1] <= 2e-2 * gaps[0] + 1e-9  # linear in α − 1
        np.testing.assert_allclose(ideals.alpha_density(cost, temperature, 1.0, p), kl, rtol=1e-12)
        np.testing.assert_allclose((p * kl).sum(), 1.0, rtol=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_hard_cases(alpha):
    np.testing.assert_allclose(ideals.alpha_density(np.full(6, 0.3), 0.01, alpha), 1.0, rtol=1e-12)  # constant costs
    np.testing.assert_allclose(ideals.alpha_density([0.7], 1.0, alpha), 1.0)  # one row
    p = np.array([0.0, 0.5, 0.5])
    omega = ideals.alpha_density([-50.0, 1.0, 2.0], 0.5, alpha, p)  # a cheap row that never happens
    assert (p * np.where(p > 0, omega, 0.0)).sum() == pytest.approx(1.0) and omega[1] > omega[2]
    if alpha != 1:
        assert omega[0] == 0.0
    cost = 1.0 + np.linspace(0, 1, 5000) ** 2
    for temperature in (1e3, 1e-2, 1e-6, 1e-9):
        omega = ideals.alpha_density(cost, temperature, alpha)
        assert np.isfinite(omega).all() and omega.mean() == pytest.approx(1.0, abs=1e-9)
        if alpha < 1 and temperature == 1e-2:
            assert (omega > 0).all()
    if alpha != -9.0:  # λ → 0: all mass on the cheapest row (slowly at very negative α)
        assert ideals.alpha_density([0.0, 1.0, 2.0, 3.0], 1e-9, alpha)[0] == pytest.approx(4.0, rel=1e-3)
    np.testing.assert_allclose(ideals.alpha_density(cost, 1e9, alpha), 1.0, rtol=1e-6)  # λ → ∞: Q = P


@given(st.integers(0, 2**31))
def test_kl_log_density(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 10))
    costs, p, temperature = rng.normal(size=(n, 3)), rng.dirichlet(np.ones(n)), rng.uniform(0.05, 5)
    log_density, log_z = ideals.kl_log_density(costs, temperature, p)
    np.testing.assert_allclose(log_z, np.log((p[:, None] * np.exp(-costs / temperature)).sum(axis=0)), atol=1e-12)
    np.testing.assert_allclose(log_density, -costs / temperature - log_z, atol=1e-12)
    uniform = ideals.kl_log_density(costs, temperature)
    np.testing.assert_allclose(np.exp(uniform[0]).mean(axis=0), 1.0, rtol=1e-12)
    # the value of the problem at its minimiser is −λ·log Z
    q = np.exp(log_density)
    value = (p[:, None] * q * (costs + temperature * log_density)).sum(axis=0)
    np.testing.assert_allclose(value, -temperature * log_z, atol=1e-10)


@given(st.integers(0, 2**31))
def test_joint_ratio_sums_the_joint_ideal_over_labels(seed):
    rng = np.random.default_rng(seed)
    p, posterior, c_h, c_m = finite_two_agent_problem(rng)
    temperature = rng.uniform(0.1, 3.0)
    joint = (p[:, None] * posterior).ravel()
    log_density, _ = ideals.kl_log_density(np.column_stack([c_h.ravel(), c_m.ravel()]), temperature, joint)
    q = (joint[:, None] * np.exp(log_density)).reshape(*posterior.shape, 2).sum(axis=1)
    got = ideals.joint_log_ratio(posterior, c_h, c_m, temperature, p)
    np.testing.assert_allclose(got, np.log(q[:, 1] / q[:, 0]), atol=1e-10)
    # labels that never happen, and costs that no label moves: joint and marginal agree
    certain = np.eye(posterior.shape[1])[rng.integers(0, posterior.shape[1], size=len(p))]
    got = ideals.joint_log_ratio(certain, c_h, c_m, temperature, p)
    want = ideals.marginal_log_ratio((certain * c_h).sum(1), (certain * c_m).sum(1), temperature, p)
    np.testing.assert_allclose(got, want, atol=1e-10)


@pytest.mark.parametrize("loss", sorted(ideals.PROPER_LOSSES))
def test_links_recover_the_exact_log_ratio(loss):
    """The minimiser of the class-probability loss over free scores, through the link, is log ω_m/ω_h."""
    rng = np.random.default_rng(1)
    expert, model = (torch.from_numpy(rng.dirichlet(np.ones(8)) * 8) for _ in range(2))

    def graph(table):
        score = torch.tensor(table, requires_grad=True)
        total = ideals.cpe_loss(score, expert, model, loss)
        total.backward()
        return float(total.detach()), score.grad.numpy()

    got = ideals.PROPER_LOSSES[loss].log_ratio(torch.from_numpy(minimise_table(graph, (8,))))
    torch.testing.assert_close(got, torch.log(expert / model), rtol=0, atol=1e-5)
    # and exactly: the pointwise derivative vanishes at the score that the link maps to the ratio
    ratio = torch.log(expert / model)
    exact = {"log": ratio, "square": torch.tanh(ratio / 2), "exponential": ratio / 2}[loss].requires_grad_(True)
    gradient = torch.autograd.grad(ideals.cpe_loss(exact, expert, model, loss), exact)[0]
    assert gradient.abs().max() < 1e-12
    torch.testing.assert_close(ideals.PROPER_LOSSES[loss].log_ratio(exact.detach()), ratio, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("loss", sorted(ideals.PROPER_LOSSES))
def test_links_are_monotone_and_finite(loss):
    for dtype in (torch.float32, torch.float64):
        s = torch.linspace(-3, 3, 101, dtype=dtype)
        ratio = ideals.PROPER_LOSSES[loss].log_ratio(s)
        assert torch.isfinite(ratio).all() and (ratio.diff() >= 0).all()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: ideals.kl_log_density([[0.0], [1.0]], 0.0), "temperature must be a finite number > 0"),
        (lambda: ideals.kl_log_density([[0.0], [np.nan]], 1.0), "row 1, column 0 is nan"),
        (lambda: ideals.kl_log_density([[0.0], [1.0]], 1.0, [0.5, 0.6]), "2 probabilities that sum to 1"),
        (lambda: ideals.kl_log_density([[0.0], [1.0]], 1.0, [-0.5, 1.5]), "2 probabilities"),
        (lambda: ideals.kl_log_density([[0.0], [1.0]], 1.0, [1.0]), "2 probabilities"),
        (lambda: ideals.kl_log_density([[0.0], [1.0]], 1.0, [np.nan, 1.0]), "2 probabilities"),
        (lambda: ideals.alpha_density([0.0, 1.0], 1.0, -1.0), "alpha must be finite and not -1"),
        (lambda: ideals.alpha_density([0.0, 1.0], 1.0, np.inf), "alpha must be finite"),
        (lambda: ideals.alpha_density([0.0, 1.0], -1.0, 2.0), "temperature must be"),
        (lambda: ideals.alpha_density([0.0, np.inf], 1.0, 2.0), "row 1, column 0 is inf"),
        (lambda: ideals.tilted_posterior([[0.5, 0.5]], [[0.0, 1.0]], 0.0), "temperature must be"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
