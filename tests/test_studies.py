"""Studies: the experts are what they claim, controls are exact, tables pair what belongs together, work resumes."""

import numpy as np
import pandas as pd
import pytest

from l2d_utils import metrics, studies
from l2d_utils.data import ImageData, Split

LABELS = np.repeat(np.arange(10), 60)


def toy_problem(seed, n=240):
    """Three experts of home classes told apart by one-hot features with noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    X = np.eye(10)[labels] + 0.3 * rng.normal(size=(n, 10))
    costs, expected = studies.imbalanced_experts(labels, studies.imbalance("70/20/10"), 10, random_state=seed)
    return studies.Problem(X, costs, Split(np.arange(120), np.arange(120, 180), np.arange(180, n)), expected)


@pytest.fixture(scope="module")
def frame():
    methods = ["two_stage", "two_stage_offsets", "mild", "plug_in", *studies.CONTROLS]
    return studies.compare(methods, toy_problem, range(3), l2_factor=0.1, study="toy")


def test_experts_are_right_at_home_and_guess_elsewhere():
    costs, expected = studies.imbalanced_experts(
        np.repeat(LABELS, 50), studies.imbalance("70/20/10", accuracy=0.9), 10, random_state=0
    )
    np.testing.assert_allclose(np.unique(expected.round(12)), [0.1, 0.9])
    assert (expected[:, 0] < 0.5).mean() == 0.7
    for k in range(3):
        at_home = expected[:, k] < 0.5
        assert abs(costs[at_home, k].mean() - 0.1) < 0.02
        assert abs(costs[~at_home, k].mean() - 0.9) < 0.02
    others = studies.imbalanced_experts(np.repeat(LABELS, 50), studies.imbalance("70/20/10"), 10, random_state=1)[0]
    assert not np.array_equal(costs[:, 2], others[:, 2])


def test_generalist_is_right_everywhere_with_the_same_probability():
    _, expected = studies.imbalanced_experts(LABELS, studies.imbalance("generalist"), 10, random_state=0)
    np.testing.assert_allclose(expected[:, 0], 0.2)
    np.testing.assert_allclose(np.bincount(expected.argmin(axis=1)) / len(LABELS), [0.7, 0.2, 0.1])


def test_population_rows_have_the_shares_and_stay_inside():
    setting, rows = studies.imbalance("90/8/2"), np.arange(0, len(LABELS), 2)
    drawn = studies.population_rows(LABELS, rows, setting, size=100, random_state=0)
    assert len(np.unique(drawn)) == 100 and np.isin(drawn, rows).all()
    counts = np.bincount(LABELS[drawn], minlength=10)
    assert (counts[:7].sum(), counts[7:9].sum(), counts[9]) == (90, 8, 2)
    largest = studies.population_rows(LABELS, rows, setting, random_state=0)
    assert len(largest) == int(min(210 / 0.9, 60 / 0.08, 30 / 0.02))
    with pytest.raises(ValueError, match="size"):
        studies.population_rows(LABELS, rows, setting, size=250, random_state=0)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="70/20/10"):
        studies.imbalance("60/40")
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
    fit = studies.DeferralRouter.fit
    monkeypatch.setattr(studies.DeferralRouter, "fit", lambda self, X, c: fits.append(self.loss) or fit(self, X, c))
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


def toy_images(n=400):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 10
    pixels = (labels[:, None, None, None] * 20 + rng.integers(0, 30, (n, 28, 28, 1))).astype(np.uint8)
    return ImageData(pixels, labels, None, tuple("0123456789"), "toy", "made up", "0" * 64)


def test_features_never_come_from_the_router_rows_and_are_cached(tmp_path):
    from l2d_utils.agents import LeNet

    settings = dict(base_rows=100, pool=100, validation=60, test=60, network=LeNet, epochs=1, cache=tmp_path)
    X, split, _ = studies.image_features(toy_images(), random_state=0, **settings)
    used = np.concatenate([split.train, split.validation, split.test])
    assert len(np.unique(used)) == 220 and np.isfinite(X[used]).all()
    assert np.isnan(np.delete(X, used, axis=0)).all()
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    np.testing.assert_array_equal(studies.image_features(toy_images(), random_state=0, **settings)[0], X)
    assert file.stat().st_mtime_ns == before
    studies.image_features(toy_images(), random_state=1, **settings)
    assert len(list(tmp_path.iterdir())) == 2


def test_pixel_study_resumes_and_trains_equal_margins_once(tmp_path):
    from l2d_utils.agents import LeNet

    said = []
    run = dict(
        methods=["two_stage", "mild", "global_temperature"], seeds=[0, 1], folder=tmp_path, setting="70/20/10", size=60,
        validation=60, test=60, network=LeNet, n_settings=1, epochs=1, say=said.append,
    )  # fmt: skip
    first = studies.pixel_study(toy_images(), **run)
    assert len(said) == 2  # one run a seed: gamma = 0 and rho = 1 are two-stage
    pd.testing.assert_frame_equal(studies.pixel_study(toy_images(), **run), first)
    assert len(said) == 2
    loss = studies.summary(first).set_index("method")["mean"]
    assert loss["mild"] == loss["two_stage"] == loss["global_temperature"]
    assert set(studies.CONTROLS) <= set(loss.index)


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
