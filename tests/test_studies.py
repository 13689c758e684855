"""Studies: controls are exact, nothing is tuned on test rows, tables pair what belongs together, work resumes."""

import numpy as np
import pandas as pd
import pytest

from l2d_utils import image_studies, metrics, results, routers, studies
from l2d_utils.data import Split


def toy_problem(seed, n=240):
    """Three experts of home classes told apart by one-hot features with noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    X = np.eye(10)[labels] + 0.3 * rng.normal(size=(n, 10))
    costs, expected = image_studies.imbalanced_experts(
        labels, image_studies.imbalance("70/20/10"), 10, random_state=seed
    )
    split = Split(np.arange(120), np.arange(120, 180), np.arange(180, n))
    return studies.Problem(X, costs, split, expected, labels)


@pytest.fixture(scope="module")
def frame():
    methods = ["two_stage", "two_stage_offsets", "mild", "plug_in", *studies.CONTROLS]
    return studies.compare(methods, toy_problem, range(3), l2_factor=0.1, study="toy")


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="70/20/10"):
        image_studies.imbalance("60/40")
    with pytest.raises(ValueError, match="two_stages"):
        studies.compare(["two_stages"], toy_problem, [0])
    with pytest.raises(ValueError, match="expected"):
        studies.compare(["knows_label"], lambda seed: toy_problem(seed)._replace(expected=None), [0])


def test_controls_are_exact(frame):
    value = frame[(frame["metric"] == "deferral_loss") & (frame["split"] == "test")].set_index(["seed", "method"])
    for seed in range(3):
        problem = toy_problem(seed)
        costs = problem.costs[problem.split.test]
        got = value.loc[seed]["value"]
        assert got["random"] == pytest.approx(costs.mean())
        assert got["oracle"] == pytest.approx(costs.min(axis=1).mean())
        assert got["knows_label"] == 0
        assert got["best_single"] == pytest.approx(costs[:, 0].mean())
        assert got["two_stage"] < got["best_single"] < got["random"]


def test_shares_sum_to_one_and_regrets_explain_the_loss(frame):
    for (seed, method), rows in frame[frame["split"] == "test"].groupby(["seed", "method"]):
        number = rows.set_index("metric")["value"]
        assert number[[f"share/{k}" for k in (1, 2, 3)]].sum() == pytest.approx(1)
        problem = toy_problem(seed)
        costs = problem.costs[problem.split.test]
        weight = metrics.best_agents(costs).mean(axis=0)
        explained = sum(weight[k - 1] * number[f"regret/{k}"] for k in (1, 2, 3))
        assert costs.min(axis=1).mean() + explained == pytest.approx(number["deferral_loss"]), method


def test_offsets_are_never_worse_on_validation(frame):
    table = frame[(frame["split"] == "validation") & (frame["metric"] == "deferral_loss")]
    table = table.pivot(index="seed", columns="method", values="value")
    assert (table["two_stage_offsets"] <= table["two_stage"]).all()


def test_no_method_sees_test_rows():
    problem = toy_problem(0)
    spoilt = problem.costs.copy()
    spoilt[problem.split.test] = 1 - spoilt[problem.split.test]
    for method in ("two_stage", "mild", "plug_in"):
        honest = studies.tune(method, problem, l2_factor=0.1)[1]
        again = studies.tune(method, problem._replace(costs=spoilt), l2_factor=0.1)[1]
        assert honest.chosen == again.chosen
        np.testing.assert_array_equal(honest.routes, again.routes)


def test_free_margins_use_as_many_settings_as_the_others(monkeypatch):
    fits = []
    fit = routers.DeferralRouter.fit
    monkeypatch.setattr(routers.DeferralRouter, "fit", lambda self, X, c: fits.append(self.loss) or fit(self, X, c))
    studies.tune("mild", toy_problem(0))
    assert len(fits) == 15
    fits.clear()
    studies.tune("mild_free", toy_problem(0))
    assert len(fits) == 16  # the start is fitted once under each name


def test_differences_are_paired_by_seed():
    rows = [
        {"split": "test", "metric": "deferral_loss", "seed": s, "method": m, "value": 10.0 * s + shift}
        for m, shift in (("a", 0.0), ("b", 1.0))
        for s in (0, 1, 2)
    ]
    frame = pd.DataFrame(rows).sample(frac=1, random_state=0)
    found = studies.differences(frame, "a").iloc[0]
    assert (found["method"], found["mean"], found["low"], found["high"]) == ("b", 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="twice"):
        studies.summary(pd.concat([frame, frame]))
    with pytest.raises(ValueError, match="baseline"):
        studies.differences(frame, "c")


def test_remember_keeps_nothing_of_a_part_that_failed(tmp_path):
    def fail():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        studies.remember(tmp_path / "parts", {"seed": 0}, fail)
    made = studies.remember(tmp_path / "parts", {"seed": 0}, lambda: pd.DataFrame({"value": [0.1]}))
    assert made["value"].tolist() == [0.1]
    assert studies.remember(tmp_path / "parts", {"seed": 0}, fail)["value"].tolist() == [0.1]
    assert len(list((tmp_path / "parts").iterdir())) == 1


def test_stored_prefers_this_run_and_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("L2D_OUT", raising=False)
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / "t.csv").write_text("value\n1\n")
    assert studies.stored("t", new, old)["value"].tolist() == [1]
    (new / "t.csv").write_text("value\n2\n")
    assert studies.stored("t", new, old)["value"].tolist() == [2]
    with pytest.raises(FileNotFoundError, match="missing.csv"):
        studies.stored("missing", new, old)


def test_text_that_looks_like_a_number_stays_text(tmp_path, monkeypatch):
    monkeypatch.delenv("L2D_OUT", raising=False)
    frame = results.tidy([{"metric": "loss", "value": 0.5}], notebook="08", setting="0.10", seed=3)
    made = studies.remember(tmp_path, {"part": 1}, lambda: frame)
    assert (made["notebook"][0], made["setting"][0], made["seed"][0]) == ("08", "0.10", 3)
    results.save_table(frame, "t", tmp_path)
    assert studies.stored("t", tmp_path, tmp_path)["notebook"][0] == "08"


def test_share_offsets_give_the_ideal_shares_and_may_cost(frame):
    problem = toy_problem(0, n=2000)
    rows = np.arange(2000)
    problem = problem._replace(split=Split(rows[:500], rows[500:1200], rows[1200:]))
    router, fitted = studies.tune("two_stage", problem, l2_factor=0.1)
    moved = studies.with_offsets(router, problem, "shares")
    ideal = metrics.deferral_ratios(problem.expected[problem.split.validation].argmin(axis=1), 3)
    np.testing.assert_allclose(metrics.deferral_ratios(moved.routes, 3), ideal, atol=0.06)
    best = studies.with_offsets(router, problem, "offsets")
    assert best.validation_loss <= min(moved.validation_loss, fitted.validation_loss)
    with pytest.raises(ValueError, match="expected"):
        studies.with_offsets(router, problem._replace(expected=None), "shares")


def test_through_labels_finds_the_home_of_every_input_that_shows_its_label():
    problem = toy_problem(0, n=600)
    rows = np.arange(600)
    clean = problem._replace(X=np.eye(10)[problem.labels], split=Split(rows[:300], rows[300:400], rows[400:]))
    fitted = studies.through_labels(clean, l2_factor=0.1)
    np.testing.assert_array_equal(fitted.routes, clean.expected[400:].argmin(axis=1))
    with pytest.raises(ValueError, match="labels"):
        studies.through_labels(clean._replace(labels=None))
