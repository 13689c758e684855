"""The loss core and its presets: against slow references, by derivatives, at extremes, and at their minimisers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from torch.autograd.gradcheck import GradcheckError
from torch.utils._python_dispatch import TorchDispatchMode

from l2d_utils import _pairwise, losses
from l2d_utils.losses import PRESETS, pair_loss, soft_margins
from l2d_utils.routers import cross_fitted_costs
from references import clear_points, minimise_table, reference_loss, tabular_problem

#: Parameters away from the defaults, so that a preset that forgets one is seen; margins are per-agent where needed.
PARAMS = {
    "mild": {"gamma": 0.4, "scale": 0.7},
    "mild_free": {"margins": [0.5, 1.0, 2.0]},
    "global_temperature": {"rho": 0.6},
    "class_balanced": {"beta": 0.95},
    "focal": {"gamma": 1.5},
    "ldam": {"max_shift": 0.8, "scale": 1.7},
    "logit_adjustment": {"tau": 0.8},
    "vs": {"gamma": 0.3, "tau": 0.7},
    "dr_cpe_joint": {"temperature": 0.4},
    "dr_cpe_marginal": {"temperature": 0.4},
    "margin_dr_cpe": {"temperature": 0.4, "gamma": 0.3, "scale": 0.8},
}


def build(name, costs, **more):
    return PRESETS[name].build(costs, **PARAMS.get(name, {}), **more)


def example(n=12, n_agents=3, seed=0, ties=True):
    """Scores with some ties and costs that make agent 0 good far more often than the last."""
    rng = np.random.default_rng(seed)
    costs = rng.random((n, n_agents)) ** np.linspace(2.0, 0.5, n_agents)
    scores = 2.0 * rng.normal(size=(n, n_agents))
    if ties:
        scores[: n // 3] = np.round(scores[: n // 3])
        scores[0] = 0.0
    return torch.from_numpy(scores), costs


def value_and_gradient(objective, scores):
    s = scores.detach().clone().requires_grad_(True)
    loss = objective(s)
    loss.backward()
    return loss.detach(), s.grad


# ---------------------------------------------------------------------------------------------------------------
# values


def independent_parts(name, costs):
    """W, ρ, δ, ι, Δ, q and focusing of each row of the table, in plain numpy."""
    w = costs.max() - costs
    m = w.sum(axis=0)
    k = costs.shape[1]
    kl = np.exp(-costs / 0.4)
    return {
        "two_stage": {"weights": w},
        "two_stage_cost_sum": {"weights": np.column_stack([np.delete(costs, j, axis=1).sum(axis=1) for j in range(k)])},
        "mild": {"weights": w, "margins": 0.7 * (m / max(m)) ** 0.4},
        "mild_free": {"weights": w, "margins": [0.5, 1.0, 2.0]},
        "global_temperature": {"weights": w, "margins": 0.6},
        "reweighted": {"weights": w / m * np.mean(m)},
        "class_balanced": {"weights": w * np.array([(1 - 0.95) / (1 - 0.95**j) for j in m])},
        "focal": {"weights": w, "focusing": 1.5},
        "ldam": {"weights": w, "margins": 1 / 1.7, "shift": 0.8 * m**-0.25 / max(m**-0.25)},
        "logit_adjustment": {"weights": w, "offset": 0.8 * np.log(m / sum(m))},
        "vs": {"weights": w, "scale": (m / max(m)) ** 0.3, "offset": 0.7 * np.log(m / sum(m))},
        "dr_cpe_joint": {"weights": kl / kl.mean(axis=0)},
        "dr_cpe_marginal": {"weights": kl / kl.mean(axis=0)},
        "margin_dr_cpe": {
            "weights": np.exp((costs.min() - costs) / 0.4),
            "margins": 0.8 * (kl.sum(axis=0) / max(kl.sum(axis=0))) ** 0.3,
        },
    }[name]


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"one_vs_all"}))
def test_presets_match_the_table_of_losses(name):
    scores, costs = example()
    parts = independent_parts(name, costs)
    objective = build(name, costs)
    assert float(objective(scores)) == pytest.approx(reference_loss(scores, **parts), rel=1e-12)
    for q in shapes(name)[1:]:
        want = reference_loss(scores, **parts, q=q)
        assert float(build(name, costs, q=q)(scores)) == pytest.approx(want, rel=1e-12)


def test_one_vs_all_value():
    scores, costs = example()
    p, w = expit(scores.numpy()), costs.max() - costs
    want = -(w * np.log(p) + costs * np.log(1 - p)).sum(axis=1).mean()
    assert float(build("one_vs_all", costs)(scores)) == pytest.approx(want, rel=1e-12)


@given(st.integers(0, 2**31), st.integers(2, 6), st.sampled_from([0.0, 0.3, 1.0, 2.0]))
def test_core_matches_the_reference_with_everything_on(seed, n_agents, q):
    rng = np.random.default_rng(seed)
    scores, weights = rng.normal(size=(4, n_agents)) * 3, rng.random((4, n_agents))
    parts = {
        "margins": rng.choice([0.3, 1.0, 2.5], size=n_agents),  # shared values: the grouped path
        "scale": rng.uniform(0.5, 1.5, n_agents),
        "offset": rng.normal(size=n_agents),
        "shift": rng.normal(size=n_agents),
        "q": q,
        "focusing": float(rng.choice([0.0, 1.5])),
    }
    got = float(pair_loss(weights, **parts)(torch.from_numpy(scores)))
    assert got == pytest.approx(reference_loss(scores, weights, **parts), rel=1e-11)


def test_cross_entropy_of_torch_with_soft_targets():
    scores, costs = example(50, 5)
    w = torch.from_numpy(costs.max() - costs)
    got, gradient = value_and_gradient(losses.two_stage(costs), scores)
    want, wanted = value_and_gradient(lambda s: torch.nn.functional.cross_entropy(s, w), scores)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-15)


@given(st.integers(0, 2**31), st.integers(2, 6), st.booleans())
def test_soft_margins(seed, n_agents, shared):
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.normal(size=(5, n_agents)) * 5)
    rho = np.full(n_agents, rng.uniform(0.2, 3)) if shared else rng.uniform(0.2, 3, n_agents)
    got = soft_margins(scores, torch.from_numpy(rho))
    for k in range(n_agents):
        p_k = torch.softmax(scores / rho[k], dim=1)[:, k]
        torch.testing.assert_close(torch.sigmoid(got[:, k]), p_k, rtol=1e-10, atol=1e-15)


def test_soft_margin_tends_to_the_agent_margin():
    scores = torch.tensor([[0.3, 0.1, -0.2], [0.1, 0.1, 0.0]], dtype=torch.float64)
    rho = 1e-3
    np.testing.assert_allclose(rho * soft_margins(scores, rho), losses.agent_margins(scores), atol=2 * rho)
    np.testing.assert_allclose(losses.agent_margins(scores), [[0.2, -0.2, -0.5], [0, 0, -0.1]], atol=1e-15)


# ---------------------------------------------------------------------------------------------------------------
# derivatives


def shapes(name):
    """The comp-sum shapes q that a preset can take."""
    if name in ("focal", "one_vs_all"):
        return (0.0,)
    return (0.0, 0.5) if name.startswith("dr_cpe") else (0.0, 0.5, 1.0)


@pytest.mark.parametrize("name, q", [(name, q) for name in sorted(PRESETS) for q in shapes(name)])
def test_gradients(name, q):
    scores, costs = example(7)
    objective = build(name, costs, **({"q": q} if q else {}))
    assert torch.autograd.gradcheck(objective, scores.requires_grad_(True), eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("margins", [1.0, [0.3, 1.0, 2.5, 0.7], [0.5, 0.5, 2.0, 2.0], [0.5, 2.0, 2.0, 2.0]])
@pytest.mark.parametrize("q, focusing", [(0.0, 0.0), (0.5, 2.0), (1.0, 0.7)])
def test_gradients_of_the_core(margins, q, focusing):
    rng = np.random.default_rng(1)
    scores, _ = example(6, 4)
    objective = pair_loss(
        rng.random((6, 4)), margins=margins, q=q, focusing=focusing,
        scale=rng.uniform(0.5, 1.5, 4), offset=rng.normal(size=4), shift=rng.normal(size=4),
    )  # fmt: skip
    assert torch.autograd.gradcheck(objective, scores.requires_grad_(True), eps=1e-6, atol=1e-7)
    rho = torch.as_tensor(margins, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: soft_margins(s, rho), scores, eps=1e-6, atol=1e-6)


def test_gradient_check_can_fail():
    """A backward pass that forgets 1/ρ is noticed by the same check."""

    class Forgets(torch.autograd.Function):
        @staticmethod
        def forward(ctx, scores):
            s = scores.detach().requires_grad_(True)
            with torch.enable_grad():
                loss = soft_margins(s, 2.0).sum()
            ctx.save_for_backward(2.0 * torch.autograd.grad(loss, s)[0])
            return loss.detach()

        @staticmethod
        def backward(ctx, grad):
            return ctx.saved_tensors[0] * grad

    scores, _ = example(4)
    with pytest.raises(GradcheckError):
        torch.autograd.gradcheck(Forgets.apply, scores.requires_grad_(True))


# ---------------------------------------------------------------------------------------------------------------
# numerics


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_float32_agrees_with_float64(name):
    scores, costs = example(200)
    objective = build(name, costs)
    value, gradient = value_and_gradient(objective, scores)
    single = scores.float()
    value32, gradient32 = value_and_gradient(losses.to_tensor_type(objective, single), single)
    assert gradient32.dtype == torch.float32
    torch.testing.assert_close(value32.double(), value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient32.double(), gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_extreme_scores_stay_finite(name, dtype):
    rng = np.random.default_rng(2)
    _, costs = example(40)
    for size in (1e2, 1e4):
        scores = torch.from_numpy(rng.choice([-size, 0.0, size], size=(40, 3)) + rng.normal(size=(40, 3))).to(dtype)
        objective = losses.to_tensor_type(build(name, costs), scores)
        value, gradient = value_and_gradient(objective, scores)
        assert torch.isfinite(value) and torch.isfinite(gradient).all()
        bound = 2 * objective.weights.sum() / getattr(objective, "margins", torch.ones(1)).min()
        assert gradient.abs().max() <= 10 * bound


def test_large_losses_are_exact_in_float64():
    """Far on the wrong side cross-entropy is linear; far on the right side it is the exponential of the lead."""
    for margins in (1.0, [1.0, 0.5, 2.0]):
        rho = np.broadcast_to(margins, 3)
        for k in range(3):
            weights = np.eye(3)[[k]] + 0.0
            objective = pair_loss(weights, margins=margins)
            behind = torch.full((1, 3), 0.0, dtype=torch.float64)
            behind[0, k] = -1e4
            assert float(objective(behind)) == pytest.approx(1e4 / rho[k] + np.log(2.0), rel=1e-12)
            ahead = torch.zeros((1, 3), dtype=torch.float64)
            ahead[0, k] = 50.0
            assert float(objective(ahead)) == pytest.approx(np.log1p(2.0 * np.exp(-50.0 / rho[k])), rel=1e-9)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_nothing_is_changed_in_place(name):
    scores, costs = example()
    kept_scores, kept_costs = scores.clone(), costs.copy()
    costs.flags.writeable = False
    objective = build(name, costs)
    before = {k: v.clone() for k, v in vars(objective).items() if isinstance(v, torch.Tensor)}
    value_and_gradient(objective, scores)
    objective(scores)
    torch.testing.assert_close(scores, kept_scores, rtol=0, atol=0)
    np.testing.assert_array_equal(costs, kept_costs)
    for k, v in before.items():
        torch.testing.assert_close(getattr(objective, k), v, rtol=0, atol=0)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_objective_keeps_its_own_tensors(name):
    """Writing into the arrays that a loss was built from must not change the loss."""
    scores, costs = example()
    margins = np.array([0.5, 1.0, 2.0])
    objective = build(name, costs) if name != "mild_free" else losses.mild(costs, margins)
    before = float(objective(scores))
    costs += 1.0
    margins *= 3.0
    assert float(objective(scores)) == before


def test_pair_loss_copies_a_column_major_table():
    weights = np.asfortranarray(np.random.default_rng(0).random((5, 3)))
    scores, _ = example(5)
    objective = pair_loss(weights)
    before = float(objective(scores))
    weights *= 2
    assert float(objective(scores)) == before


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_row_blocks_and_subsets(name, monkeypatch):
    scores, costs = example(50)
    objective = build(name, costs)
    whole, gradient = value_and_gradient(objective, scores)
    for size in (1, 7, 60, 149):
        monkeypatch.setattr(_pairwise, "BLOCK_SIZE", size)
        value, blocked = value_and_gradient(objective, scores)
        torch.testing.assert_close(value, whole, rtol=1e-13, atol=0)
        torch.testing.assert_close(blocked, gradient, rtol=1e-13, atol=1e-18)
    rows = torch.tensor([3, 1, 40, 7])
    each = torch.stack([objective(scores[i : i + 1], rows=torch.tensor([i])) for i in rows])
    torch.testing.assert_close(objective(scores[rows], rows=rows), each.mean(), rtol=1e-13, atol=0)
    part = scores[5:9]
    torch.testing.assert_close(objective(part, rows=slice(5, 9)), objective(part, rows=torch.arange(5, 9)))


@pytest.mark.parametrize("name", sorted(PRESETS))
@given(seed=st.integers(0, 2**31))
def test_permutations(name, seed):
    """Rows in another order: the same loss. Agents in another order: the same loss, gradients permuted alike."""
    rng = np.random.default_rng(seed)
    scores, costs = example(10, seed=seed)
    rows, agents = rng.permutation(10), rng.permutation(3)
    if name == "mild_free":
        margins = rng.uniform(0.5, 2.0, 3)
        first, second = losses.mild(costs, margins), losses.mild(costs[rows][:, agents], margins[agents])
    else:
        first, second = build(name, costs), build(name, costs[rows][:, agents])
    value, gradient = value_and_gradient(first, scores)
    moved, moved_gradient = value_and_gradient(second, scores[rows][:, agents])
    torch.testing.assert_close(moved, value, rtol=1e-12, atol=0)
    torch.testing.assert_close(moved_gradient, gradient[rows][:, agents], rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(second.decision_offset, first.decision_offset[agents], rtol=1e-9, atol=1e-12)


class LargestTensor(TorchDispatchMode):
    """Remembers the number of entries of the largest tensor that any operation gave."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


