"""Routing among language models: prices, splits, studies in kept parts, and RouteLLM's measures."""

import functools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsRegressor

from l2d_utils import data, methods, metrics
from l2d_utils.costs import costs_from_scores
from l2d_utils.data import RoutingTable, Split
from l2d_utils.routers import DeferralRouter, PlugInRouter
from l2d_utils.studies import prompts
from l2d_utils.studies.compare import Problem, records, routed, tune


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
    table = prompts.with_list_prices(make_table(dollars=False), prompts.list_prices("toy"), tokens=500)
    np.testing.assert_allclose(table.dollars, np.tile([1e-4, 4.5e-4, 1e-3], (60, 1)))
    path.write_text(json.dumps({"a": {"output": -1}}))
    with pytest.raises(data.DataError, match="toy_prices"):
        prompts.list_prices("toy")
    with pytest.raises(FileNotFoundError, match="other_prices"):
        prompts.list_prices("other")
    with pytest.raises(ValueError, match="'b'"):
        prompts.with_list_prices(table, {"a": 1.0, "c": 1.0})


# ---------------------------------------------------------------- splits


def test_resplit_keeps_the_test_rows_and_redraws_the_rest():
    table = make_table()
    one, two = (prompts.resplit(table, validation=0.3, random_state=seed) for seed in (0, 1))
    for split in (one, two):
        assert (table.split[split.test] == "test").all() and len(split.test) == 30
        assert len(split.validation) == 9
        together = np.concatenate([split.train, split.validation, split.test])
        assert np.array_equal(np.sort(together), np.arange(60))
    assert not np.array_equal(one.validation, two.validation)
    with pytest.raises(ValueError, match="toy has no split"):
        prompts.resplit(make_table(split=False), validation=0.3, random_state=0)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(30, 90), n_folds=st.integers(2, 8), seed=st.integers(0, 5))
def test_folds_test_every_row_once_and_spread_the_tasks(n, n_folds, seed):
    table = make_table(n)
    splits = prompts.folds(table, n_folds, validation=0.25, random_state=seed)
    assert np.array_equal(np.sort(np.concatenate([s.test for s in splits])), np.arange(n))
    for split in splits:
        together = np.concatenate([split.train, split.validation, split.test])
        assert np.array_equal(np.sort(together), np.arange(n))
        counts = pd.Series(table.task[split.test]).value_counts()
        assert counts.max() - counts.min() <= 2


def test_a_problem_brings_what_some_methods_need():
    table = make_table()
    split = prompts.resplit(table, validation=0.4, random_state=0)
    problem = prompts.problem_at_price(table, np.zeros((60, 2)), split, 0.5)
    unit = table.dollars[split.train].mean(axis=0).max()
    np.testing.assert_allclose(problem.costs, 1 - table.scores + 0.5 * table.dollars / unit)
    np.testing.assert_array_equal(problem.dollars, table.dollars)
    np.testing.assert_array_equal(problem.task, table.task)


# ---------------------------------------------------------------- tuned routers


def trained(comparison):
    return [key for key in methods.standing_in(comparison) if methods.METHODS[key].make is not None]


@pytest.mark.parametrize("key", trained(methods.PROMPTS))
def test_thinned_settings_are_equally_many_and_part_of_the_whole(key):
    whole, few = (methods.settings(methods.find(key), every) for every in (1, 6))
    assert len(whole) == 15 and len(few) == 3
    assert all(setting in whole for setting in few)


def test_tuned_methods_beat_the_best_single_agent_and_share_fits():
    problem = make_problem()._replace(dollars=np.tile([1.0, 2.0, 3.0], (400, 1)))
    keys = ["two_stage", "two_stage_offsets", "plug_in", "knn"]
    tuned = tune(keys, problem, every=6, solver=prompts.SOLVER)
    routes = routed([*keys, "best_single", "cheapest", "oracle"], problem, tuned)
    costs = problem.costs[problem.split.test]
    losses = {name: metrics.deferral_loss(costs, to) for name, to in routes.items()}
    assert losses["oracle"] < min(losses[m] for m in keys)
    assert max(losses[m] for m in keys) < 0.7 * losses["best_single"]
    assert (routes["cheapest"] == 0).all()
    assert np.isfinite([row["value"] for row in records(costs, routes, tuned)]).all()


