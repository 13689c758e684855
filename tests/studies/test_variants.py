"""Variants of the training data: what is kept, what is altered, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from l2d_utils import agents, posthoc, variants
from l2d_utils.data import HumanLabels, ImageData, load_images

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


def test_rows_are_disjoint_and_people_stand_beside_their_images(tmp_path):
    labels = np.tile(np.arange(2), 60)
    test = np.arange(120) >= 100
    images = np.random.default_rng(1).integers(0, 120, (120, 4, 4, 1)).astype(np.uint8)
    images[labels == 1] += 130
    data = ImageData(images, labels, test, ("dark", "bright"), "toy", "made up", "1")
    rows = variants.divide(data, agent_rows=30, pool=40, random_state=0)
    everything = np.concatenate(rows)
    np.testing.assert_array_equal(np.sort(everything), np.arange(120))
    assert [len(part) for part in rows] == [30, 40, 20, 30]

    pair = variants.variant("clean", labels, rows.agents, 2)
    settings = {"batch_size": 10, "lr": 0.05, "dtype": torch.float64}
    agent = {"network": toy_net, "epochs": 5}
    model, expert = variants.pair_outputs(data, pair, rows, base=agent, expert=agent, random_state=0, **settings)
    assert len(model["logits"]) == 90 and len(expert["logits"]) == 60
    np.testing.assert_allclose(model["logits"][:60], expert["logits"])  # same net, same rows, same seed

    answers = np.stack([labels[:100], 1 - labels[:100], labels[:100]], axis=1)
    sample, errors = variants.people(data, HumanLabels(answers, labels[:100], "made up", "2"), rows, model)
    assert len(sample.labels) == 70 and errors.shape == (70, 5)
    np.testing.assert_array_equal(errors[:, 1:], np.tile([0, 1, 0, 0], (70, 1)))
    np.testing.assert_array_equal(errors[:, :2], sample.costs)

    study = {"score_rows": 40, "methods": ("confidence",), "temperatures": (1.0,), "ridges": (1.0,), "rates": (0.5,)}
    noisy = sample._replace(expert=sample.expert[np.random.default_rng(0).permutation(70)])
    said = []
    for _ in range(2):
        frame = variants.score_study(noisy, noisy, (0, 1), tmp_path, {"data": "toy"}, say=said.append, **study)
    assert len(said) == 2 and set(frame["seed"]) == {0, 1}  # the second time everything is remembered


def test_the_whole_study_runs_resumes_and_is_written_down(tmp_path, monkeypatch):
    monkeypatch.delenv("L2D_OUT", raising=False)
    rng = np.random.default_rng(2)
    labels = np.tile(np.arange(4), 100)
    images = rng.integers(0, 60, (400, 4, 4, 1)).astype(np.uint8)
    images[..., 0] += (50 * labels[:, None, None] + rng.integers(0, 30, (400, 1, 1))).astype(np.uint8)
    data = ImageData(images, labels, np.arange(400) >= 320, tuple("abcd"), "toy4", "made up", "4")
    net = {"network": toy_net, "epochs": 2}
    plan = {
        "agent_rows": 120, "pool": 120, "base": net, "learn": {"batch_size": 20, "lr": 0.02, "dtype": torch.float64},
        "score_rows": 60, "methods": ("confidence", "diff_01"), "temperatures": (1.0,), "ridges": (0.1,),
        "rates": (0.5,), "say": lambda text: None,
    }  # fmt: skip
    arguments = {"home": (0, 1), "expert": {"network": toy_net, "epochs": 12}, **plan}
    frame = variants.image_study(data, ("specialist", "clean"), (0, 1), tmp_path, **arguments)
    again = variants.image_study(data, ("specialist", "clean"), (0, 1), tmp_path, **arguments)
    pd.testing.assert_frame_equal(frame, again)
    assert set(frame["setting"]) == {"specialist", "clean"} and set(frame["seed"]) == {0, 1}

    closer = {k: v for k, v in arguments.items() if k != "rates"} | {"methods": ["diff_01"]}
    closer = variants.image_study(data, ("clean",), (0,), tmp_path, records=posthoc.each_setting, **closer)
    assert closer["study"].str.startswith("ridge=").all() and set(closer["metric"]) == {"area", "gap_closed"}

    people = HumanLabels(np.tile(labels[:320, None], 3), labels[:320], "made up", "5")
    crowd = variants.people_study(data, people, (0, 1), tmp_path, test_rows=80, prices=(0.0, 0.1), **plan)
    assert set(crowd["study"]) == {"one person", "prices", "accuracy"}
    human = crowd[(crowd["method"] == "human 2") & (crowd["metric"] == "accuracy")]
    assert human["value"].tolist() == [1.0]
    variants.save_people(data, people, crowd, "crowd", tmp_path, notebook="07", test_rows=80)
    made = pd.read_csv(tmp_path / "crowd_provenance.csv").set_index("what")["value"]
    assert made["people sha256"] == "5" and made["test_rows"] == "80" and made["seeds"] == "[0, 1]"
    assert len(pd.read_csv(tmp_path / "crowd.csv")) == (~crowd["metric"].str.startswith("curve/")).sum()

    variants.HOMES["toy4"] = (0, 1)
    try:
        variants.save_study(data, frame, "x", tmp_path, notebook="07", study="full", agent_rows=120, pool=120, lam=1)
    finally:
        del variants.HOMES["toy4"]
    written = pd.read_csv(tmp_path / "x_rows.csv")
    assert len(written) == 120 and "specialist/expert" in written
    assert "package source sha256" in pd.read_csv(tmp_path / "x_provenance.csv")["what"].tolist()
    assert not pd.read_csv(tmp_path / "x_variants.csv")["metric"].str.startswith("curve/").any()


def test_prices_move_one_router_from_people_to_the_model():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((1200, 2))
    wrong = 1 / (1 + np.exp(-3 * X[:, 0]))  # the model errs where the first feature is large
    errors = np.zeros((1200, 5))
    errors[:, 0] = rng.random(1200) < wrong
    errors[:, 1:4] = rng.random((1200, 3)) < 0.15
    errors[:, 4] = rng.random(1200) < 0.05
    labels, rows = rng.integers(0, 2, 1200), np.arange(1200)
    honest = np.column_stack([1 - wrong, np.tile(wrong[:, None] / 9, 9)])  # confidence tells the truth
    sample = posthoc.Sample(X, honest, honest, labels)
    records = variants.ask_people(sample, errors, rows[:500], rows[500:800], rows[800:], (0.0, 0.1, 2.0))
    frame = pd.DataFrame(records).pivot(index="setting", columns=["method", "metric"], values="value")
    for method in ("dr_cpe_marginal", "plug_in", "two_stage", "global_temperature", "confidence"):
        asked = frame[method]["questions"]
        assert asked["0"] > asked["0.1"] > asked["2"] == 0, method
        shares = frame[method][[f"share/{k}" for k in (1, 2, 3)]]
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        np.testing.assert_allclose(shares @ variants.QUESTIONS, asked)
        for price in ("0.1", "2"):
            assert frame[method]["deferral_loss"][price] <= frame["best_single"]["deferral_loss"][price] + 1e-12
        assert (frame["oracle"]["deferral_loss"] <= frame[method]["deferral_loss"] + 1e-12).all()
    for name, column, questions in (("one_person", 1, 1), ("three_people", 4, 3)):
        np.testing.assert_allclose(frame[name]["accuracy"], 1 - errors[800:, column].mean())
        np.testing.assert_allclose(frame[name]["questions"], questions)
    # with λ and the price in one unit, both routers estimate the same expected costs
    assert abs(frame["plug_in"]["questions"]["0.1"] - frame["dr_cpe_marginal"]["questions"]["0.1"]) < 0.15
    with pytest.raises(ValueError, match="price must be"):
        variants.action_costs(errors, -0.1)


def test_medmnist_files_go_through_the_same_code(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    labels = np.tile(np.arange(3), 80)
    images = (60 * labels[:, None, None] + rng.integers(0, 60, (240, 8, 8))).astype(np.uint8)
    parts = {"train": slice(0, 150), "val": slice(150, 180), "test": slice(180, 240)}
    arrays = {f"{p}_images": images[s] for p, s in parts.items()} | {f"{p}_labels": labels[s] for p, s in parts.items()}
    np.savez(tmp_path / "graymnist.npz", **arrays)
    monkeypatch.setenv("L2D_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("L2D_OUT", raising=False)
    plan = variants.full_plan(load_images("graymnist"), epochs=1)
    assert plan["agent_rows"] == plan["pool"] == 60 and plan["score_rows"] == 40
    quick = {"methods": ("confidence", "diff_01"), "temperatures": (1.0,), "ridges": (0.1,), "rates": (0.5,)}
    frame = variants.image_study(
        load_images("graymnist"), ("clean",), (0, 1), tmp_path, home=(), say=lambda text: None, **plan, **quick
    )
    assert set(frame["data"]) == {"graymnist"} and frame["value"].notna().all()