def largest_tensor(objective, scores):
    with LargestTensor() as seen:
        value_and_gradient(objective, scores)
    return seen.largest


@pytest.mark.parametrize("margins", [1.0, np.linspace(0.5, 2.0, 12)])
def test_no_tensor_has_a_row_per_pair_of_agents(margins):
    rng = np.random.default_rng(3)
    scores, weights = torch.from_numpy(rng.normal(size=(300, 12))), rng.random((300, 12))
    assert largest_tensor(pair_loss(weights, margins=margins), scores) <= 300 * 12

    def cube(s):  # what the check is there to find
        return (s[:, :, None] / torch.as_tensor(margins).expand(12)).logsumexp(dim=1).sum()

    assert largest_tensor(cube, scores) == 300 * 12 * 12


# ---------------------------------------------------------------------------------------------------------------
# pointwise minimisers


def table_graph(objective, index):
    """Loss and gradient of one free score row per support point; row i of the data sits at point index[i]."""
    where = torch.from_numpy(index)

    def graph(table):
        value, gradient = value_and_gradient(lambda s: objective(s[where]), torch.from_numpy(table))
        return float(value), gradient.numpy()

    return graph


def minimiser_decisions(objective, index, points):
    """argmax of the best free score row per support point, plus the decision offset."""
    # a whisper of ridge keeps agents that are never correct at some point from running to infinity
    scores = minimise_table(table_graph(objective, index), (points, len(objective.decision_offset)), ridge=1e-10)
    return (scores + objective.decision_offset.numpy()).argmax(axis=1)


