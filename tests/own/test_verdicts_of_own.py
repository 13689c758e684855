"""What the advice says: three outcomes, each true of the router that is delivered; noise counted by prompts."""

import numpy as np
import pandas as pd
import pytest
from made import table

from l2d_utils import own
from l2d_utils.metrics import interval
from l2d_utils.own import counting, intake

PLAIN = {"methods": ["plug_in"]}


def topics(n, rng, topic):
    """Prompts whose first word tells their topic, 0 or 1."""
    words = np.where(topic == 1, "Compose a novel", "Solve the equation")
    return [f"{w} {rng.choice(['moon', 'sea', 'wind', 'tree'])} {i}" for i, w in enumerate(words)]


def turned(n=400):
    """On held-out rows the topics' agents have changed places."""
    rng = np.random.default_rng(0)
    topic, test = rng.integers(2, size=n), np.arange(n) % 10 < 3
    a = np.where(test, 0.9, np.where(topic == 0, 1.0, 0.4))
    b = np.where(test, np.where(topic == 0, 0.9, 0.1), np.where(topic == 0, 0.1, 0.9))
    return pd.DataFrame({
        "prompt": topics(n, rng, topic), "split": np.where(test, "test", "train"),
        "score/a": (rng.random(n) < a).astype(float), "score/b": (rng.random(n) < b).astype(float),
    })  # fmt: skip


def test_a_router_that_loses_on_held_out_rows_is_not_advised_and_not_delivered(tmp_path):
    advice = own.advise(intake.read(turned()), **PLAIN)
    assert advice.choice.method != "best_single" and advice.gain.high < 0
    said = advice.verdict()
    assert advice.outcome == "do not" and said.startswith("Send everything to a.") and "lost" in said
    assert "Use" not in said and "noise" not in said
    folder = own.write(advice, tmp_path)
    assert set(own.load(folder).route(advice.case.prompts)) == {"a"}
    assert "Method: best single." in (folder / "card.md").read_text()
    assert advice.shares().set_index(["method", "agent"]).loc[("best_single", "a"), "share"] == 1.0


def test_folds_that_took_no_router_are_no_proof_of_one():
    advice = own.advise(intake.read(table(300, split=False)), **PLAIN)
    assert advice.outcome == "use" and advice.taken == (advice.choice.method,) * 5
    object.__setattr__(advice, "taken", ("best_single",) * 5)  # as in a table where the folds disagree with the whole
    object.__setattr__(advice, "routes", advice.single)
    assert advice.outcome == "not proven" and "0 of 5 folds took a router" in advice.verdict()
    method, router, sent = advice.delivered
    assert method == "best_single" and set(router.predict(own.features(advice.case))) == set(sent[:1])


def test_shares_bear_the_name_of_a_method_only_if_every_fold_took_it():
    advice = own.advise(intake.read(table(300, split=False)), **PLAIN)
    assert advice.shares()["method"].iloc[0] == advice.choice.method
    object.__setattr__(advice, "taken", ("knn", *advice.taken[1:]))
    assert advice.shares()["method"].iloc[0] == "chosen router"


def repeated(seed, prompts=60, times=10):
    """Prompts without any signal, each answered many times with its own chances."""
    rng = np.random.default_rng(seed)
    words = ["green", "house", "quick", "light", "table", "sea", "prime", "wind", "paper", "moon"]
    text = [" ".join(rng.choice(words, 6)) + f" {i}" for i in range(prompts)]
    chance, which = rng.random((prompts, 3)), np.repeat(np.arange(prompts), times)
    scores = (rng.random((len(which), 3)) < chance[which]).astype(float)
    return pd.DataFrame({"prompt": [text[i] for i in which]} | {f"score/m{k}": scores[:, k] for k in range(3)})


def test_repeated_prompts_without_signal_are_not_routed():
    outcomes = []
    for seed in range(20):
        case = intake.read(repeated(seed))
        outcomes.append(own.advise(case, methods=["plug_in", "knn"], folds=3).outcome)
    assert outcomes.count("use") <= 1


def test_intervals_count_prompts():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=50)
    alone = interval(draws)
    for times in (1, 4, 10):  # the same prompts again are no further evidence
        again = counting.by_prompt(np.repeat(draws, times), np.repeat(np.arange(50), times))
        assert again == pytest.approx(alone, rel=1e-9)
    assert counting.by_prompt(draws, np.arange(50)[::-1]) == alone


def test_prices_beyond_all_errors_end_at_one_agent():
    frame = table(60, split=False)
    for k, price in enumerate((1e-5, 1.3e-3, 2e-4)):
        frame[f"cost/a{k}"] = price * np.random.default_rng(k).uniform(0.2, 3, 60)
    advice = own.advise(intake.read(frame), 10_000.0, methods=["plug_in", "mild", "dr_cpe_joint"])
    assert advice.outcome == "do not" and advice.verdict().startswith("Send everything to a0")


@pytest.mark.parametrize("kind", ["prompts", "features"])
def test_the_lines_in_the_card_run_as_printed(kind, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("L2D_OUT", raising=False)
    frame = table()
    if kind == "features":
        frame = frame.drop(columns="prompt").assign(**{"feature/x": 0.5, "feature/y": np.arange(120.0)})
    folder = own.write(own.advise(intake.read(frame), **PLAIN), tmp_path / 'a "quoted" folder')
    exec((folder / "card.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0], {})
    assert capsys.readouterr().out.strip() in ("a0", "a1", "a2")


def test_prompts_behind_the_same_opening_stay_apart():
    frame = table()
    plain = own.advise(intake.read(frame), **PLAIN).worst()
    assert not plain["prompt"].str.startswith("…").any()
    frame["prompt"] = "Answer the question in one word, as in the examples above, please: " + frame["prompt"]
    shown = own.advise(intake.read(frame), **PLAIN).worst()["prompt"]
    assert shown.str[:40].nunique() == len(shown) and not shown.str.contains("examples").any()


@pytest.mark.filterwarnings("error")
def test_names_that_no_font_has_are_replaced_in_figures(tmp_path):
    case = intake.read(table().rename(columns=lambda c: c.replace("a1", "模型")))
    folder = own.write(own.advise(case, **PLAIN), tmp_path, own.price_curve(case))
    assert (folder / "frontier.png").is_file() and "模型" in (folder / "card.md").read_text(encoding="utf-8")
