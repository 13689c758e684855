"""Routing among language models: splits, features, offsets, prices, escaped prompts, and RouteLLM's measures."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsRegressor

from l2d_utils import data, metrics, neighbours, routing, rules, tuning
from l2d_utils.costs import costs_from_scores
from l2d_utils.data import RoutingTable, Split
from l2d_utils.escape import prompt_html
from l2d_utils.routers import DeferralRouter, PlugInRouter
from l2d_utils.studies.compare import Problem


def make_table(n=60, n_agents=3, *, seed=0, dollars=True, split=True):
    rng = np.random.default_rng(seed)
    task = np.array(["arithmetic", "poetry", "law"])[np.arange(n) % 3]
    return RoutingTable(
        [f"{task[i]} question number {i} about {'xyz'[i % 3]} and {i % 7} things" for i in range(n)],
        rng.random((n, n_agents)),
        tuple("abcdefghij"[:n_agents]),
        rng.random((n, n_agents)) * np.arange(1, n_agents + 1) / 1000 if dollars else None,
        task,
        np.where(np.arange(n) % 2, "test", "validation") if split else None,
        "toy",
        "made up",
        "",
    )


def make_problem(n=400, n_agents=3, seed=0):
    """Costs that a linear router can learn: agent k is best where feature k is largest."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_agents))
    costs = np.clip(0.5 - 0.3 * X + 0.2 * rng.normal(size=X.shape), 0, None)
    return Problem(X, costs, Split(np.arange(0, n, 2), np.arange(1, n, 4), np.arange(3, n, 4)))


# ---------------------------------------------------------------- prices


def test_list_prices_become_dollars_per_request(tmp_path, monkeypatch):
    monkeypatch.setenv("L2D_DATA_DIR", str(tmp_path))
    (tmp_path / "routing").mkdir()
    path = tmp_path / "routing" / "toy_prices.json"
    path.write_text(json.dumps({"a": {"output": 0.2}, "b": {"output": 0.9}, "c": {"output": 2}}))
    table = routing.with_list_prices(make_table(dollars=False), routing.list_prices("toy"), tokens=500)
    np.testing.assert_allclose(table.dollars, np.tile([1e-4, 4.5e-4, 1e-3], (60, 1)))
    path.write_text(json.dumps({"a": {"output": -1}}))
    with pytest.raises(data.DataError, match="toy_prices"):
        routing.list_prices("toy")
    with pytest.raises(FileNotFoundError, match="other_prices"):
        routing.list_prices("other")
    with pytest.raises(ValueError, match="'b'"):
        routing.with_list_prices(table, {"a": 1.0, "c": 1.0})


# ---------------------------------------------------------------- splits


def test_resplit_keeps_the_test_rows_and_redraws_the_rest():
    table = make_table()
    one, two = (routing.resplit(table, validation=0.3, random_state=seed) for seed in (0, 1))
    for split in (one, two):
        assert (table.split[split.test] == "test").all() and len(split.test) == 30
        assert len(split.validation) == 9
        together = np.concatenate([split.train, split.validation, split.test])
        assert np.array_equal(np.sort(together), np.arange(60))
    assert not np.array_equal(one.validation, two.validation)
    with pytest.raises(ValueError, match="toy has no split"):
        routing.resplit(make_table(split=False), validation=0.3, random_state=0)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(30, 90), n_folds=st.integers(2, 8), seed=st.integers(0, 5))
def test_folds_test_every_row_once_and_spread_the_tasks(n, n_folds, seed):
    table = make_table(n)
    splits = routing.folds(table, n_folds, validation=0.25, random_state=seed)
    assert np.array_equal(np.sort(np.concatenate([s.test for s in splits])), np.arange(n))
    for split in splits:
        together = np.concatenate([split.train, split.validation, split.test])
        assert np.array_equal(np.sort(together), np.arange(n))
        counts = pd.Series(table.task[split.test]).value_counts()
        assert counts.max() - counts.min() <= 2


# ---------------------------------------------------------------- features


