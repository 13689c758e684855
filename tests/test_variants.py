"""Variants of the training data: what is kept, what is altered, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from l2d_utils import agents, variants
from l2d_utils.data import ImageData

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
    assert len(variants.record(a)) == len(a.base.rows) + len(a.expert.rows)


@given(share=st.floats(0.1, 1.0), seed=st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_thinning_keeps_true_labels_and_exact_counts(share, seed):
    rows = np.arange(400)
    part = variants.thinned(LABELS, rows, 10, whole=(0, 1), share=share, random_state=seed)
    np.testing.assert_array_equal(part.labels, LABELS[part.rows])
    np.testing.assert_array_equal(counts(part), [40] * 2 + [round(share * 40)] * 8)


def test_noise_touches_only_its_classes_and_is_uniform():
    labels = np.repeat(np.arange(10), 2000)
    part = variants.noisy(labels, np.arange(len(labels)), 10, classes=(0, 1, 2), random_state=0)
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
        (lambda: variants.thinned(LABELS, ROWS, 10, whole=(0,), share=0.01, random_state=0), "class 1 would be left"),
        (lambda: variants.thinned(LABELS, ROWS, 10, whole=(0,), share=0.0, random_state=0), "share must be in"),
        (lambda: variants.thinned(LABELS, ROWS, 10, whole=(11,), share=0.5, random_state=0), "whole must hold classes"),
        (lambda: variants.noisy(LABELS, ROWS, 10, classes=(), random_state=0), "classes must hold classes"),
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
    labels = np.arange(3)
    for seed in range(20):  # three uniform draws rarely hit all three classes
        try:
            variants.noisy(labels, np.arange(3), 3, classes=(0, 1, 2), random_state=seed)
        except ValueError as error:
            assert "would be left with no rows after label noise" in str(error)
            return
    raise AssertionError("no seed emptied a class")


def test_homes_name_classes_once():
    for name, size in (("cifar10", 4), ("cifar100", 25), ("dermamnist", 2)):
        assert len(set(variants.HOMES[name])) == len(variants.HOMES[name]) == size


def toy_images():
    labels = np.repeat(np.arange(2), 30)
    images = np.random.default_rng(0).integers(0, 120, (60, 4, 4, 1)).astype(np.uint8)
    images[labels == 1] += 130
    return ImageData(images, labels, None, ("dark", "bright"), "toy", "made up", "0")


def toy_net(n_outputs, mean, std):
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3), torch.nn.ReLU())
    return agents.ImageClassifier(body, 3, n_outputs, mean, std)


def test_agent_outputs_learn_the_labels_given_and_are_cached(tmp_path):
    data, out = toy_images(), np.arange(50, 60)
    given = variants.clean(data.labels, np.arange(50), 2)
    settings = {"epochs": 10, "batch_size": 10, "lr": 0.05, "dtype": torch.float64}
    calls = []

    def network(**arguments):
        calls.append(1)
        return toy_net(**arguments)

    run = {"network": network, "random_state": 0, **settings}
    first = variants.agent_outputs(data, given, out, cache=tmp_path, **run)
    assert (first["logits"].argmax(axis=1) == data.labels[out]).all()
    assert first["features"].shape == (10, 3) and first["logits"].dtype == np.float64
    again = variants.agent_outputs(data, given, out, cache=tmp_path, **run)
    free = variants.agent_outputs(data, given, out, **run)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        np.testing.assert_array_equal(first[name], free[name])
    flipped = variants.TrainingSet(given.rows, 1 - given.labels)
    wrong = variants.agent_outputs(data, flipped, out, cache=tmp_path, **run)
    assert (wrong["logits"].argmax(axis=1) != data.labels[out]).all()
    assert len(list(tmp_path.glob("*.npz"))) == 2