def test_temperature_is_a_ridge_strength():
    """L(s/ρ) + λ‖W‖² = L(s') + λρ²‖W'‖²: why a global temperature adds nothing to a tuned ridge."""
    problem = make_problem()
    warm = DeferralRouter("global_temperature", {"rho": 0.5}, l2=0.4, tol=1e-10).fit(problem.X, problem.costs)
    plain = DeferralRouter("two_stage", l2=0.1, tol=1e-10).fit(problem.X, problem.costs)
    np.testing.assert_allclose(warm.decision_function(problem.X) / 0.5, plain.decision_function(problem.X), atol=1e-5)


def test_a_fixed_ridge_is_the_only_ridge_tried():
    keys = ["two_stage", "mild", "plug_in", "knn"]
    tuned = tune(keys, make_problem(), ridge=0.07, every=6, solver=prompts.SOLVER)
    assert "l2" not in tuned.pop("knn").chosen  # nearest neighbours have none
    assert all(found.chosen["l2"] == 0.07 for found in tuned.values())
    assert "gamma" in tuned["mild"].chosen


# ---------------------------------------------------------------- studies in kept parts


def run(folder, *keys, table=None, shift=0.0, weights=(0.0,), said=None, **how):
    """A small study; what it computed anew goes to `said`."""
    table = table or make_table()
    splits = [prompts.resplit(table, validation=0.4, random_state=seed) for seed in range(2)]
    X = np.random.default_rng(0).normal(size=(60, 2)) + shift
    say = (lambda _: None) if said is None else said.append
    return prompts.study(table, splits, lambda _: X, weights, keys, folder, say=say, study="toy", **how)


def test_a_study_goes_on_where_it_stopped(tmp_path):
    said = []
    first = run(tmp_path, "plug_in", "best_single", "random", weights=(0.0, 0.5), said=said)
    assert len(said) == 8 and set(first["setting"]) == {"0", "0.5"}  # 2 splits, 2 weights, 2 families
    pd.testing.assert_frame_equal(
        run(tmp_path, "plug_in", "best_single", "random", weights=(0.0, 0.5), said=said), first
    )
    assert len(said) == 8
    facts = ["setting", "seed", "split", "method", "metric", "agent", "parameter"]
    assert not first.duplicated(facts).any()
    assert set(first["method"]) == {"plug_in", "best_single", "random"}


def test_a_method_added_to_a_study_costs_only_its_own_parts(tmp_path):
    said = []
    few = run(tmp_path, "plug_in", "plug_in_offsets", said=said)
    assert len(said) == 2
    many = run(tmp_path, "plug_in", "plug_in_offsets", "two_stage", said=said)
    assert len(said) == 4 and all("two-stage" in name for name in said[2:])
    assert set(many["method"]) - set(few["method"]) == {"two_stage"}
    known = many[many["method"] != "two_stage"].reset_index(drop=True)
    pd.testing.assert_frame_equal(known, few)


def test_other_data_features_grids_or_a_ridge_are_never_answered_from_kept_parts(tmp_path):
    """Kept parts were once found by the names of table, method and split alone."""
    said, other = [], make_table(seed=1)
    assert other.name == make_table().name
    for how in ({}, {"table": other}, {"shift": 1.0}, {"every": 6}, {"ridge": 3.0}):
        before = len(said)
        found = run(tmp_path, "plug_in", said=said, **how)
        assert len(said) == before + 2, how
        fresh = run(tmp_path / "fresh", "plug_in", **how)
        pd.testing.assert_frame_equal(found, fresh)