def test_kernel_features_know_nothing_of_held_out_scores_or_a_rows_own_score():
    table = make_table(90)
    train = np.arange(0, 90, 2)
    E = np.random.default_rng(0).normal(size=(90, 8))
    E /= np.linalg.norm(E, axis=1, keepdims=True)

    def features(scores):
        return neighbours.kernel_features(table.prompts, E, scores, train, dim=10, neighbours=5)

    X = features(table.scores)
    assert X.shape == (90, 13)
    changed = table.scores.copy()
    changed[1::2] = 0.0
    np.testing.assert_array_equal(features(changed), X)
    changed[0] = 1.0 - changed[0]
    np.testing.assert_array_equal(features(changed)[0], X[0])
    assert not np.array_equal(features(changed), X)
    assert X[:, 10:].min() >= 0 and X[:, 10:].max() <= 1


def test_neighbour_means_are_those_of_the_nearest_training_rows():
    table = make_table(40)
    train = np.arange(30)
    E = np.eye(40)
    X = neighbours.kernel_features(["same words here", "other text"] * 20, E, table.scores, train, dim=2, neighbours=29)
    np.testing.assert_allclose(X[5, 2:], np.delete(table.scores[:30], 5, axis=0).mean(axis=0))


# ---------------------------------------------------------------- tuned routers


def test_thinned_grids_are_equally_long_and_part_of_the_whole():
    for method in ("two_stage", "mild", "plug_in", "knn", "margin_dr_cpe"):
        whole, few = (tuning.candidates(method, every)[1] for every in (1, 6))
        assert len(whole) == 15 and len(few) == 3
        assert all(str(setting) in map(str, whole) for setting in few)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n_agents=st.integers(2, 5))
def test_shrunken_offsets_of_noise_are_judged_on_other_rows(seed, n_agents):
    rng = np.random.default_rng(seed)
    scores, costs = rng.normal(size=(120, n_agents)), rng.random((120, n_agents))
    offsets, loss = tuning.shrunken_offsets(scores, costs)
    plain = metrics.deferral_loss(costs, scores.argmax(axis=1))
    assert loss <= plain + 1e-12  # t = 0 is among the choices
    if not offsets.any():
        assert loss == pytest.approx(plain)
    full = rules.offsets_for_costs(scores, costs)
    t = np.linalg.norm(offsets) / max(np.linalg.norm(full), 1e-12)
    assert min(abs(t - s) for s in tuning.SHRINKAGE) < 1e-9


def test_offsets_repair_a_router_whose_scores_are_biased():
    problem = make_problem()
    biased = -problem.costs + np.array([1.0, 0.0, -1.0])
    offsets, loss = tuning.shrunken_offsets(biased, problem.costs)
    assert loss < 0.5 * metrics.deferral_loss(problem.costs, biased.argmax(axis=1))
    assert offsets[0] < offsets[1] < offsets[2]


def test_tuned_methods_beat_the_best_single_agent_and_share_fits():
    problem = make_problem()
    methods = ["two_stage", "two_stage_offsets", "plug_in", "knn"]
    found = routing.evaluate(methods, problem, dollars=np.tile([1.0, 2.0, 3.0], (400, 1)), every=6)
    assert list(found.routers) == methods
    losses = {name: metrics.deferral_loss(found.costs, routes) for name, routes in found.routes.items()}
    assert losses["oracle"] < min(losses[m] for m in methods)
    assert max(losses[m] for m in methods) < 0.7 * losses["best_single"]
    assert (found.routes["cheapest"] == 0).all()
    assert np.isfinite([row["value"] for row in routing.records(found)]).all()
    with pytest.raises(ValueError, match="loss must be one of"):
        routing.evaluate(["no_such_method"], problem)


def test_temperature_is_a_ridge_strength():
    """L(s/ρ) + λ‖W‖² = L(s') + λρ²‖W'‖²: why a global temperature adds nothing to a tuned ridge."""
    problem = make_problem()
    warm = DeferralRouter("global_temperature", {"rho": 0.5}, l2=0.4, tol=1e-10).fit(problem.X, problem.costs)
    plain = DeferralRouter("two_stage", l2=0.1, tol=1e-10).fit(problem.X, problem.costs)
    np.testing.assert_allclose(warm.decision_function(problem.X) / 0.5, plain.decision_function(problem.X), atol=1e-5)


