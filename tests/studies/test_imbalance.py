"""MILD's image study: the experts are what they claim, features are held out, a long study goes on where it stopped
and never takes up what other data, losses or settings made."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from l2d_utils import losses, methods, training
from l2d_utils.data import ImageData
from l2d_utils.studies import imbalance, tables

ROOT = Path(__file__).resolve().parents[2]

LABELS = np.repeat(np.arange(10), 60)


def test_experts_are_right_at_home_and_guess_elsewhere():
    costs, expected = imbalance.imbalanced_experts(
        np.repeat(LABELS, 50), imbalance.imbalance("70/20/10", accuracy=0.9), 10, random_state=0
    )
    np.testing.assert_allclose(np.unique(expected.round(12)), [0.1, 0.9])
    assert (expected[:, 0] < 0.5).mean() == 0.7
    for k in range(3):
        at_home = expected[:, k] < 0.5
        assert abs(costs[at_home, k].mean() - 0.1) < 0.02
        assert abs(costs[~at_home, k].mean() - 0.9) < 0.02
    others = imbalance.imbalanced_experts(np.repeat(LABELS, 50), imbalance.imbalance("70/20/10"), 10, random_state=1)[0]
    assert not np.array_equal(costs[:, 2], others[:, 2])


def test_generalist_is_right_everywhere_with_the_same_probability():
    _, expected = imbalance.imbalanced_experts(LABELS, imbalance.imbalance("generalist"), 10, random_state=0)
    np.testing.assert_allclose(expected[:, 0], 0.2)
    np.testing.assert_allclose(np.bincount(expected.argmin(axis=1)) / len(LABELS), [0.7, 0.2, 0.1])


def test_population_rows_have_the_shares_and_stay_inside():
    setting, rows = imbalance.imbalance("90/8/2"), np.arange(0, len(LABELS), 2)
    drawn = imbalance.population_rows(LABELS, rows, setting, size=100, random_state=0)
    assert len(np.unique(drawn)) == 100 and np.isin(drawn, rows).all()
    counts = np.bincount(LABELS[drawn], minlength=10)
    assert (counts[:7].sum(), counts[7:9].sum(), counts[9]) == (90, 8, 2)
    largest = imbalance.population_rows(LABELS, rows, setting, random_state=0)
    assert len(largest) == int(min(210 / 0.9, 60 / 0.08, 30 / 0.02))
    with pytest.raises(ValueError, match="size"):
        imbalance.population_rows(LABELS, rows, setting, size=250, random_state=0)


def toy_images(n=400):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 10
    pixels = (labels[:, None, None, None] * 20 + rng.integers(0, 30, (n, 28, 28, 1))).astype(np.uint8)
    return ImageData(pixels, labels, None, tuple("0123456789"), "toy", "made up", "0" * 64)


#: Arguments of `image_features` for the toy.
BASE = {"base_rows": 100, "pool": 120, "validation": 60, "test": 60, "network": "LeNet", "epochs": 1}
CONTROLS = ["best_single", "random", "label_oracle", "oracle"]
FEATURES = {
    "methods": ["two_stage", "mild", "two_stage_shares", "classify_then_route", *CONTROLS],
    "seeds": [0, 2], "experts": "70/20/10", "n": 100, "base": BASE,
}  # fmt: skip
PIXELS = {
    "methods": ["two_stage", "mild", "global_temperature", "two_stage_offsets", "two_stage_power_offsets", *CONTROLS],
    "seeds": [0, 2], "experts": "70/20/10", "n": 60, "validation": 60, "test": 60, "network": "LeNet", "epochs": 1,
}  # fmt: skip


@pytest.fixture
def made(monkeypatch):
    """What is trained or tuned anew, in order: "classifier" (100 images), "router" (60 images), "features"."""
    seen = []
    train, tune = training.train, imbalance.tune_and_measure

    def noted_train(module, images, *args, **kwargs):
        seen.append({100: "classifier", 60: "router"}[len(images)])
        return train(module, images, *args, **kwargs)

    def noted_tune(*args, **kwargs):
        seen.append("features")
        return tune(*args, **kwargs)

    monkeypatch.setattr(training, "train", noted_train)
    monkeypatch.setattr(imbalance, "tune_and_measure", noted_tune)
    return seen


def test_features_never_come_from_the_router_rows_and_are_kept(tmp_path, made):
    X, split, accuracy = imbalance.image_features(toy_images(), random_state=0, folder=tmp_path, **BASE)
    used = np.concatenate([split.train, split.validation, split.test])
    assert len(np.unique(used)) == 240 and np.isfinite(X[used]).all()
    assert np.isnan(np.delete(X, used, axis=0)).all() and 0 <= accuracy <= 1
    again, _, same = imbalance.image_features(toy_images(), random_state=0, folder=tmp_path, **BASE)
    np.testing.assert_array_equal(again, X)
    assert same == accuracy and made == ["classifier"]
    fresh, _, _ = imbalance.image_features(toy_images(), random_state=0, **BASE)  # kept or not: the same features
    np.testing.assert_array_equal(fresh, X)
    with pytest.raises(ValueError, match="ResNet-9"):
        imbalance.image_features(toy_images(), random_state=0, **{**BASE, "network": "ResNet-9"})


def test_the_classifier_sees_no_image_of_the_routers(monkeypatch):
    seen, train = [], training.train
    monkeypatch.setattr(
        training, "train", lambda net, images, *a, **k: seen.extend(images) or train(net, images, *a, **k)
    )
    images = toy_images()
    _, split, _ = imbalance.image_features(images, random_state=0, **BASE)
    routers = {images.images[row].tobytes() for row in np.concatenate([split.train, split.validation, split.test])}
    assert len(seen) == 100 and not routers & {image.tobytes() for image in seen}


def test_a_study_pairs_its_seeds_and_says_how_good_its_features_are(tmp_path):
    found = imbalance.run(toy_images(), [FEATURES], tmp_path)
    assert set(found["setting"]) == {"70/20/10"} and set(found["n"]) == {100} and set(found["seed"]) == {0, 1}
    right = found[found["metric"] == "accuracy"]
    assert right["method"].tolist() == ["base", "base"] and right["value"].between(0, 1).all()
    losses = tables.differences(found, "two_stage").set_index("method")["mean"]
    assert losses["oracle"] <= losses["mild"] and losses["random"] > 0
    trained = found[found["split"] == "train"]
    assert set(trained["method"]) == {"two_stage", "mild", "two_stage_shares", "classify_then_route"}


def test_the_routers_of_the_capacity_study_get_one_ridge_and_fit_their_rows(tmp_path):
    part = {**FEATURES, "methods": ["two_stage", "mild", "two_stage_offsets"], "seeds": [0, 1], "study": "capacity"}
    parts = [{**part, "router": router} for router in ("linear, ridge", "64 hidden units, no ridge")]
    found = imbalance.run(toy_images(), parts, tmp_path)
    chosen = found[found["metric"] == "chosen"].pivot_table(index="setting", columns="parameter", values="value")
    assert chosen.loc["linear, ridge", "l2"] == pytest.approx(0.1 * 100 / 100)
    assert chosen.loc["64 hidden units, no ridge", "l2"] == 0
    fitted = found[(found["split"] == "train") & (found["method"] == "two_stage")].set_index("setting")["value"]
    assert fitted["64 hidden units, no ridge"] == 0 <= fitted["linear, ridge"]


def test_from_pixels_equal_margins_are_trained_once_and_offsets_are_not_trained_at_all(tmp_path, made):
    first = imbalance.run(toy_images(), [PIXELS], tmp_path)
    # a seed: three learning rates of two-stage; γ = 0 and ρ = 1 are the first of them, and two more of each are trained
    assert made == ["router"] * 14
    pd.testing.assert_frame_equal(imbalance.run(toy_images(), [PIXELS], tmp_path), first)
    assert len(made) == 14
    loss = tables.summary(first).set_index("method")["mean"]
    assert loss["oracle"] == 0 and set(CONTROLS) <= set(loss.index)
    held = first[first["split"] == "validation"].pivot_table(index="method", columns="metric", values="value")
    assert held.loc["two_stage_power_offsets", "deferral_loss"] <= held.loc["two_stage", "deferral_loss"]


def test_pixel_settings_hold_both_signs_of_gamma_and_begin_with_two_stage():
    gammas = [setting["loss_params"]["gamma"] for setting in imbalance.pixel_settings("mild")]
    assert gammas[0] == 0 and min(gammas) < 0 < max(gammas)
    for key in ("two_stage", "one_vs_all", "mild", "global_temperature", "dr_cpe_joint", "logit_adjustment"):
        settings = imbalance.pixel_settings(key)
        assert len(settings) == 3
        for setting in settings:
            losses.PRESETS[key].build(np.eye(3), **setting["loss_params"])


def test_a_registered_loss_takes_part_in_both_studies(tmp_path, monkeypatch):
    monkeypatch.setitem(losses.PRESETS, "toy", dataclasses.replace(losses.PRESETS["two_stage"], build=_toy_loss))
    made = methods.Method("toy", "toy", "[ours]", "#123456", make=methods.partial(methods.DeferralRouter, "toy"))
    monkeypatch.setitem(methods.METHODS, "toy", made)
    parts = [
        {**FEATURES, "methods": ["toy", "two_stage"], "seeds": [0, 1]},
        {**PIXELS, "methods": ["toy"], "seeds": [0, 1]},
    ]
    found = imbalance.run(toy_images(), parts, tmp_path)
    assert set(found[found["method"] == "toy"]["study"]) == {"features", "pixels"}


def _toy_loss(costs):
    return losses.pair_loss(np.asarray(costs).max() - np.asarray(costs))


def _other(images, change):
    pixels, labels = images.images.copy(), images.labels.copy()
    if change == "pixel":
        pixels[0, 0, 0, 0] ^= 1
    return dataclasses.replace(images, images=pixels, labels=labels)


@pytest.mark.parametrize("change", ["pixel", "epochs", "home", "loss", "settings", "seed"])
def test_nothing_that_was_made_otherwise_is_taken_up(tmp_path, made, monkeypatch, change):
    """Same names, same folder: a pixel, the epochs, an expert's home, a loss's code, a grid or the seed changed."""
    parts = [
        {**FEATURES, "methods": ["two_stage"], "seeds": [0, 1]},
        {**PIXELS, "methods": ["two_stage"], "seeds": [0, 1]},
    ]
    images = toy_images()
    imbalance.run(images, parts, tmp_path)
    before = len(made)
    imbalance.run(images, parts, tmp_path)
    assert len(made) == before == 5  # a classifier, a tuning, three learning rates
    if change == "pixel":
        images = _other(images, change)
    elif change == "epochs":
        parts = [{**parts[0], "base": {**BASE, "epochs": 2}}, {**parts[1], "epochs": 2}]
    elif change == "home":
        other = dataclasses.replace(imbalance.imbalance("70/20/10"), homes=((0, 1), (2, 3), (4, 5, 6, 7, 8, 9)))
        monkeypatch.setattr(imbalance, "imbalance", lambda name: other)
    elif change == "loss":
        broken = dataclasses.replace(
            losses.PRESETS["two_stage"], build=lambda c: losses.pair_loss(np.asarray(c) + 0.01)
        )
        monkeypatch.setitem(losses.PRESETS, "two_stage", broken)
    elif change == "settings":
        other = dataclasses.replace(methods.find("two_stage"), settings=({"l2": 0.1}, {"l2": 0.2}))
        monkeypatch.setitem(methods.METHODS, "two_stage", other)
        monkeypatch.setattr(imbalance, "pixel_settings", lambda key: [{"loss_params": {}, "lr": 2e-3}] * 3)
    else:
        parts = [{**part, "seeds": [1, 2]} for part in parts]
    imbalance.run(images, parts, tmp_path)
    anew = made[before:]
    assert anew.count("router") == (1 if change == "settings" else 3)
    assert anew.count("features") == 1
    # the classifier saw nothing of the experts and of the routers' losses
    assert anew.count("classifier") == (change in ("pixel", "epochs", "seed"))


KILLED = """
import os, signal, sys
sys.path[:0] = [{tests!r}, {root!r}]
import test_imbalance as t
from l2d_utils import training
from l2d_utils.studies import imbalance

