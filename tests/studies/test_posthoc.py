"""The study of post-hoc scores: equal tuning, what the measurements say at their limits, and the tables."""

import numpy as np
import pandas as pd
import pytest

from l2d_utils import methods, results, scores
from l2d_utils.metrics import deferral_curve
from l2d_utils.studies import posthoc
from references import weak_model_and_expert

FAMILY = ("dr_cpe_joint", "dr_cpe_marginal", "dr_cpe_square", "dr_cpe_exponential")


ROWS = scores.sample(*weak_model_and_expert())
TRAIN, VALIDATION, TEST = ROWS.at(np.arange(250)), ROWS.at(np.arange(250, 400)), ROWS.at(np.arange(400, 600))


def grid(*keys, temperatures=(3.0, 0.3), ridges=(0.03,), rates=(0.2,)):
    return posthoc.Grid(keys, temperatures, ridges, rates)


def value(records, metric, rate=None):
    (found,) = [r["value"] for r in records if r["metric"] == metric and r.get("rate") == rate]
    return found


def test_the_compared_scores_are_those_of_the_table_plainest_first():
    compared = posthoc.compared()
    assert set(compared) == {"random", *methods.standing_in(methods.POSTHOC)}
    assert set(compared[:4]) == {"random", "confidence", "entropy", "margin"} and set(compared[-4:]) == set(FAMILY)


def test_every_trained_score_has_as_many_settings():
    sizes = {key: len(posthoc.settings_of(key, (1, 2, 3), (0.1, 1, 10))) for key in posthoc.compared()}
    assert {sizes[key] for key in posthoc.compared()[4:]} == {9}
    assert {sizes[key] for key in posthoc.compared()[:4]} == {1}
    ridges = [s["l2"] for s in posthoc.settings_of("diff_01", (1, 2, 3), (0.1, 1, 10))]
    assert ridges[0] == pytest.approx(0.1 / 3) and ridges[-1] == pytest.approx(30)
    for key in ("luck", "mild"):  # no method; no score
        with pytest.raises(ValueError, match=f"method must be .*{key}"):
            posthoc.settings_of(key, (1,), (1,))


def test_a_score_of_ones_own_is_tuned_and_measured_with_the_others(monkeypatch):
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))
    methods.register(
        methods.Method("mine", "mine", "[ours]", "#123456", score=scores.diff_01, stands_in=(methods.POSTHOC,))
    )
    assert "mine" in posthoc.compared()
    frame = results.tidy(posthoc.study(grid("mine", "diff_01"), TRAIN, VALIDATION, TEST))
    mine, other = (frame[frame["method"] == m]["value"].tolist() for m in ("mine", "diff_01"))
    assert mine == other and mine


@pytest.mark.parametrize("key", ["entropy", "diff_01", "dr_cpe_joint"])
def test_the_setting_with_the_smallest_mean_cost_on_validation_is_kept(key):
    found = posthoc.tune(key, grid(key, ridges=(0.003, 0.3)), TRAIN, VALIDATION)
    assert len(found.losses) == (1 if key == "entropy" else 4)
    again = methods.find(key).score(TRAIN, **found.setting)(VALIDATION.X)
    curve = deferral_curve(again, *VALIDATION.costs.T)
    assert curve.area == pytest.approx(min(found.losses), abs=1e-12) and found.loss == min(found.losses)
    assert curve.area == pytest.approx(curve.cost.mean(), abs=2 / len(curve.cost))  # a mean cost: smaller is better


def test_random_and_oracle_close_nothing_and_everything():
    numbers = posthoc.measure(scores.random(TRAIN), TEST, (0.3,))
    assert value(numbers, "gap_closed") == pytest.approx(0, abs=1e-12)
    assert value(numbers, "mean_accuracy") == pytest.approx(1 - TEST.costs.mean())
    bound = posthoc.measure(posthoc.oracle(TEST), TEST, (0.3,))
    assert value(bound, "gap_closed") == pytest.approx(1)
    assert value(bound, "accuracy", 0.3) >= value(numbers, "accuracy", 0.3)
    assert value(bound, "mean_accuracy") > value(numbers, "mean_accuracy")


def test_transfer_is_exact_on_the_rows_that_set_the_threshold():
    score = scores.diff_prob(TRAIN, l2=0.1)
    at = posthoc.measure(score, TEST, (0.1, 0.5))
    moved = posthoc.transferred(score, TEST, TEST, (0.1, 0.5))
    for rate in (0.1, 0.5):
        assert value(moved, "got", rate) == pytest.approx(rate)
        assert value(moved, "transferred", rate) == pytest.approx(value(at, "accuracy", rate))


