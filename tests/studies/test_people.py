"""Deferral to people: their answers beside the right images, and routers that move with the price of a question."""

import numpy as np
import pandas as pd
import pytest
import torch

from l2d_utils import agents, methods
from l2d_utils.data import HumanLabels, ImageData, Split
from l2d_utils.scores import Sample
from l2d_utils.studies import people, posthoc, variants


def toy_images():
    labels = np.tile(np.arange(2), 100)
    images = np.random.default_rng(1).integers(0, 120, (200, 4, 4, 1)).astype(np.uint8)
    images[labels == 1] += 130
    test = np.arange(200) % 5 == 4  # between the training images, whose order the people's labels follow
    return ImageData(images, labels, test, ("dark", "bright"), "toy", "made up", "1")


def toy_net(n_outputs, mean, std):
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3), torch.nn.ReLU())
    return agents.ImageClassifier(body, 3, n_outputs, mean, std)


DATA = toy_images()
AGENT = variants.Agent(toy_net, epochs=1, batch_size=10, lr=0.005, dtype=torch.float64)
PLAN = variants.Plan(30, 60, 40, AGENT, AGENT, posthoc.Grid(("confidence",), (1.0,), (1.0,), (0.5,)))
TRUE = DATA.labels[~DATA.test]
FIRST = np.where(np.arange(160) % 4, TRUE, 1 - TRUE)  # the first label is wrong on every fourth image
HUMANS = HumanLabels(np.stack([FIRST, 1 - TRUE, TRUE], axis=1), TRUE, "made up", "2")


def test_people_stand_beside_their_images():
    rows = variants.divide(DATA, PLAN)
    out = np.concatenate(rows[1:])
    right = np.where(DATA.labels[out] == 0, 3.0, -3.0)
    model = {"logits": np.column_stack([right, -right]), "features": DATA.images[out].reshape(len(out), -1)[:, :3]}
    sample, errors = people.answers(DATA, HUMANS, PLAN, model)
    kept = np.concatenate([rows.pool, rows.rest])
    np.testing.assert_array_equal(sample.labels, DATA.labels[kept])
    np.testing.assert_array_equal(sample.X[:, :3], DATA.images[kept].reshape(len(kept), -1)[:, :3])
    first_errs = (np.cumsum(~DATA.test) - 1)[kept] % 4 == 0
    always, never = np.ones(len(kept)), np.zeros(len(kept))
    np.testing.assert_array_equal(errors, np.column_stack([never, first_errs, always, never, never]))
    np.testing.assert_array_equal(errors[:, :2], sample.costs)