count = [0]
def strike(*args):
    count[0] += 1
    if count[0] == {epoch}:
        os.kill(os.getpid(), signal.SIGKILL)
training.progress_bar = lambda *args: strike
imbalance.run(t.toy_images(), {parts!r}, {folder!r})
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_study_goes_on_from_its_last_epoch_and_ends_the_same(tmp_path, made):
    parts = [{**FEATURES, "seeds": [0, 1]}, {**PIXELS, "methods": ["two_stage", "mild"], "seeds": [0, 1], "epochs": 2}]
    whole = imbalance.run(toy_images(), parts, tmp_path / "whole")
    all_of_it = len(made)
    # epoch 1 is the classifier's, 2 and 3 those of the first router from pixels; it is killed in the second router
    code = KILLED.format(tests=str(Path(__file__).parent), root=str(ROOT), epoch=4, parts=parts,
                         folder=str(tmp_path / "killed"))  # fmt: skip
    ended = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert list((tmp_path / "killed").glob("*.unfinished")), "the second router left no state behind"
    made.clear()
    again = imbalance.run(toy_images(), parts, tmp_path / "killed")
    pd.testing.assert_frame_equal(again, whole)
    assert len(made) == all_of_it - 3  # features, their part and the first router were there
    assert not list((tmp_path / "killed").glob("*.unfinished"))
