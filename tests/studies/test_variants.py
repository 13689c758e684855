"""Variants of the training data: what is kept, what is altered, what is refused; and the study on images."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from l2d_utils import agents
from l2d_utils.data import ImageData, load_images
from l2d_utils.studies import posthoc, variants

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 40))
ROWS = np.arange(0, 400, 2)


def counts(part):
    return np.bincount(part.labels, minlength=10)


@pytest.mark.parametrize("name", variants.NAMES)
def test_every_variant_stays_inside_its_rows_and_repeats(name):
    a, b = (variants.variant(name, LABELS, ROWS, 10, home=(3, 4), random_state=1) for _ in range(2))
    for part, again in ((a.base, b.base), (a.expert, b.expert)):
        assert np.isin(part.rows, ROWS).all() and (np.diff(part.rows) > 0).all()
        np.testing.assert_array_equal(part.rows, again.rows)
        np.testing.assert_array_equal(part.labels, again.labels)
    table = variants.record([a]).set_index("row")
    for agent, part in (("base", a.base), ("expert", a.expert)):
        column = table[f"{name}/{agent}"]
        np.testing.assert_array_equal(column[part.rows], part.labels)
        assert (column >= 0).sum() == len(part.rows)


@given(home=st.sets(st.integers(0, 9)), seed=st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_thinning_keeps_true_labels_and_exact_counts(home, seed):
    part = variants.variant("specialist", LABELS, np.arange(400), 10, home=home, random_state=seed).expert
    np.testing.assert_array_equal(part.labels, LABELS[part.rows])
    np.testing.assert_array_equal(counts(part), [40 if c in home else 4 for c in range(10)])


def test_noise_touches_only_its_classes_and_is_uniform():
    labels = np.repeat(np.arange(10), 2000)
    part = variants.variant("label_noise", labels, np.arange(len(labels)), 10, random_state=0).base
    np.testing.assert_array_equal(part.labels[6000:], labels[6000:])
    share = np.bincount(part.labels[:6000], minlength=10) / 6000
    assert np.abs(share - 0.1).max() < 4.5 * np.sqrt(0.09 / 6000)


def test_named_variants_alter_whom_they_should():
    made = {n: variants.variant(n, LABELS, ROWS, 10, home=(3, 4, 5, 7)) for n in variants.NAMES}
    base = counts(made["clean"].base)
    np.testing.assert_array_equal(made["specialist"].base.labels, made["clean"].base.labels)
    home = np.isin(np.arange(10), (3, 4, 5, 7))
    np.testing.assert_array_equal(counts(made["specialist"].expert)[home], base[home])
    assert (counts(made["specialist"].expert)[~home] < base[~home] / 5).all()
    assert made["long_tail"].base is made["long_tail"].expert
    assert (counts(made["long_tail"].base)[5:] <= np.ceil(base[5:] / 10)).all()
    noise = made["label_noise"].base
    assert (noise.labels != LABELS[noise.rows])[np.isin(LABELS[noise.rows], (0, 1, 2))].mean() > 0.75
    np.testing.assert_array_equal(noise.rows, made["clean"].base.rows)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: variants.variant("dirty", LABELS, ROWS, 10), "name must be one of"),
        (lambda: variants.variant("specialist", LABELS, ROWS, 10), "home must name"),
        (lambda: variants.variant("specialist", LABELS, ROWS, 10, home=(0, 10)), r"home must name.*0\.\.9; found"),
        (
            lambda: variants.variant("long_tail", np.arange(9) % 3, np.arange(9), 3),
            "class 2 would be left with no rows",
        ),
        (lambda: variants.clean(LABELS, ROWS[LABELS[ROWS] != 4], 10), "class 4 has no row"),
        (lambda: variants.clean(LABELS, [0, 400], 10), "entry 1 is 400"),
        (lambda: variants.clean(LABELS, [0, 0], 10), "must not repeat"),
        (lambda: variants.clean(LABELS.astype(float), ROWS, 10), "labels must be integers"),
        (lambda: variants.clean(LABELS, ROWS, 5), r"classes in 0\.\.4"),
        (lambda: variants.clean(LABELS, np.array([]), 10), "rows must be at least one"),
    ],
)
def test_errors_name_what_was_found(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_noise_that_empties_a_class_is_refused():
    for seed in range(20):  # the one row of class 0 is drawn anew, and rarely hits class 0 again
        try:
            variants.variant("label_noise", np.arange(3), np.arange(3), 3, random_state=seed)
        except ValueError as error:
            assert "would be left with no rows after label noise" in str(error)
            return
    raise AssertionError("no seed emptied a class")


def test_homes_name_classes_once():
    for name, size in (("cifar10", 4), ("cifar100", 25), ("dermamnist", 2)):
        assert len(set(variants.HOMES[name])) == len(variants.HOMES[name]) == size


def toy_images(n_classes=4, n=400):
    rng = np.random.default_rng(2)
    labels = np.arange(n) % n_classes
    images = rng.integers(0, 60, (n, 4, 4, 1)).astype(np.uint8)
    images[..., 0] += (50 * labels[:, None, None] + rng.integers(0, 30, (n, 1, 1))).astype(np.uint8)
    names = tuple("abcdefghij"[:n_classes])
    return ImageData(images, labels, np.arange(n) >= n - 80, names, "toy", "made up", "4")


def toy_net(n_outputs, mean, std, width=3):
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, width), torch.nn.ReLU())
    return agents.ImageClassifier(body, width, n_outputs, mean, std)


AGENT = variants.Agent(toy_net, epochs=2, batch_size=20, lr=0.02, dtype=torch.float64)
GRID = posthoc.Grid(("confidence", "diff_01"), (1.0,), (0.1,), (0.5,))
PLAN = variants.Plan(120, 120, 60, base=AGENT, expert=replace(AGENT, epochs=12), grid=GRID, home=(0, 1))


def study(folder, names=("specialist",), seeds=(0, 1), plan=PLAN, data=None, **how):
    return variants.image_study(data or toy_images(), plan, names, seeds, folder, **{"say": None, **how})


def accuracies(frame):
    found = frame[(frame["method"] == "best_single") & (frame["agent"] != "") & (frame["seed"] == 0)]
    return found.set_index("agent")["value"].to_dict()


def test_agents_learn_the_labels_given_and_are_kept(tmp_path):
    data, rows, out = toy_images(2, 200), np.arange(100), np.arange(100, 160)
    given, agent = variants.clean(data.labels, rows, 2), replace(AGENT, epochs=10, lr=0.05)
    first = variants.agent_outputs(data, given, out, agent, 0, tmp_path)
    assert (first["logits"].argmax(axis=1) == data.labels[out]).all()
    assert first["features"].shape == (60, 3) and first["logits"].dtype == np.float64
    again = variants.agent_outputs(data, given, out, agent, 0, tmp_path)
    free = variants.agent_outputs(data, given, out, agent, 0)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        np.testing.assert_array_equal(first[name], free[name])
    flipped = given._replace(labels=1 - given.labels)
    wrong = variants.agent_outputs(data, flipped, out, agent, 0, tmp_path)
    assert (wrong["logits"].argmax(axis=1) != data.labels[out]).all()
    assert len(list(tmp_path.iterdir())) == 2  # and no unfinished training


def test_a_training_that_was_stopped_goes_on_from_its_last_epoch(tmp_path, monkeypatch):
    from l2d_utils import training

    data, given = toy_images(), variants.clean(toy_images().labels, np.arange(200), 4)
    whole = variants.agent_outputs(data, given, np.arange(200, 300), AGENT, 0, tmp_path / "whole")
    write, said = training._write_checkpoint, []

    def stop(path, *state):
        write(path, *state)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_write_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        variants.agent_outputs(data, given, np.arange(200, 300), AGENT, 0, tmp_path / "halves")
    monkeypatch.setattr(training, "_write_checkpoint", lambda *state: (said.append(1), write(*state)))
    halves = variants.agent_outputs(data, given, np.arange(200, 300), AGENT, 0, tmp_path / "halves")
    assert len(said) == 1  # one of the two epochs was done before
    np.testing.assert_array_equal(halves["logits"], whole["logits"])


def test_rows_are_disjoint_and_everything_is_somewhere():
    data = toy_images()
    rows = variants.divide(data, PLAN)
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(400))
    assert [len(part) for part in rows] == [120, 120, 80, 80]
    np.testing.assert_array_equal(rows.test, np.flatnonzero(data.test))


def test_the_whole_study_runs_and_resumes(tmp_path):
    data, names = toy_images(), ("specialist", "clean")
    said = []
    frame = study(tmp_path, names, say=said.append)
    made = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(said) == 4 and len(made) == 3 + 4  # each seed of each variant; the variants share their base model
    pd.testing.assert_frame_equal(frame, study(tmp_path, names, say=said.append))
    assert len(said) == 4 and made == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert set(frame["setting"]) == set(names) and set(frame["seed"]) == {0, 1}
    assert set(frame["data"]) == {data.name}

    closer = replace(PLAN, grid=GRID._replace(methods=("diff_01",), rates=()))
    closer = study(tmp_path, ("clean",), (0,), closer, records=posthoc.each_setting)
    assert set(closer["metric"]) == {"mean_accuracy", "gap_closed"} and (closer["ridge"] != "").all()


@pytest.mark.parametrize(
    "change",
    [
        {"expert": replace(AGENT, epochs=1)},
        {"home": (2, 3)},
        {"expert": replace(AGENT, epochs=12, lr=0.002)},
        {"expert": replace(AGENT, epochs=12, network=partial(toy_net, width=9))},
    ],
    ids=["epochs", "home", "lr", "network"],
)
def test_other_agents_in_the_same_folder_are_other_agents(tmp_path, change):
    """Once, a study asked for with other epochs and another home gave the old numbers again."""
    plan = replace(PLAN, **change)
    old, new = study(tmp_path / "one"), study(tmp_path / "one", plan=plan)
    pd.testing.assert_frame_equal(new, study(tmp_path / "fresh", plan=plan))
    assert old["value"].tolist() != new["value"].tolist()
    assert accuracies(old)["model"] == accuracies(new)["model"]


def test_other_images_under_the_same_name_are_another_study(tmp_path):
    data = toy_images()
    brighter = replace(data, images=(255 - data.images).astype(np.uint8))  # same name, same checksum
    study(tmp_path / "one")
    new = study(tmp_path / "one", data=brighter)
    pd.testing.assert_frame_equal(new, study(tmp_path / "fresh", data=brighter))


def test_another_grid_or_number_of_rows_is_another_study(tmp_path):
    study(tmp_path / "one")
    for plan in (replace(PLAN, score_rows=100), replace(PLAN, grid=GRID._replace(ridges=(10.0,)))):
        new = study(tmp_path / "one", plan=plan)
        pd.testing.assert_frame_equal(new, study(tmp_path / "fresh", plan=plan))


def test_medmnist_files_go_through_the_same_code(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    labels = np.tile(np.arange(3), 80)
    images = (60 * labels[:, None, None] + rng.integers(0, 60, (240, 8, 8))).astype(np.uint8)
    parts = {"train": slice(0, 150), "val": slice(150, 180), "test": slice(180, 240)}
    arrays = {f"{p}_images": images[s] for p, s in parts.items()} | {f"{p}_labels": labels[s] for p, s in parts.items()}
    np.savez(tmp_path / "graymnist.npz", **arrays)
    monkeypatch.setenv("L2D_DATA_DIR", str(tmp_path))
    data = load_images("graymnist")
    base, expert = (variants.Agent(partial(agents.ResNet, depth, channels=1), 1, 128, 5e-3) for depth in (8, 14))
    plan = variants.Plan(60, 60, 40, base, expert, GRID)
    frame = study(tmp_path / "parts", ("clean",), plan=plan, data=data)
    assert set(frame["data"]) == {"graymnist"} and frame["value"].notna().all()