def test_study_and_its_tables():
    keys, frames = ("confidence", "diff_01", "dr_cpe_joint"), []
    for seed in (0, 1):
        rows = np.random.default_rng(seed).permutation(400)
        records = posthoc.study(grid(*keys), ROWS.at(rows[:250]), ROWS.at(rows[250:]), TEST)
        frames.append(results.tidy(records, setting="made up", seed=seed))
    frame = results.joined(frames)
    curves = posthoc.curve_table(frame)
    assert set(curves["method"]) == {*keys, "oracle"} and len(curves) == 4 * 21
    ends = curves[curves["x"].isin([0, 1])].groupby("x")["y"]
    assert (ends.max() - ends.min() < 1e-12).all()
    np.testing.assert_allclose(1 - TEST.costs.mean(axis=0), ends.mean())
    agents = frame[(frame["method"] == "best_single") & (frame["seed"] == 0)].set_index("agent")["value"]
    np.testing.assert_allclose(agents[["model", "expert"]].astype(float), ends.mean())
    assert agents[""] in agents[["model", "expert"]].tolist()
    off = posthoc.transfer_table(frame)
    assert set(off["asked"]) == {0.2} and np.allclose(off["off"], off["got"] - 0.2) and len(off) == 6
    table = posthoc.ranks(frame, keys[:2], keys[2:])
    assert sorted(table["made up"]) == [1, 2, 3] and table["worst"].is_monotonic_increasing
    versus = posthoc.against_best(frame, ["dr_cpe_joint", "diff_01"], ["confidence", "diff_01"])
    assert (versus["rival"] == "diff_01").all() and versus.loc[1, "mean"] == 0 and not versus.loc[1, "decided"]
    assert (versus["decided"] == ((versus["low"] > 0) | (versus["high"] < 0))).all()
    with pytest.raises(ValueError, match="every method in every setting"):
        posthoc.ranks(frame, keys, ["entropy_of_the_third_kind"])
    with pytest.raises(ValueError, match="no test rows of curve"):
        posthoc.curve_table(frame.assign(split="validation"))


def test_tables_are_the_same_from_a_stored_study(tmp_path, monkeypatch):
    """A column with empty entries is text in a file: 0.2 must not become "0.2", nor the rate an agent."""
    monkeypatch.delenv("L2D_OUT", raising=False)
    records = posthoc.study(grid("confidence", "diff_01"), TRAIN, VALIDATION, TEST)
    frame = results.joined(results.tidy(records, setting="made up", seed=seed) for seed in (0, 1))
    results.save_table(frame, "study", tmp_path)
    back = results.stored("study", tmp_path, tmp_path)
    for of in (posthoc.curve_table, posthoc.transfer_table):
        pd.testing.assert_frame_equal(of(back), of(frame), check_dtype=False, rtol=1e-5, atol=1e-5)


def test_each_setting_holds_the_one_that_the_study_chose():
    rows = np.random.default_rng(0).permutation(400)
    parts = ROWS.at(rows[:250]), ROWS.at(rows[250:]), TEST
    tried = grid("dr_cpe_joint", temperatures=(1.0, 0.3), ridges=(0.01, 0.1))
    frame = results.tidy(posthoc.study(tried, *parts))
    frame = frame[frame["method"] == "dr_cpe_joint"]
    chosen = frame[frame["metric"] == "chosen"].set_index("parameter")["value"]
    every = results.tidy(posthoc.each_setting(tried, *parts))
    every = every.pivot(index=["temperature", "ridge"], columns="metric", values="value")
    assert len(every) == 4
    assert every["mean_accuracy"].idxmax() == (chosen["temperature"], chosen["l2"])
    closed = frame[frame["metric"] == "gap_closed"]["value"]
    assert every["gap_closed"][chosen["temperature"], chosen["l2"]] == closed.item()


def test_the_member_is_chosen_on_validation_and_not_on_test():
    means = {("a", 0): (0.8, 0.1), ("b", 0): (0.7, 0.9), ("a", 1): (0.7, 0.2), ("b", 1): (0.75, 0.3)}
    rows = [
        {"setting": "x", "seed": seed, "method": method, "split": split, "metric": metric, "value": value}
        for (method, seed), pair in means.items()
        for (split, metric), value in zip(
            (("validation", "mean_accuracy"), ("test", "gap_closed")), pair, strict=True
        )
    ]  # fmt: skip
    frame = posthoc.chosen_member(pd.DataFrame(rows), ["a", "b"], "family")
    mine = frame[(frame["method"] == "family") & (frame["split"] == "test")].set_index("seed")["value"]
    assert mine.to_dict() == {0: 0.1, 1: 0.3} and len(frame) == 12


def test_relatives_do_not_push_each_other_down():
    shares = {"old": 0.5, "a": 0.7, "b": 0.6, "c": 0.4}
    rows = [
        {"split": "test", "metric": "gap_closed", "setting": "x", "seed": 0, "method": m, "value": v}
        for m, v in shares.items()
    ]
    table = posthoc.ranks(pd.DataFrame(rows), ["old"], ["a", "b", "c"]).set_index("method")
    assert table["worst"].to_dict() == {"old": 2, "a": 1, "b": 1, "c": 2}
