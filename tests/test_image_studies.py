"""Image studies: the experts are what they claim, features are held out, long studies resume."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from l2d_utils import image_studies, studies
from l2d_utils.data import ImageData

LABELS = np.repeat(np.arange(10), 60)


def test_experts_are_right_at_home_and_guess_elsewhere():
    costs, expected = image_studies.imbalanced_experts(
        np.repeat(LABELS, 50), image_studies.imbalance("70/20/10", accuracy=0.9), 10, random_state=0
    )
    np.testing.assert_allclose(np.unique(expected.round(12)), [0.1, 0.9])
    assert (expected[:, 0] < 0.5).mean() == 0.7
    for k in range(3):
        at_home = expected[:, k] < 0.5
        assert abs(costs[at_home, k].mean() - 0.1) < 0.02
        assert abs(costs[~at_home, k].mean() - 0.9) < 0.02
    others = image_studies.imbalanced_experts(
        np.repeat(LABELS, 50), image_studies.imbalance("70/20/10"), 10, random_state=1
    )[0]
    assert not np.array_equal(costs[:, 2], others[:, 2])


def test_generalist_is_right_everywhere_with_the_same_probability():
    _, expected = image_studies.imbalanced_experts(LABELS, image_studies.imbalance("generalist"), 10, random_state=0)
    np.testing.assert_allclose(expected[:, 0], 0.2)
    np.testing.assert_allclose(np.bincount(expected.argmin(axis=1)) / len(LABELS), [0.7, 0.2, 0.1])


def test_population_rows_have_the_shares_and_stay_inside():
    setting, rows = image_studies.imbalance("90/8/2"), np.arange(0, len(LABELS), 2)
    drawn = image_studies.population_rows(LABELS, rows, setting, size=100, random_state=0)
    assert len(np.unique(drawn)) == 100 and np.isin(drawn, rows).all()
    counts = np.bincount(LABELS[drawn], minlength=10)
    assert (counts[:7].sum(), counts[7:9].sum(), counts[9]) == (90, 8, 2)
    largest = image_studies.population_rows(LABELS, rows, setting, random_state=0)
    assert len(largest) == int(min(210 / 0.9, 60 / 0.08, 30 / 0.02))
    with pytest.raises(ValueError, match="size"):
        image_studies.population_rows(LABELS, rows, setting, size=250, random_state=0)


def toy_images(n=400):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 10
    pixels = (labels[:, None, None, None] * 20 + rng.integers(0, 30, (n, 28, 28, 1))).astype(np.uint8)
    return ImageData(pixels, labels, None, tuple("0123456789"), "toy", "made up", "0" * 64)


def test_features_never_come_from_the_router_rows_and_are_cached(tmp_path):
    from l2d_utils.agents import LeNet

    settings = dict(base_rows=100, pool=100, validation=60, test=60, network=LeNet, epochs=1, cache=tmp_path)
    X, split, _ = image_studies.image_features(toy_images(), random_state=0, **settings)
    used = np.concatenate([split.train, split.validation, split.test])
    assert len(np.unique(used)) == 220 and np.isfinite(X[used]).all()
    assert np.isnan(np.delete(X, used, axis=0)).all()
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    np.testing.assert_array_equal(image_studies.image_features(toy_images(), random_state=0, **settings)[0], X)
    assert file.stat().st_mtime_ns == before
    image_studies.image_features(toy_images(), random_state=1, **settings)
    assert len(list(tmp_path.iterdir())) == 2


def test_pixel_study_resumes_and_trains_equal_margins_once(tmp_path):
    from l2d_utils.agents import LeNet

    said = []
    run = dict(
        methods=["two_stage", "mild", "global_temperature"], seeds=[0, 1], folder=tmp_path, setting="70/20/10", size=60,
        validation=60, test=60, network=LeNet, n_settings=1, epochs=1, say=said.append,
    )  # fmt: skip
    first = image_studies.pixel_study(toy_images(), **run)
    assert len(said) == 2  # one run a seed: gamma = 0 and rho = 1 are two-stage
    pd.testing.assert_frame_equal(image_studies.pixel_study(toy_images(), **run), first)
    assert len(said) == 2
    loss = studies.summary(first).set_index("method")["mean"]
    assert loss["mild"] == loss["two_stage"] == loss["global_temperature"]
    assert set(studies.CONTROLS) <= set(loss.index)


def test_image_and_capacity_studies_resume_and_pair_their_seeds(tmp_path):
    from l2d_utils.agents import LeNet

    said = []
    features = dict(base_rows=100, pool=120, validation=60, test=60, network=LeNet, epochs=1, cache=tmp_path / "cache")
    parts = [("70/20/10", 100, ["two_stage", "two_stage_shares", "through_labels", "best_single"])]
    first = image_studies.image_study(toy_images(), parts, [0, 1], tmp_path, say=said.append, **features)
    again = image_studies.image_study(toy_images(), parts, [0, 1], tmp_path, say=said.append, **features)
    pd.testing.assert_frame_equal(first, again)
    assert len(said) == 2 and set(first["setting"]) == {"70/20/10, n=100"}
    assert first.loc[first["metric"] == "accuracy", "value"].between(0, 1).all()
    image_studies.image_study(toy_images(), parts, [0], tmp_path, say=said.append, **{**features, "epochs": 2})
    assert len(said) == 3  # another base classifier is another study

    kinds = {name: image_studies.CAPACITIES[name] for name in ("linear, ridge", "linear, no ridge, 20 steps")}
    table = image_studies.capacity_study(
        toy_images(), "70/20/10", 100, [0, 1], tmp_path, kinds=kinds, say=said.append, **features
    )
    assert len(said) == 7 and set(table["setting"]) == set(kinds)
    for _, rows in table.groupby("setting"):
        loss = studies.differences(rows, "two_stage")
        assert set(loss["method"]) == {"mild", "global_temperature", "two_stage_offsets"}


def test_the_full_study_runs_every_part_for_cifar_and_two_settings_elsewhere(monkeypatch, tmp_path):
    ran = []

    def record(kind):
        return lambda *args, **kwargs: ran.append((kind, args[1:], kwargs)) or pd.DataFrame({"value": [0.0]})

    for kind in ("image_study", "capacity_study", "pixel_study"):
        monkeypatch.setattr(image_studies, kind, record(kind))
    images = toy_images()
    image_studies.full_study(images, 10, 3, tmp_path)
    assert [kind for kind, *_ in ran] == ["image_study"]
    assert [part[:2] for part in ran[0][1][0]] == [("70/20/10", 2000), ("generalist", 2000)]
    ran.clear()
    image_studies.full_study(dataclasses.replace(images, name="cifar10"), 10, 3, tmp_path)
    assert [kind for kind, *_ in ran] == ["image_study"] * 2 + ["capacity_study"] + ["pixel_study"] * 2
    parts, seeds, _ = ran[0][1]
    assert len(seeds) == 10
    assert set(image_studies.CORE) <= set(parts[0][2])
    again, fresh, _ = ran[1][1]
    assert set(p[:2] for p in again) <= set(p[:2] for p in parts) and len(fresh) == 10 and not {*fresh} & {*seeds}
    assert ran[1][2]["study"] == "fresh seeds"
    widths = [how["network"](n_outputs=3).head.in_features for *_, how in ran[3:]]
    assert widths == [84, 64]  # a LeNet and a ResNet-8
    for _, (methods, pixel_seeds, _), how in ran[3:]:
        assert list(pixel_seeds) == [0, 1, 2]
        assert all(len(image_studies.PIXEL_GRID[m]) == 3 for m in methods)
        assert how["network"](n_outputs=3).head.out_features == 3
