"""Post-hoc scorers: what each estimates, that none sees the expert, and what the measurements say at their limits."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from l2d_utils import posthoc, results
from l2d_utils.routers import DensityRatioScorer

GRID = {"temperatures": (3.0, 0.3), "ridges": (0.03,)}


def made_up(n=600, seed=0):
    """A weak model and an expert that is right on classes 0..2 only."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, n)
    penultimate = rng.standard_normal((n, 6)) + np.eye(6)[labels] * 2
    base = {"logits": penultimate + rng.standard_normal((n, 6)), "features": penultimate}
    answer = np.where(labels < 3, labels, rng.integers(0, 6, n))
    return posthoc.sample(base, {"logits": np.where(labels < 3, 4, 1)[:, None] * np.eye(6)[answer]}, labels)


ROWS = made_up()
TRAIN, VALIDATION, TEST = ROWS.at(np.arange(250)), ROWS.at(np.arange(250, 400)), ROWS.at(np.arange(400, 600))


def test_features_hold_softmax_and_its_uncertainties():
    p = np.array([[0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]])
    X = posthoc.features(np.arange(6.0).reshape(3, 2), p)
    np.testing.assert_allclose(X[:, :2], np.arange(6.0).reshape(3, 2))
    np.testing.assert_allclose(X[:, 2:5], p)
    np.testing.assert_allclose(X[:, 5], [0.3, 2 / 3, 0.0])
    np.testing.assert_allclose(X[:, 6], [-(p[0] * np.log(p[0])).sum(), np.log(3), 0.0])
    np.testing.assert_allclose(X[:, 7], [0.5, 1.0, 0.0], atol=1e-15)
    with pytest.raises(ValueError, match="row 1"):
        posthoc.features(np.zeros((2, 1)), [[0.5, 0.5], [0.5, 0.6]])
    with pytest.raises(ValueError, match="same number of rows"):
        posthoc.features(np.zeros((3, 1)), [[0.5, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize("method", posthoc.METHODS)
def test_scores_are_one_per_row_and_need_only_features(method):
    chosen = posthoc.choose(method, TRAIN, VALIDATION, **GRID)
    assert len(chosen.areas) == (1 if method in posthoc.UNTRAINED else 2)
    assert posthoc.curve(chosen.score, VALIDATION).area == min(chosen.areas)
    values = chosen.score(TEST.X)
    assert values.shape == (200,) and np.isfinite(values).all()
    np.testing.assert_allclose(chosen.score(TEST.X[7:9]), values[7:9], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", [*posthoc.BASELINES, *posthoc.DENSITY_RATIOS])
def test_learned_scores_find_the_expert_and_confidence_does_not(method):
    gain = posthoc.gap_closed(posthoc.choose(method, TRAIN, VALIDATION, **GRID).score(TEST.X), *TEST.costs.T)
    blind = posthoc.gap_closed(posthoc.confidence(TRAIN)(TEST.X), *TEST.costs.T)
    assert gain > max(blind, 0) + 0.05


def test_equal_number_of_settings():
    sizes = {m: len(posthoc.settings_of(m, (1, 2, 3), (0.1, 1, 10))) for m in posthoc.METHODS}
    assert {sizes[m] for m in (*posthoc.BASELINES, *posthoc.DENSITY_RATIOS)} == {9}
    with pytest.raises(ValueError, match="method must be one of"):
        posthoc.settings_of("luck", (1,), (1,))


def test_diff_01_is_dr_cpe_with_the_square_loss_at_large_temperature():
    """ω_m − ω_h → (c_h − c_m + const)/λ and ω_m + ω_h → 2: the same regression, up to scale and offset."""
    a = posthoc.fit("diff_01", TRAIN, l2=0.1)(TEST.X)
    # DR-CPE adds l2·½‖weights‖² to mean (target − s)², the ridge l2·‖weights‖²: hence twice the strength
    scorer = DensityRatioScorer("square", temperature=100.0, l2=0.2, tol=1e-12).fit(TRAIN.X, TRAIN.costs)
    b = 200 * scorer.decision_function(TEST.X)
    np.testing.assert_allclose(b - b.mean(), a - a.mean(), atol=0.01)
    assert kendalltau(a, b).statistic > 0.98


@pytest.mark.parametrize("method", posthoc.DENSITY_RATIOS)
def test_a_large_temperature_is_fitted_as_far_as_a_small_one(method):
    """From λ = 10 on, the order is that of the error difference and hardly moves; a fit that ended early would."""
    a, b = (posthoc.fit(method, TRAIN, l2=0.01, temperature=t)(TEST.X) for t in (10.0, 300.0))
    assert kendalltau(a, b).statistic > 0.95


def test_linear_plug_in_would_be_diff_01_and_the_logistic_one_is_a_probability_difference():
    score = posthoc.fit("plug_in", TRAIN, l2=1e-3)(TRAIN.X)
    assert (np.abs(score) <= 1).all()
    # logistic regression with an intercept reproduces the mean error of each agent on its training rows
    np.testing.assert_allclose(score.mean(), TRAIN.costs @ [1, -1] @ np.ones(len(score)) / len(score), atol=2e-3)
    always = TRAIN._replace(expert=np.eye(6)[TRAIN.labels])
    with pytest.raises(ValueError, match="expert has cost 0 on all rows"):
        posthoc.plug_in(always, 0.1)


def test_random_and_oracle_close_nothing_and_everything():
    numbers = posthoc.measure(posthoc.random(TRAIN), VALIDATION, TEST, (0.3,))
    assert numbers["gap_closed"] == pytest.approx(0, abs=1e-12)
    assert numbers["area"] == pytest.approx(1 - TEST.costs.mean())
    bound = posthoc.measure(posthoc.oracle(TEST), TEST, TEST, (0.3,))
    assert bound["gap_closed"] == pytest.approx(1)
    assert bound["accuracy/0.3"] >= numbers["accuracy/0.3"]


def test_transfer_is_exact_on_the_rows_that_set_the_threshold():
    score = posthoc.fit("diff_prob", TRAIN, l2=0.1)
    numbers = posthoc.measure(score, TEST, TEST, (0.1, 0.5))
    for rate in (0.1, 0.5):
        assert numbers[f"got/{rate}"] == pytest.approx(rate)
        assert numbers[f"transferred/{rate}"] == pytest.approx(numbers[f"accuracy/{rate}"])


def test_study_and_its_tables():
    methods = ("confidence", "diff_01", "dr_cpe_joint")
    frames = []
    for seed in (0, 1):
        rows = np.random.default_rng(seed).permutation(400)
        parts = ROWS.at(rows[:250]), ROWS.at(rows[250:]), TEST
        records = posthoc.study(methods, *parts, rates=(0.2,), points=11, **GRID)
        frames.append(results.tidy(records, setting="made up", seed=seed))
    frame = pd.concat(frames)
    curves = posthoc.curve_table(frame)
    assert set(curves["method"]) == {*methods, "oracle"} and len(curves) == 44
    ends = curves[curves["x"].isin([0, 1])].groupby("x")["y"]
    assert (ends.max() - ends.min() < 1e-12).all()
    np.testing.assert_allclose(1 - TEST.costs.mean(axis=0), ends.mean())
    off = posthoc.transfer_table(frame)
    assert set(off["asked"]) == {0.2} and np.allclose(off["off"], off["got"] - 0.2) and len(off) == 6
    table = posthoc.ranks(frame, methods)
    assert sorted(table["made up"]) == [1, 2, 3] and table["worst"].is_monotonic_increasing
    versus = posthoc.against_best(frame, ["dr_cpe_joint", "diff_01"], ["confidence", "diff_01"])
    assert (versus["rival"] == "diff_01").all() and versus.loc[1, "mean"] == 0
    with pytest.raises(ValueError, match="every method in every setting"):
        posthoc.ranks(frame.assign(metric="other"), methods)
    with pytest.raises(ValueError, match="no test rows of curve"):
        posthoc.curve_table(frame.assign(split="validation"))


def test_each_setting_holds_the_one_that_the_study_chose():
    rows = np.random.default_rng(0).permutation(400)
    parts = ROWS.at(rows[:250]), ROWS.at(rows[250:]), TEST
    grid = {"temperatures": (1.0, 0.3), "ridges": (0.01, 0.1)}
    chosen = results.tidy(posthoc.study(["dr_cpe_joint"], *parts, rates=(0.2,), **grid))
    chosen = chosen[chosen["method"] == "dr_cpe_joint"].set_index("metric")["value"]
    every = results.tidy(posthoc.each_setting(["dr_cpe_joint"], *parts, **grid))
    every = every.pivot(index="study", columns="metric", values="value")
    assert len(every) == 4
    best = f"λ={chosen['chosen/temperature']:g}, ridge={chosen['chosen/l2']:g}"
    assert every["area"].idxmax() == best
    assert every.loc[best, "gap_closed"] == chosen["gap_closed"]


def test_the_member_is_chosen_on_validation_and_not_on_test():
    areas = {("a", 0): (0.8, 0.1), ("b", 0): (0.7, 0.9), ("a", 1): (0.7, 0.2), ("b", 1): (0.75, 0.3)}
    rows = [
        {"setting": "x", "seed": seed, "method": method, "split": split, "metric": metric, "value": value}
        for (method, seed), pair in areas.items()
        for (split, metric), value in zip((("validation", "area"), ("test", "gap_closed")), pair, strict=True)
    ]
    frame = posthoc.chosen_member(pd.DataFrame(rows), ["a", "b"], "family")
    mine = frame[(frame["method"] == "family") & (frame["split"] == "test")].set_index("seed")["value"]
    assert mine.to_dict() == {0: 0.1, 1: 0.3} and len(frame) == 12


def test_relatives_do_not_push_each_other_down():
    shares = {"old": 0.5, "a": 0.7, "b": 0.6, "c": 0.4}
    rows = [
        {"split": "test", "metric": "gap_closed", "setting": "x", "seed": 0, "method": m, "value": v}
        for m, v in shares.items()
    ]
    table = posthoc.member_ranks(pd.DataFrame(rows), ["old"], ["a", "b", "c"]).set_index("method")
    assert table["worst"].to_dict() == {"old": 2, "a": 1, "b": 1, "c": 2}