def test_study_goes_on_where_it_stopped(tmp_path):
    table = make_table()
    splits = [routing.resplit(table, validation=0.4, random_state=seed) for seed in range(2)]
    calls = []

    def features(split):
        calls.append(1)
        return np.random.default_rng(0).normal(size=(60, 2))

    def run():
        return routing.study(
            table, splits, features, [0.0, 0.5], ["plug_in"], tmp_path, say=lambda _: None, notebook="08", study="toy"
        )

    first = run()
    assert len(calls) == 2 and set(first["setting"].astype(float)) == {0.0, 0.5}
    pd.testing.assert_frame_equal(run(), first)
    assert len(calls) == 2
    assert not first.duplicated(["setting", "seed", "split", "method", "metric"]).any()


def test_a_method_added_to_a_study_costs_only_its_own_parts(tmp_path):
    table = make_table()
    splits = [routing.resplit(table, validation=0.4, random_state=0)]
    X, said = np.random.default_rng(0).normal(size=(60, 2)), []

    def run(*methods):
        return routing.study(
            table, splits, lambda _: X, [0.0], methods, tmp_path, say=said.append, notebook="08", study="toy"
        )

    few = run("plug_in", "plug_in_offsets")
    many = run("plug_in", "plug_in_offsets", "two_stage")
    assert len(said) == 2 and "two_stage" in said[1]
    assert set(many["method"]) - set(few["method"]) == {"two_stage"}
    known = many[many["method"] != "two_stage"].reset_index(drop=True)
    pd.testing.assert_frame_equal(known, few)


@given(loss=st.floats(0, 1), oracle=st.floats(0, 0.4), gap=st.floats(0.01, 0.5))
def test_gap_to_oracle_is_a_share(loss, oracle, gap):
    single = oracle + gap
    assert routing.gap_to_oracle(single, single, oracle) == 0
    assert routing.gap_to_oracle(oracle, single, oracle) == pytest.approx(1)
    assert (routing.gap_to_oracle(loss, single, oracle) > 0) == (single - loss > 0)


def test_no_gap_to_the_oracle_is_an_error():
    with pytest.raises(ValueError, match="no gap"):
        routing.gap_to_oracle(0.2, 0.1, 0.1)


# ---------------------------------------------------------------- dollars


def test_frontier_spends_less_as_money_grows_dear():
    table = make_table(400, seed=3)
    table = replace(table, dollars=np.tile([0.001, 0.002, 0.004], (400, 1)))
    split = routing.resplit(table, validation=0.4, random_state=0)
    X = table.scores + 0.1 * np.random.default_rng(1).normal(size=table.scores.shape)
    router = DeferralRouter().fit(X[split.train], costs_from_scores(table.scores[split.train]))
    points = routing.frontier(router, table, X, split, [0.0, 0.3, 1.0, 100.0])
    assert (np.diff(points["dollars"]) <= 1e-9).all()
    assert points["dollars"].iloc[-1] == pytest.approx(1.0)
    always = routing.spending(table.scores, table.dollars, np.full(400, 2))
    assert always.dollars == pytest.approx(4.0) and always.accuracy == pytest.approx(table.scores[:, 2].mean())


# ---------------------------------------------------------------- prompts on a page


@given(text=st.text(max_size=40))
def test_no_prompt_escapes_its_cell(text):
    page = prompt_html(pd.DataFrame({"prompt": [text + "<script>x</script><td>$a$"], "n": [1]}))
    assert "<script" not in page and "$" not in page
    assert page.count("<td") == 2 and page.count("</td>") == 2


def test_long_prompts_are_cut():
    page = prompt_html(pd.DataFrame({"prompt": ["ab " * 200]}), longest=20)
    assert "ab ab ab ab ab ab a…" in page


# ---------------------------------------------------------------- RouteLLM's measures