#: Settings at which an inconsistent preset moves its boundary far enough to be seen in a few problems.
STRONG = PARAMS | {"ldam": {"max_shift": 1.5}, "class_balanced": {"beta": 0.999}}


def disagreements(name, *, zero_one, problems, seed, params=None, gap=0.005):
    """How many clear support points the pointwise minimiser decides against the Bayes router."""
    rng = np.random.default_rng(seed)
    wrong = clear = 0
    for _ in range(problems):
        index, costs, expected = tabular_problem(rng, n_agents=3, zero_one=zero_one)
        table = expected[index] if PRESETS[name].expected_costs else costs
        objective = PRESETS[name].build(table, **(STRONG.get(name, {}) if params is None else params))
        sure = clear_points(-expected, gap)
        decisions = minimiser_decisions(objective, index, len(expected))
        wrong += int((decisions != expected.argmin(axis=1))[sure].sum())
        clear += int(sure.sum())
    assert clear > 15 * problems
    return wrong


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_consistency_is_as_declared(name):
    """ "yes": the minimiser never disagrees with Bayes; "no": it does somewhere; "0-1 costs": only with others."""
    declared = PRESETS[name].consistent
    assert declared in ("yes", "no", "0-1 costs")
    on_zero_one = disagreements(name, zero_one=True, problems=4, seed=1)
    in_general = disagreements(name, zero_one=False, problems=6, seed=2)
    if declared == "yes":
        assert on_zero_one == in_general == 0
    elif declared == "0-1 costs":
        assert on_zero_one == 0 and in_general > 0
    else:
        assert on_zero_one + in_general > 0


