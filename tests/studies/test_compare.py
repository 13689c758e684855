"""Many methods on one problem: controls are exact, nothing is tuned on test rows, every method has equal chances."""

import numpy as np
import pytest

from l2d_utils import methods, metrics, routers
from l2d_utils.data import Split
from l2d_utils.studies import compare, imbalance

CONTROLS = ["best_single", "random", "label_oracle", "oracle"]


def toy_problem(seed, n=240):
    """Three experts of home classes told apart by one-hot features with noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    X = np.eye(10)[labels] + 0.3 * rng.normal(size=(n, 10))
    costs, expected = imbalance.imbalanced_experts(labels, imbalance.imbalance("70/20/10"), 10, random_state=seed)
    split = Split(np.arange(120), np.arange(120, 180), np.arange(180, n))
    return compare.Problem(X, costs, split, expected, labels)


@pytest.fixture(scope="module")
def frame():
    keys = [
        "two_stage",
        "two_stage_offsets",
        "two_stage_power_offsets",
        "two_stage_insample_offsets",
        "mild",
        "plug_in",
    ]
    return compare.compare([*keys, *CONTROLS], toy_problem, range(3), ridge_factor=0.1, study="toy", n=120)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="70/20/10"):
        imbalance.imbalance("60/40")
    with pytest.raises(ValueError, match="two_stages"):
        compare.compare(["two_stages"], toy_problem, [0])
    with pytest.raises(ValueError, match="expected"):
        compare.compare(["label_oracle"], lambda seed: toy_problem(seed)._replace(expected=None), [0])
    with pytest.raises(ValueError, match="'oracle'"):
        compare.tune(["oracle"], toy_problem(0))
    with pytest.raises(ValueError, match="neither tuned nor a control"):
        compare.routed(["mild"], toy_problem(0), {})


def test_controls_are_exact(frame):
    value = frame[(frame["metric"] == "deferral_loss") & (frame["split"] == "test")].set_index(["seed", "method"])
    for seed in range(3):
        problem = toy_problem(seed)
        costs = problem.costs[problem.split.test]
        got = value.loc[seed]["value"]
        assert got["random"] == pytest.approx(costs.mean())
        assert got["oracle"] == pytest.approx(costs.min(axis=1).mean())
        assert got["label_oracle"] == 0
        assert got["best_single"] == pytest.approx(costs[:, 0].mean())
        assert got["two_stage"] < got["best_single"] < got["random"]


def test_facts_are_columns_of_their_kind(frame):
    assert set(frame["agent"]) == {1, 2, 3, ""} and set(frame["n"]) == {120}
    assert set(frame["metric"]) == {"deferral_loss", "share", "regret", "chosen", "edge"}
    assert set(frame.loc[frame["metric"].isin(["chosen", "edge"]), "split"]) == {"validation"}
    ridges = frame[(frame["metric"] == "chosen") & (frame["parameter"] == "l2") & (frame["method"] == "mild")]["value"]
    assert set(ridges.round(9)) <= {round(0.1 * ridge, 9) for ridge in methods.RIDGES}


def test_an_edge_is_named_where_the_smallest_or_largest_value_was_chosen(frame):
    at = ["seed", "method", "parameter"]
    chosen, edges = (frame[frame["metric"] == m].set_index(at)["value"] for m in ("chosen", "edge"))
    for (seed, method, parameter), value in chosen.items():
        entry = methods.find(methods.find(method).base or method)
        tried = [compare.choosing.numbers(s).get(parameter) for s in methods.settings(entry, ridge_factor=0.1)]
        on_edge = parameter in ("l2", "gamma") and value in (min(tried), max(tried))
        assert ((seed, method, parameter) in edges.index) == on_edge


def test_shares_sum_to_one_and_regrets_explain_the_loss(frame):
    for (seed, method), rows in frame[frame["split"] == "test"].groupby(["seed", "method"]):
        number = rows.set_index(["metric", "agent"])["value"]
        assert number["share"].sum() == pytest.approx(1)
        problem = toy_problem(seed)
        costs = problem.costs[problem.split.test]
        weight = metrics.best_agents(costs).mean(axis=0)
        explained = sum(weight[k - 1] * number["regret", k] for k in (1, 2, 3))
        assert costs.min(axis=1).mean() + explained == pytest.approx(number["deferral_loss", ""]), method


def test_offsets_on_validation(frame):
    table = frame[(frame["split"] == "validation") & (frame["metric"] == "deferral_loss")]
    table = table.pivot(index="seed", columns="method", values="value")
    # fitted to these very rows, or to nothing at all: not worse; and K free numbers do at least as well as one
    assert (table["two_stage_insample_offsets"] <= table["two_stage"]).all()
    assert (table["two_stage_power_offsets"] <= table["two_stage"]).all()
    # judged on rows that they were not fitted to; t = 0 is among what they choose from
    assert (table["two_stage_offsets"] <= table["two_stage"]).all()


def test_power_law_offsets_follow_the_law_and_are_seen_in_the_routes():
    problem = toy_problem(0, n=600)
    rows = np.arange(600)
    problem = problem._replace(split=Split(rows[:200], rows[200:400], rows[400:]))
    problem = problem._replace(costs=np.clip(problem.costs + [0.35, 0, 0], 0, 1))  # a dearer majority: offsets pay
    tuned = compare.tune(["two_stage_power_offsets"], problem, ridge_factor=0.1)["two_stage_power_offsets"]
    train = problem.costs[problem.split.train]
    m = (train.max() - train).sum(axis=0)
    law = -np.log(m / m.max())
    gamma = tuned.offsets[np.argmax(law)] / law.max()
    np.testing.assert_allclose(tuned.offsets, gamma * law, atol=1e-12)
    raw = tuned.router.decision_function(problem.X)
    np.testing.assert_array_equal(tuned.predict(problem.X), (raw + gamma * law).argmax(axis=1))


def test_no_method_sees_test_rows():
    problem = toy_problem(0)
    spoilt = problem.costs.copy()
    spoilt[problem.split.test] = 1 - spoilt[problem.split.test]
    keys = ["two_stage", "mild", "plug_in", "two_stage_offsets", "two_stage_power_offsets"]
    honest = compare.tune(keys, problem, ridge_factor=0.1)
    again = compare.tune(keys, problem._replace(costs=spoilt), ridge_factor=0.1)
    for key in keys:
        assert honest[key].chosen == again[key].chosen
        np.testing.assert_array_equal(honest[key].predict(problem.X), again[key].predict(problem.X))


def test_every_method_gets_as_many_settings(monkeypatch):
    fits = []
    fit = routers.DeferralRouter.fit
    monkeypatch.setattr(routers.DeferralRouter, "fit", lambda self, X, c: fits.append(self.loss) or fit(self, X, c))
    compare.tune(["mild"], toy_problem(0))
    assert len(fits) == 15
    fits.clear()
    compare.tune(["mild_free"], toy_problem(0))
    assert len(fits) == 16  # the start is fitted once under each name
    fits.clear()
    compare.tune(["two_stage", "two_stage_offsets", "two_stage_power_offsets"], toy_problem(0))
    assert len(fits) == 15  # moved routers train nothing


def test_one_ridge_for_all_scales_with_the_factor_and_leaves_one_fit_per_own_value():
    problem = toy_problem(0)
    settings, fitted = compare.fit_method(methods.find("mild"), problem, ridge=0.1, ridge_factor=0.5)
    assert [s["l2"] for s in settings] == [0.05] * 5 == [router.l2 for router in fitted]
    assert len({s["loss_params"]["gamma"] for s in settings}) == 5
    settings, _ = compare.fit_method(methods.find("two_stage"), problem, ridge=0.1)
    assert settings == [{"l2": 0.1}]


def test_the_mean_over_several_routings_is_the_mean_of_their_measures():
    costs = toy_problem(0).costs
    each = [compare.measure(costs, np.full(len(costs), k)) for k in range(3)]
    both = compare.measure(costs, np.repeat(np.arange(3)[:, None], len(costs), axis=1))
    for i, record in enumerate(both):
        assert record["value"] == pytest.approx(np.mean([part[i]["value"] for part in each]))


def test_share_offsets_give_the_ideal_shares_and_may_cost():
    problem = toy_problem(0, n=2000)
    rows = np.arange(2000)
    problem = problem._replace(split=Split(rows[:500], rows[500:1200], rows[1200:]))
    keys = ["two_stage", "two_stage_shares", "two_stage_insample_offsets"]
    plain, moved, best = compare.tune(keys, problem, ridge_factor=0.1).values()
    ideal = metrics.deferral_ratios(problem.expected[problem.split.validation].argmin(axis=1), 3)
    routes = moved.predict(problem.X[problem.split.test])
    np.testing.assert_allclose(metrics.deferral_ratios(routes, 3), ideal, atol=0.06)
    assert best.validation_loss <= min(moved.validation_loss, plain.validation_loss)
    with pytest.raises(ValueError, match="expected"):
        compare.tune(["two_stage_shares"], problem._replace(expected=None))


def test_classify_then_route_finds_the_home_of_every_input_that_shows_its_label():
    problem = toy_problem(0, n=600)
    rows = np.arange(600)
    clean = problem._replace(X=np.eye(10)[problem.labels], split=Split(rows[:300], rows[300:400], rows[400:]))
    tuned = compare.tune(["classify_then_route"], clean, ridge_factor=0.1)["classify_then_route"]
    np.testing.assert_array_equal(tuned.predict(clean.X[400:]), clean.expected[400:].argmin(axis=1))
    with pytest.raises(ValueError, match="labels"):
        compare.tune(["classify_then_route"], clean._replace(labels=None))