def test_another_method_under_the_same_name_is_computed_anew(tmp_path, monkeypatch):
    said, found = [], []
    for k in (3, 9):
        monkeypatch.setattr(methods, "METHODS", {key: m for key, m in methods.METHODS.items() if key != "toy"})
        make = functools.partial(PlugInRouter, regressor=KNeighborsRegressor(k))
        methods.register(methods.Method("toy", "toy", "[ours]", "#123456", make=make))
        found.append(run(tmp_path, "toy", said=said))
    assert len(said) == 4 and not found[0].equals(found[1])


@given(loss=st.floats(0, 1), oracle=st.floats(0, 0.4), gap=st.floats(0.01, 0.5))
def test_gap_to_oracle_is_a_share(loss, oracle, gap):
    single = oracle + gap
    assert prompts.gap_to_oracle(single, single, oracle) == 0
    assert prompts.gap_to_oracle(oracle, single, oracle) == pytest.approx(1)
    assert (prompts.gap_to_oracle(loss, single, oracle) > 0) == (single - loss > 0)


def test_no_gap_to_the_oracle_is_an_error():
    with pytest.raises(ValueError, match="no gap"):
        prompts.gap_to_oracle(0.2, 0.1, 0.1)


# ---------------------------------------------------------------- dollars


def test_frontier_spends_less_as_money_grows_dear():
    table = make_table(400, seed=3)
    table = replace(table, dollars=np.tile([0.001, 0.002, 0.004], (400, 1)))
    split = prompts.resplit(table, validation=0.4, random_state=0)
    X = table.scores + 0.1 * np.random.default_rng(1).normal(size=table.scores.shape)
    router = DeferralRouter().fit(X[split.train], costs_from_scores(table.scores[split.train]))
    points = prompts.frontier(router, table, X, split, [0.0, 0.3, 1.0, 100.0])
    assert (np.diff(points["dollars"]) <= 1e-9).all()
    assert points["dollars"].iloc[-1] == pytest.approx(1.0)
    accuracy, dollars = prompts.spending(table, np.arange(400), np.full(400, 2))
    assert dollars == pytest.approx(4.0) and accuracy == pytest.approx(table.scores[:, 2].mean())


# ---------------------------------------------------------------- RouteLLM's measures


def test_call_performance_of_a_perfect_a_random_and_a_reversed_router():
    weak, strong = np.array([0.0, 0.0, 1.0, 1.0]), np.ones(4)
    perfect = prompts.call_performance(strong - weak, weak, strong)
    assert perfect == pytest.approx((0.75, 0.25, 0.4))
    random = prompts.call_performance(np.zeros(4), weak, strong)
    assert random == pytest.approx((0.5, 0.5, 0.8))
    reversed_ = prompts.call_performance(weak - strong, weak, strong)
    assert reversed_ == pytest.approx((0.25, 0.75, 0.9))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 60))
def test_call_performance_against_its_definition(seed, n):
    rng = np.random.default_rng(seed)
    scores, weak = rng.normal(size=n), rng.integers(0, 2, n).astype(float)
    strong = np.maximum(weak, rng.integers(0, 2, n))
    if strong.mean() <= weak.mean():
        with pytest.raises(ValueError, match="must be better"):
            prompts.call_performance(scores, weak, strong)
        return
    order = np.argsort(-scores)
    quality = np.array([np.where(np.isin(np.arange(n), order[:i]), strong, weak).mean() for i in range(n + 1)])
    recovered = (quality - quality[0]) / (quality[-1] - quality[0])
    found = prompts.call_performance(scores, weak, strong)
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
    rows = prompts.strongest_calls(["plug_in"], problem, {"here": (problem.X[test], *quality.T)})
    found = rows.set_index(["split", "metric"])["value"]
    assert found["test", "apgr"] > 0.8 and found["test", "cpt50"] < 0.4
    held = problem.split.validation
    tried = []
    for setting in methods.settings(methods.find("plug_in")):
        router = (
            methods.find("plug_in")
            .make(**setting)
            .fit(problem.X[problem.split.train], problem.costs[problem.split.train])
        )
        scores = router.decision_function(problem.X[held])
        tried.append(prompts.call_performance(scores[:, 1] - scores[:, 0], *(1 - problem.costs[held]).T).apgr)
    assert found["validation", "apgr"] == max(tried)