@pytest.mark.parametrize(
    "name, params, zero_one",
    [
        ("two_stage", {"q": 0.5}, False),
        ("two_stage_cost_sum", {"q": 0.5}, False),
        ("dr_cpe_joint", {"temperature": 0.5, "q": 0.5}, True),
        ("dr_cpe_marginal", {"temperature": 0.5, "q": 0.5}, False),
        ("margin_dr_cpe", {"temperature": 0.5}, True),  # γ = 0
        ("mild", {"gamma": 0.0, "scale": 0.5}, False),
        ("focal", {"gamma": 4.0}, False),
    ],
)
def test_consistency_of_other_settings(name, params, zero_one):
    assert disagreements(name, zero_one=zero_one, problems=3, seed=3, params=params) == 0


def test_decision_offset_is_what_makes_density_ratios_consistent():
    index, costs, expected = tabular_problem(np.random.default_rng(4), points=60, zero_one=True)
    objective = losses.dr_cpe(costs, 0.5)
    bare = torch.zeros(3, dtype=torch.float64)
    without = losses.PairLoss(**{**vars(objective), "decision_offset": bare})
    sure = clear_points(-expected, 0.02)
    assert (minimiser_decisions(without, index, 60) != expected.argmin(axis=1))[sure].any()


def test_minimisers_of_the_cross_entropy_are_log_ratios():
    """Two-stage: s_k − s_j = log E[w_k|x]/E[w_j|x]; DR-CPE with shape q: (log E[ω_k|x]/E[ω_j|x])/(1 − q)."""
    index, costs, _ = tabular_problem(np.random.default_rng(5), points=10)
    for objective, q in ((losses.two_stage(costs), 0.0), (losses.dr_cpe(costs, 0.7, q=0.5), 0.5)):
        mean = objective.weights.numpy().reshape(10, -1, 3).mean(axis=1)

        s = minimise_table(table_graph(objective, index), (10, 3))
        want = np.log(mean) / (1.0 - q)
        np.testing.assert_allclose(s - s[:, :1], want - want[:, :1], atol=2e-4)