def test_call_performance_of_a_perfect_a_random_and_a_reversed_router():
    weak, strong = np.array([0.0, 0.0, 1.0, 1.0]), np.ones(4)
    perfect = routing.call_performance(strong - weak, weak, strong)
    assert perfect == pytest.approx((0.75, 0.25, 0.4))
    random = routing.call_performance(np.zeros(4), weak, strong)
    assert random == pytest.approx((0.5, 0.5, 0.8))
    reversed_ = routing.call_performance(weak - strong, weak, strong)
    assert reversed_ == pytest.approx((0.25, 0.75, 0.9))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 60))
def test_call_performance_against_its_definition(seed, n):
    rng = np.random.default_rng(seed)
    scores, weak = rng.normal(size=n), rng.integers(0, 2, n).astype(float)
    strong = np.maximum(weak, rng.integers(0, 2, n))
    if strong.mean() <= weak.mean():
        with pytest.raises(ValueError, match="must be better"):
            routing.call_performance(scores, weak, strong)
        return
    order = np.argsort(-scores)
    quality = np.array([np.where(np.isin(np.arange(n), order[:i]), strong, weak).mean() for i in range(n + 1)])
    recovered = (quality - quality[0]) / (quality[-1] - quality[0])
    found = routing.call_performance(scores, weak, strong)
    assert found.apgr == pytest.approx(np.trapezoid(recovered, np.linspace(0, 1, n + 1)))
    for target, rate in ((0.5, found.cpt50), (0.8, found.cpt80)):
        assert np.interp(rate, np.linspace(0, 1, n + 1), recovered) == pytest.approx(target)
        before = np.linspace(0, 1, n + 1) < rate - 1e-9
        assert (recovered[before] < target + 1e-9).all()


def test_settings_for_calls_are_chosen_by_apgr():
    problem = make_problem(n_agents=2)
    problem = problem._replace(costs=np.clip(problem.costs + [0.1, 0.0], 0, 1))
    test = problem.split.test
    quality = 1.0 - problem.costs[test]
    rows = routing.strongest_calls(["plug_in"], problem, {"here": (problem.X[test], *quality.T)})
    found = {(row["split"], row["metric"]): row["value"] for row in rows}
    assert found["test", "apgr"] > 0.8 and found["test", "cpt50"] < 0.4


# ---------------------------------------------------------------- a free scorer


def test_neighbour_router_is_log_mean_tilt_and_ranks_like_knn_at_large_temperature():
    problem = make_problem()
    X, costs, test = problem.X[problem.split.train], problem.costs[problem.split.train], problem.X[problem.split.test]
    router = neighbours.NeighbourRouter(n_neighbors=7, temperature=0.4).fit(X, costs)
    near = np.argsort(((test[0] - X) ** 2).sum(axis=1))[:7]
    expected = np.log(np.exp(-(costs[near] - costs.min()) / 0.4).mean(axis=0))
    np.testing.assert_allclose(router.decision_function(test)[0], expected)
    plain = PlugInRouter(regressor=KNeighborsRegressor(7)).fit(X, costs)
    calm = neighbours.NeighbourRouter(n_neighbors=7, temperature=1e6).fit(X, costs)
    assert np.mean(calm.predict(test) == plain.predict(test)) > 0.99


def test_with_zero_one_costs_the_scores_are_a_monotone_map_of_the_neighbours_errors():
    """exp(−c/λ) = 1 − κc: so every temperature orders the agents alike."""
    problem = make_problem()
    wrong = (problem.costs > 0.5).astype(float)
    errors = -PlugInRouter(regressor=KNeighborsRegressor(9)).fit(problem.X, wrong).decision_function(problem.X)
    for temperature in (0.2, 1.0, 50.0):
        scores = neighbours.NeighbourRouter(9, temperature).fit(problem.X, wrong).decision_function(problem.X)
        np.testing.assert_allclose(np.exp(scores), np.maximum(1 + np.expm1(-1 / temperature) * errors, 0), atol=1e-12)


def test_a_fixed_ridge_is_the_only_ridge_tried():
    problem = make_problem()
    tuned = routing.evaluate(["two_stage", "mild", "plug_in", "knn"], problem, l2=0.07, every=6).routers
    assert "l2" not in tuned.pop("knn").params  # nearest neighbours have none
    assert all(found.params["l2"] == 0.07 for found in tuned.values())
    assert tuned["mild"].params["loss_params"]