def toy_answers():
    """The model errs where the first feature is large; people err anywhere, three of them seldom."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((1200, 2))
    wrong = 1 / (1 + np.exp(-3 * X[:, 0]))
    errors = np.zeros((1200, 5))
    errors[:, 0] = rng.random(1200) < wrong
    errors[:, 1:4] = rng.random((1200, 3)) < 0.15
    errors[:, 4] = rng.random(1200) < 0.05
    labels = rng.integers(0, 2, 1200)
    honest = np.column_stack([1 - wrong, np.tile(wrong[:, None] / 9, 9)])  # confidence tells the truth
    return Sample(X, honest, honest, labels), errors, Split(*np.split(np.arange(1200), [500, 800]))


def test_prices_move_one_router_from_people_to_the_model():
    rows, errors, split = toy_answers()
    records = pd.DataFrame(people.ask_people(rows, errors, split, (0.0, 0.1, 2.0)))
    everywhere = records[records["label"].isna()]
    numbers = everywhere[everywhere["agent"].isna()].pivot(index="price", columns=["method", "metric"], values="value")
    shares = everywhere[everywhere["metric"] == "share"]
    shares = shares.pivot(index="price", columns=["method", "agent"], values="value")
    for method in (*people.ONCE, *people.ANEW, "confidence"):
        asked = numbers[method]["questions"]
        assert asked[0] > asked[0.1] > asked[2] == 0, method
        np.testing.assert_allclose(shares[method].sum(axis=1), 1)
        np.testing.assert_allclose(shares[method][[1, 2, 3]] @ people.QUESTIONS, asked)
        for price in (0.1, 2):
            at = numbers.loc[price]
            assert at[method, "deferral_loss"] <= at["best_single", "deferral_loss"] + 1e-12
        assert (numbers["oracle"]["deferral_loss"] <= numbers[method]["deferral_loss"] + 1e-12).all()
    for name, column, questions in (("one_person", 1, 1), ("three_people", 4, 3)):
        np.testing.assert_allclose(numbers[name]["accuracy"], 1 - errors[split.test, column].mean())
        np.testing.assert_allclose(numbers[name]["questions"], questions)
    # with λ and the price in one unit, both routers estimate the same expected costs
    assert abs(numbers["plug_in"]["questions"][0.1] - numbers["dr_cpe_marginal"]["questions"][0.1]) < 0.15
    # the shares of the classes put together are the share of all
    mine = records[
        (records["method"] == "dr_cpe_marginal") & (records["metric"] == "share") & (records["price"] == 0.1)
    ]
    by_class = mine[mine["label"].notna()].pivot(index="agent", columns="label", values="value")
    weights = np.bincount(rows.labels[split.test]) / len(split.test)
    np.testing.assert_allclose(by_class @ weights, mine[mine["label"].isna()].set_index("agent")["value"])


def test_a_price_below_zero_is_refused():
    with pytest.raises(ValueError, match="price must be"):
        people.action_costs(np.zeros((2, 5)), -0.1)


@pytest.mark.parametrize("key", people.ONCE)
def test_the_router_that_is_moved_is_the_best_on_average_over_the_prices(key):
    rows, errors, split = toy_answers()
    prices, held = (0.02, 0.2), split.validation
    on_held = Split(split.train, held, held)
    taken = []
    for setting in people.ONCE[key]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(people.ONCE, key, (setting,))
            records = pd.DataFrame(people.ask_people(rows, errors, on_held, prices))
        mine = records[(records["method"] == key) & (records["metric"] == "deferral_loss")]
        taken.append(mine["value"].mean())
    records = pd.DataFrame(people.ask_people(rows, errors, on_held, prices))
    mine = records[(records["method"] == key) & (records["metric"] == "deferral_loss")]
    assert mine["value"].mean() == pytest.approx(min(taken), abs=1e-12)


def test_the_study_is_kept_and_other_answers_are_another_study(tmp_path):
    def study(folder, humans=HUMANS, prices=(0.0, 0.1)):
        return people.people_study(
            DATA, humans, PLAN, (0, 1), folder, test_rows=30, prices=prices, say=None
        )  # fmt: skip

    crowd = study(tmp_path / "one")
    assert set(crowd["study"]) == {"one person", "prices", "accuracy"} and set(crowd["data"]) == {"toy"}
    human = crowd[(crowd["method"] == "human 2") & (crowd["metric"] == "accuracy")]
    assert human["value"].tolist() == [0.0] * 3  # all, and two classes
    pd.testing.assert_frame_equal(crowd, study(tmp_path / "one"))
    for change in ({"humans": HUMANS._replace(labels=HUMANS.labels[:, [2, 1, 0]])}, {"prices": (0.0, 0.3)}):
        other = study(tmp_path / "one", **change)
        pd.testing.assert_frame_equal(other, study(tmp_path / "fresh", **change))
        with pytest.raises(AssertionError):
            pd.testing.assert_frame_equal(other, crowd)


def test_the_settings_are_settings_of_the_methods():
    for key, settings in {**people.ONCE, **people.ANEW}.items():
        assert len(settings) == 4
        for setting in settings:
            methods.find(key).make().set_params(**setting)