def test_one_vs_all_estimates_the_expected_cost():
    index, costs, expected = tabular_problem(np.random.default_rng(6), points=10)
    s = minimise_table(table_graph(losses.one_vs_all(costs), index), (10, 3))
    np.testing.assert_allclose(expit(s), 1.0 - expected / costs.max(), atol=1e-5)


def test_marginal_preset_takes_estimates_of_the_expected_cost():
    """The estimates never see the row that they speak of."""
    rng = np.random.default_rng(7)
    X, costs = rng.normal(size=(60, 3)), rng.random((60, 2))
    estimate = cross_fitted_costs(X, costs, 1e-2, random_state=0)
    assert (estimate >= costs.min()).all() and (estimate <= costs.max()).all()
    for row in (0, 17, 59):
        changed = costs.copy()
        changed[row] = [0.5, 0.4]
        again = cross_fitted_costs(X, changed, 1e-2, random_state=0)
        np.testing.assert_allclose(again[row], estimate[row], rtol=1e-9)
        assert not np.allclose(again, estimate, rtol=1e-9)


# ---------------------------------------------------------------------------------------------------------------
# margins and bad input


def test_margins_from_counts():
    np.testing.assert_allclose(losses.margins_from_counts([8.0, 1.0, 4.0], 2.0, 1 / 3), [2.0, 1.0, 2 * 0.5 ** (1 / 3)])
    np.testing.assert_allclose(losses.margins_from_counts([8.0, 2.0], 1.0, -0.5), [1.0, 2.0])
    np.testing.assert_allclose(losses.margins_from_counts([8.0, 2.0], 3.0, 0.0), 3.0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda c: losses.mild(c, [1.0, 0.0, 1.0]), "margins must be a finite number > 0; agent 1"),
        (lambda c: losses.mild(c, [1.0, 1.0]), "margins must be one number or 3"),
        (lambda c: losses.mild(c, [1.0, np.nan, 1.0]), "agent 1 has nan"),
        (lambda c: losses.mild_power(c, scale=-1.0), "scale must be a finite number > 0"),
        (lambda c: losses.global_temperature(c, 0.0), "rho must be a finite number > 0"),
        (lambda c: losses.dr_cpe(c, 0.0), "temperature must be a finite number > 0"),
        (lambda c: losses.dr_cpe(c, 1.0, q=1.0), r"q must lie in \[0, 1\)"),
        (lambda c: losses.margin_dr_cpe(c, -1.0), "temperature must be a finite number > 0"),
        (lambda c: losses.class_balanced(c, beta=1.0), r"beta must lie in \(0, 1\)"),
        (lambda c: losses.two_stage(c, q=-0.5), "q must be a finite number ≥ 0"),
        (lambda c: losses.focal(c, gamma=-1.0), "focusing must be a finite number ≥ 0"),
        (lambda c: losses.ldam(c, max_shift=0.0), "max_shift must be"),
        (lambda c: losses.pair_loss(-c), "weights must be non-negative; row 0, agent 0"),
        (lambda c: losses.two_stage(c[:, :1]), "at least 2 agents"),
        (lambda c: losses.two_stage(np.where(c == c[3, 1], np.inf, c)), "row 3, column 1 is inf"),
        (lambda c: losses.two_stage(np.column_stack([c[:, :2], np.full(len(c), c.max())])), "agent 2 is never better"),
        (lambda c: losses.two_stage(c)(torch.zeros(2, 3, dtype=torch.float64)), "scores must have shape"),
        (lambda c: losses.one_vs_all(c)(torch.zeros(1, 3, dtype=torch.float64)), "scores must have shape"),
        (lambda c: losses.capacity_margins(c, total=0.0), "total must be"),
        (lambda c: losses.capacity(np.zeros(3), c), "margins must be"),
    ],
)
def test_bad_input_is_named(call, message):
    _, costs = example()
    with pytest.raises(ValueError, match=message):
        call(costs)
