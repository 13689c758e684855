"""Bring your own experts: odd tables get one clear error or a counted repair, and the advice is honest."""

import contextlib
import io
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import table
from nbconvert.filters import markdown2html

from l2d_utils import losses, methods, metrics, own, routers, saving, text
from l2d_utils.costs import UselessAgent
from l2d_utils.data import DataError
from l2d_utils.own import intake

QUICK = {"methods": ["plug_in", "two_stage_offsets"], "folds": 3}


def found(case):
    return " | ".join(oddity.found for oddity in case.oddities)


# ---------------------------------------------------------------- malformed tables


def _cells(column, rows, value):
    def damage(frame):
        frame[column] = frame[column].astype(object)
        frame.loc[frame.index[: int(rows * len(frame)) or 1], column] = pd.Series(
            [value] * (int(rows * len(frame)) or 1), index=frame.index[: int(rows * len(frame)) or 1], dtype=object
        )
        return frame

    return damage


def _assign(**columns):
    return lambda frame: frame.assign(**{name.replace("__", "/"): value for name, value in columns.items()})


#: Ways to spoil a table: name → (damage, part of the error, or None where it is repaired and reported).
DAMAGES = {
    "no rows": (lambda f: f.iloc[:0], "no rows"),
    "few rows": (lambda f: f.iloc[:10], "40 are needed"),
    "no prompt": (lambda f: f.drop(columns="prompt"), "'prompt'"),
    "no scores": (lambda f: f.drop(columns=[c for c in f if c.startswith("score/")]), "score/<agent>"),
    "one agent": (lambda f: f.drop(columns=["score/a1", "score/a2"]), "at least two"),
    "nameless agent": (lambda f: f.rename(columns={"score/a1": "score/"}), "at least two"),
    "doubled column": (lambda f: pd.concat([f, f[["score/a1"]]], axis=1), "more than once"),
    "per cent": (lambda f: f.assign(**{"score/a1": 100 * f["score/a1"]}), "divide by"),
    "losses": (lambda f: f.assign(**{"score/a1": -f["score/a1"]}), "outside"),
    "all words": (_assign(score__a0="good", score__a1="bad"), "fewer than two agents"),
    "all infinite": (_assign(score__a0=np.inf, score__a1=-np.inf), "fewer than two agents"),
    "one cost missing": (lambda f: f.drop(columns="cost/a1"), "no costs"),
    "negative costs": (_assign(cost__a1=-1.0), "negative"),
    "empty costs": (_assign(cost__a1=None), "no price"),
    "labels without truth": (
        lambda f: f.rename(columns=lambda c: c.replace("score/", "label/")), "truth"),
    "empty prompts": (_assign(prompt=""), "40 are needed"),
    "dates for scores": (
        lambda f: f.assign(**{"score/a0": pd.Timestamp("2026-01-01"), "score/a1": pd.Timestamp("2026-01-02")}),
        "fewer than two agents"),
    "bad feature": (lambda f: f.assign(**{"feature/x": np.nan}), "finite number"),
    "missing score": (_cells("score/a1", 0.1, None), None),
    "text score": (_cells("score/a1", 0.0, "oops"), None),
    "list score": (_cells("score/a1", 0.0, [1, 2]), None),
    "dict score": (_cells("score/a1", 0.0, {"a": 1}), None),
    "infinite score": (_cells("score/a1", 0.0, np.inf), None),
    "score 1.7": (_cells("score/a1", 0.02, 1.7), None),
    "score -3": (_cells("score/a1", 0.02, -3), None),
    "absent agent": (_cells("score/a1", 0.8, None), None),
    "constant agent": (_assign(score__a1=0.5), None),
    "useless agent": (_assign(score__a1=0.0), None),
    "twin agents": (lambda f: f.assign(**{"score/a1": f["score/a0"]}), None),
    "missing cost": (_cells("cost/a1", 0.1, None), None),
    "free": (_assign(cost__a0=0.0, cost__a1=0.0, cost__a2=0), None),
    "stranger's cost": (_assign(cost__nobody=1.0), None),
    "no prompt in a row": (_cells("prompt", 0.0, None), None),
    "numeric prompt": (_cells("prompt", 0.0, 42), None),
    "bytes prompt": (_cells("prompt", 0.0, b"\xff\xfe"), None),
    "broken surrogate": (_cells("prompt", 0.0, "half \ud800 pair"), None),
    "leak": (lambda f: f.assign(prompt=[f["prompt"][3] if i == 4 else p for i, p in enumerate(f["prompt"])]), None),
    "one prompt": (_assign(prompt="the same"), "different prompts"),
    "no task": (_cells("task", 0.1, None), None),
    "unknown split": (_assign(split="fold-a"), None),
    "tiny hold-out": (lambda f: f.assign(split=["test"] * 3 + ["train"] * (len(f) - 3)), None),
    "missing split": (_cells("split", 0.02, None), None),
    "blanks in names": (lambda f: f.rename(columns={"prompt": " prompt "}).assign(task=None), None),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DAMAGES)
def test_malformed_tables_are_refused_or_repaired(name):
    damage, message = DAMAGES[name]
    frame = table()
    before = frame.copy(deep=True)
    spoiled = damage(frame.copy(deep=True))
    if message is None:
        case = intake.read(spoiled)
        assert case.oddities and all(o.found and o.done and o.count > 0 for o in case.oddities)
        assert np.nanmin(case.scores) >= 0 and np.nanmax(case.scores) <= 1
        assert case.complete.sum() >= intake.MIN_ROWS
    else:
        with pytest.raises(DataError, match=message) as caught:
            intake.read(spoiled)
        assert "\n" not in str(caught.value)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.filterwarnings("error")
@settings(max_examples=40)
@given(st.lists(st.sampled_from(sorted(DAMAGES)), min_size=2, max_size=4), st.sampled_from([".csv", ".parquet", ""]))
def test_no_damage_ends_in_a_traceback_from_elsewhere(tmp_path_factory, names, suffix):
    frame = table()
    for name in names:
        # a damage may need a column that an earlier one took away
        with contextlib.suppress(KeyError, TypeError, ValueError):
            frame = DAMAGES[name][0](frame.copy(deep=True))
    source = frame
    if suffix:
        source = tmp_path_factory.mktemp("odd") / f"table{suffix}"
        try:
            frame.to_csv(source, index=False) if suffix == ".csv" else frame.to_parquet(source)
        except Exception:  # the table cannot even be written
            return
    try:
        case = intake.read(source)
    except DataError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert case.oddities


@settings(max_examples=60)
@given(st.binary(max_size=300), st.sampled_from(["x.csv", "x.parquet", "x.txt"]))
def test_noise_is_no_table(tmp_path_factory, noise, name):
    path = tmp_path_factory.mktemp("noise") / name
    path.write_bytes(noise)
    with pytest.raises(DataError) as caught:
        intake.read(path)
    assert "\n" not in str(caught.value)


def test_files_give_the_case_of_the_frame(tmp_path):
    frame = table().mask(np.random.default_rng(0).random((120, 9)) < 0.03)
    frame["prompt"] = table()["prompt"]
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    cases = [intake.read(frame), intake.read(tmp_path / "t.csv"), intake.read(str(tmp_path / "t.parquet"))]
    for case in cases[1:]:
        np.testing.assert_allclose(case.scores, cases[0].scores, atol=1e-12)
        assert case.prompts == cases[0].prompts and case.oddities == cases[0].oddities
    with pytest.raises(FileNotFoundError, match="missing.csv"):
        intake.read(tmp_path / "missing.csv")


# ---------------------------------------------------------------- what is odd


def test_repairs_are_counted_one_by_one():
    frame = table()
    frame.loc[[0, 1, 2], "score/a0"] = np.nan
    frame.loc[5, "score/a2"] = 1 + 1e-9  # rounding, no oddity
    frame.loc[7, "prompt"] = ""
    case = intake.read(frame)
    counts = {o.found: o.count for o in case.oddities}
    assert counts == {"missing scores": 3, "rows without a prompt": 1}
    assert len(case.scores) == 119 and (~case.complete).sum() == 3
    assert np.nanmin(case.scores) >= 0


def test_leaks_leave_the_training_side_only():
    frame = table()
    frame.loc[1, "prompt"] = "  " + frame.loc[0, "prompt"].upper()  # row 0 is a test row
    case = intake.read(frame)
    assert case.test.sum() == 40 and len(case.scores) == 119
    assert "also stand outside it" in found(case)


@pytest.mark.parametrize("victim", [0, 2, 4])
def test_shuffled_rows_are_suspected(victim):
    frame = table(600, 5)
    assert "nothing to do" not in found(intake.read(frame))
    column = f"score/a{victim}"
    frame[column] = np.random.default_rng(1).permutation(frame[column])
    assert f"'a{victim}' have nothing to do" in found(intake.read(frame))
    assert found(intake.read(frame)).count("nothing to do") == 1


@pytest.mark.parametrize("rows", [slice(0, 90), slice(450, 600)])
def test_exchanged_columns_are_suspected(rows):
    frame = table(900)
    assert "changed places" not in found(intake.read(frame))
    pair = ["score/a0", "score/a1"]
    frame.loc[frame.index[rows], pair] = frame.loc[frame.index[rows], pair[::-1]].to_numpy()
    report = found(intake.read(frame))
    assert "changed places: 'a0' like 'a1', 'a1' like 'a0'" in report


def test_clean_tables_raise_no_suspicion():
    for seed in range(20):
        assert intake.read(table(300, 4, seed=seed)).oddities == ()
    assert intake.read("").oddities == ()


@given(st.integers(0, 10**6))
def test_filling_guesses_additive_scores_exactly(seed):
    """Where scores are agent + row effects and every agent's mean is known, the guess is the truth."""
    rng = np.random.default_rng(seed)
    agent, row = rng.uniform(0.3, 0.6, 4), rng.uniform(-0.2, 0.2, 30)
    truth = agent + (row - row[:20].mean())[:, None]
    scores = truth.copy()
    scores[20:, rng.integers(4)] = np.nan
    np.testing.assert_allclose(intake.filled(scores, np.arange(20)), truth, atol=1e-12)
    assert np.isnan(scores).any()


def test_three_ways_in_agree():
    rng = np.random.default_rng(0)
    X, truth = rng.normal(size=(80, 3)), rng.integers(4, size=80)
    labels = np.where(rng.random((80, 2)) < 0.7, truth[:, None], 9).astype(float)
    labels[3, 0] = np.nan
    by_labels = intake.from_labels(X, labels, truth)
    costs = np.where(np.isnan(labels), np.nan, labels != truth[:, None])
    frame = pd.DataFrame(X, columns=["feature/a", "feature/b", "feature/c"])
    frame = frame.assign(truth=truth.astype(str), **{f"label/agent {k}": labels[:, k - 1] for k in (1, 2)})
    for case in (intake.from_arrays(X, costs), intake.read(frame)):
        np.testing.assert_array_equal(case.scores, by_labels.scores)
        np.testing.assert_array_equal(case.features, X)
        assert case.agents == ("agent 1", "agent 2")
    with pytest.raises(ValueError, match="divide"):
        intake.from_arrays(X, 2 + costs)
    with pytest.raises(ValueError, match="same number of rows"):
        intake.from_arrays(X[:-1], costs)
    with pytest.raises(ValueError, match="row 1, column 2"):
        intake.from_arrays(np.where(np.arange(240).reshape(80, 3) == 5, np.nan, X), costs)


# ---------------------------------------------------------------- the advice


def test_groups_never_straddle_folds():
    group = np.random.default_rng(0).integers(40, size=200)
    fold = own.grouped_folds(group, 5, 1)
    assert all(len(set(fold[group == g])) == 1 for g in group)
    assert set(fold) == set(range(5))


def test_a_router_is_taken_where_there_is_something_to_learn():
    case = intake.read(table(400))
    advice = own.advise(case, 0.1, **QUICK)
    assert advice.choice.method != "best_single" and advice.gain.low > 0
    assert advice.outer == "the table's own hold-out"
    np.testing.assert_array_equal(advice.rows, np.flatnonzero(case.test))
    assert "Use the router" in advice.verdict()
    chosen = advice.tests.set_index("method").loc["chosen router"]
    assert chosen["loss"] == pytest.approx(metrics.deferral_loss(advice.costs, advice.routes))
    assert advice.shares()["share"].sum() == pytest.approx(2.0)
    assert advice.tasks()["prompts"].sum() == len(advice.rows)


def test_noise_falls_back_to_the_best_single_agent():
    """Scores that no prompt tells apart: of 20 tables at most a few may be routed."""
    taken = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        case = intake.from_arrays(rng.normal(size=(200, 8)), rng.random((200, 3)))
        choice = own.choose(case.features, 1 - case.scores, methods=["plug_in", "knn"], random_state=seed)
        taken += choice.method != "best_single"
        single = metrics.best_single(1 - case.scores)
        if choice.method == "best_single":
            assert (choice.router.predict(case.features) == single).all()
    assert taken <= 3


def test_held_out_scores_play_no_part_in_the_choice():
    frame = table(240)
    test = frame["split"] == "test"
    routers_ = []
    for scores in (frame, frame.assign(**{"score/a1": frame["score/a1"].where(~test, 0.123)})):
        advice = own.advise(intake.read(scores), 0.2, **QUICK)
        routers_.append((advice.choice.method, advice.choice.router.decision_function(np.eye(256)[:4])))
    assert routers_[0][0] == routers_[1][0]
    np.testing.assert_array_equal(routers_[0][1], routers_[1][1])


def test_outer_folds_test_every_complete_row_once():
    frame = table(150, split=False)
    frame.loc[:9, "score/a1"] = np.nan
    case = intake.read(frame)
    advice = own.advise(case, methods=["plug_in"], folds=3)
    assert sorted(advice.rows) == list(range(10, 150)) and advice.outer == "3 outer folds"


@pytest.mark.parametrize("price_weight", [0.0, 0.3])
def test_eleven_agents_missing_cells_and_dollars(price_weight):
    frame = table(200, 11, split=False, seed=3)
    columns = [c for c in frame if c.startswith("score/")]
    frame[columns] = frame[columns].mask(np.random.default_rng(0).random((200, 11)) < 0.05)
    advice = own.advise(intake.read(frame), price_weight, **QUICK)
    assert advice.gain.high >= 0 and len(advice.case.agents) == 11
    assert len(advice.rows) == advice.case.complete.sum() < 200


def test_agents_of_no_use_are_left_out_or_end_the_choice():
    case = intake.read(table(200).assign(**{"score/a1": 0.0}))
    advice = own.advise(case, **QUICK)
    assert advice.case.agents == ("a0", "a2") and "never any use" in found(advice.case)
    lone = own.advise(intake.read(table(200, 2).assign(**{"score/a1": 0.0})), **QUICK)
    assert lone.choice.method == "best_single" and "Send everything to a0" in lone.verdict()


def test_price_curve_ends_at_accuracy_and_at_dollars():
    case = intake.read(table(300))
    curve = own.price_curve(case)
    assert list(curve.points["price_weight"]) == list(own.LADDER)
    assert curve.points["dollars"].iloc[-1] <= curve.points["dollars"].iloc[0] + 1e-9
    assert curve.points["accuracy"].iloc[0] >= curve.alone["accuracy"].max()
    assert curve.saved.low <= curve.saved.mean <= curve.saved.high
    with pytest.raises(DataError, match="no columns cost"):
        own.price_curve(intake.read(table(dollars=False)))


def test_prices_need_costs():
    case = intake.read(table(dollars=False))
    with pytest.raises(DataError, match="without|columns cost"):
        own.advise(case, 0.5)
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="price_weight"):
            own.advise(case, wrong)


def test_a_registered_method_is_a_candidate_is_chosen_and_taken_home(tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))

    def toy(costs, scale=1.0):
        return losses.pair_loss(scale * (costs.max() - costs))

    methods.register(
        methods.Method("toy", "toy loss", "[ours]", "#123456", "o", make=partial(routers.DeferralRouter, toy))
    )
    assert "toy" in own.candidates() and "toy" not in QUICK["methods"]
    case = intake.read(table(200))
    advice = own.advise(case, methods=["toy"])
    assert advice.choice.method == "toy" and "Use the router (toy loss)" in advice.verdict()
    folder = own.write(advice, tmp_path / "out")
    expected = [case.agents[k] for k in advice.choice.router.predict(text.embed(case.prompts))]
    assert own.load(folder).route(case.prompts) == expected


def test_only_a_useless_agent_skips_a_setting_and_a_fault_is_not_hidden(monkeypatch):
    """Once any ValueError of a registered method made it vanish from the comparison without a word."""
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))

    def toy(costs, error=None):
        raise error("of toy")

    for key, error in (("faulty", ValueError), ("refusing", UselessAgent)):
        make = partial(routers.DeferralRouter, toy, loss_params={"error": error})
        methods.register(methods.Method(key, key, "[ours]", "#123456", "o", make=make, settings=({}, {}, {})))
    case = intake.read(table(200))
    X = np.eye(200)[:, :5]
    with pytest.raises(ValueError, match="of toy"):
        own.choose(X, 1 - case.scores, methods=["plug_in", "faulty"])
    assert list(own.choose(X, 1 - case.scores, methods=["plug_in", "refusing"]).settings) == ["plug_in"]


def test_candidates_and_their_order():
    """The order decides ties, so it decides stored numbers."""
    assert own.candidates() == [
        *("plug_in", "knn", "two_stage", "mild", "dr_cpe_joint", "margin_dr_cpe"),
        *("plug_in_offsets", "two_stage_offsets", "mild_offsets", "margin_dr_cpe_offsets"),
    ]


def test_what_cannot_be_trained_on_a_table_of_ones_own_is_refused():
    for key, message in (("oracle", "no router"), ("classify_then_route", "labels"), ("nothing", "nothing")):
        with pytest.raises(ValueError, match=message):
            own.advise(intake.read(table()), methods=[key])


# ---------------------------------------------------------------- router, card, command


SCRIPT = "<script>alert('1')</script> $x$ | `code` [link](javascript:1)"


@pytest.fixture(scope="module")
def nasty():
    """A table whose every text is an attempt to run something."""
    frame = table(200).rename(columns=lambda c: c.replace("a1", "<b>a1</b>|*"))
    frame["prompt"] = frame["prompt"] + SCRIPT
    frame["task"] = frame["task"] + "<img src=x onerror=alert(1)>"
    case = intake.read(frame)
    return own.advise(case, 0.2, methods=["plug_in", "knn", "mild_offsets"]), own.price_curve(case)


def test_foreign_text_is_shown_as_text(nasty):
    card = own.card(*nasty)
    assert "<script" not in card and "<img" not in card and "<b>a1" not in card
    assert "&lt;script&gt;" in card and "$x" not in card
    page = markdown2html(card)
    for active in ("<script", "<img", "<b>a1", 'href="javascript'):
        assert active not in page
    assert card.startswith("# Router card: table")


def test_card_reads_as_the_stored_one(nasty):
    """card.md is what was written for this very input before the card became a template."""
    assert own.card(*nasty) == Path(__file__).with_name("card.md").read_text(encoding="utf-8")


def test_card_takes_its_numbers_from_the_advice(nasty):
    advice, curve = nasty
    card = own.card(advice, curve)
    assert f"{advice.gain.mean:+.4f}" in card and f"{curve.share:.1%}" in card
    for loss in advice.tests["loss"]:
        assert f"{loss:.4f}" in card


@pytest.mark.parametrize("method", ["plug_in", "knn", "two_stage", "mild_offsets", "best_single"])
def test_saved_routers_answer_alike(method, tmp_path):
    case = intake.read(table(200))
    methods = [] if method == "best_single" else [method]
    advice = own.advise(case, 0.1, methods=methods)
    own.save(own.AgentRouter(advice.choice.router, case.agents, True), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["router.json", "router.npz"]
    with np.load(tmp_path / "router.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    again = own.load(tmp_path)
    expected = [case.agents[k] for k in advice.choice.router.predict(text.embed(case.prompts))]
    assert again.route(case.prompts) == expected
    assert again.route(case.prompts[0]) == expected[0]


def test_routers_of_features_take_rows(tmp_path):
    rng = np.random.default_rng(0)
    case = intake.from_arrays(rng.normal(size=(100, 3)), rng.random((100, 2)))
    advice = own.advise(case, methods=["plug_in"], folds=2)
    own.save(own.AgentRouter(advice.choice.router, case.agents, False), tmp_path)
    router = own.load(tmp_path)
    assert router.route(case.features[0]) == router.route(case.features[:3])[0]


def test_other_embeddings_and_damaged_files_are_refused(tmp_path):
    case = intake.read(table())
    router = own.choose(np.eye(120), case.scores, methods=[]).router
    own.save(own.AgentRouter(router, case.agents, True), tmp_path)
    path = tmp_path / "router.json"
    content = json.loads(path.read_text())
    for change, message in (
        ({"embedding": {"name": "other"}}, "embedding"),
        ({"agents": ["a"]}, "names 1 agents"),
        ({"agents": 3}, "damaged"),
    ):  # fmt: skip
        path.write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=message):
            own.load(tmp_path)
    path.write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        own.load(tmp_path)


def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = own.main(arguments)
        except SystemExit as stopped:
            code = stopped.code
    return code, out.getvalue(), err.getvalue()


def test_command_writes_router_card_and_tables(tmp_path, monkeypatch):
    monkeypatch.delenv("L2D_OUT", raising=False)
    table(200).to_parquet(tmp_path / "mine.parquet")
    code, out, err = run(str(tmp_path / "mine.parquet"), "--price-weight", "0.3", "--out", str(tmp_path / "folder"))
    assert (code, err) == (0, "") and "mine: 200 rows, 3 agents" in out
    names = {p.name for p in (tmp_path / "folder").iterdir()}
    assert {"router.npz", "router.json", "card.md", "frontier.png", "tests.csv"} <= names
    assert isinstance(saving.load(tmp_path / "folder" / "router.npz"), routers.PlugInRouter)
    assert own.load(tmp_path / "folder").route("a poem") in ("a0", "a1", "a2")


def test_command_says_one_line_and_exits_2(tmp_path):
    table(dollars=False).to_csv(tmp_path / "good.csv", index=False)
    (tmp_path / "bad.csv").write_text('prompt,score/a\n"x')
    (tmp_path / "file").write_text("")
    for arguments in (
        ["nowhere.csv"], ["no-such-name"], [str(tmp_path / "bad.csv")], [str(tmp_path)],
        [str(tmp_path / "good.csv"), "--price-weight", "0.3"], [str(tmp_path / "good.csv"), "--folds", "1"],
    ):  # fmt: skip
        code, _, err = run(*arguments)
        assert code == 2 and err.count("\n") == 1 and err.startswith("error: "), err
    for arguments in (["--price-weight", "-1", "x.csv"], ["--price-weight", "many", "x.csv"], []):
        assert run(*arguments)[0] == 2


def test_module_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "l2d_utils.own", "nowhere.parquet"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr and "nowhere.parquet" in done.stderr


def test_a_router_is_loaded_without_what_draws_and_chooses(tmp_path):
    case = intake.read(table())
    router = own.choose(np.eye(120), case.scores, methods=[]).router
    own.save(own.AgentRouter(router, case.agents, False), tmp_path)
    code = (
        f"import sys; from l2d_utils import own; own.load({str(tmp_path)!r}); "
        "print(sorted({'matplotlib', 'seaborn', 'jinja2', 'l2d_utils.methods'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_command_finds_out_first_what_will_not_do(tmp_path, monkeypatch):
    """A folder that cannot be, too many folds, Ctrl-C: one line, and nothing has been computed for it."""
    monkeypatch.delenv("L2D_OUT", raising=False)
    table(120, split=False).to_csv(tmp_path / "good.csv", index=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("l2d_utils.own.command.advise", lambda *_, **__: pytest.fail("computed"))
    good = str(tmp_path / "good.csv")
    for more, found in (
        (["--out", str(tmp_path / "file")], "file"), (["--out", "/proc/nowhere/x"], "/proc/nowhere"),
        (["--folds", "1000"], "20"), (["--folds", "1"], "between 2"),
    ):  # fmt: skip
        code, _, err = run(good, "--out", str(tmp_path / "out"), *more)
        assert (code, err.count("\n")) == (2, 1) and found in err

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("l2d_utils.own.command.advise", interrupted)
    assert run(good, "--out", str(tmp_path / "out"))[::2] == (130, "error: interrupted\n")


def test_a_reused_folder_holds_nothing_of_the_table_before(tmp_path, monkeypatch):
    monkeypatch.delenv("L2D_OUT", raising=False)
    case = intake.read(table())
    advice = own.advise(case, methods=["plug_in"])
    own.write(advice, tmp_path, own.price_curve(case))
    own.write(advice, tmp_path)
    assert not list(tmp_path.glob("frontier.*")) and (tmp_path / "card.md").is_file()


def test_a_delivered_router_takes_what_people_send():
    case = intake.read(table())
    X = text.embed(case.prompts)
    router = own.AgentRouter(own.choose(X, 1 - case.scores, methods=["plug_in"]).candidate_router, case.agents, True)
    assert router.route("\ud800") == router.route("?") and router.route([]) == []
    for wrong in (None, 3, b"bytes", {"a": 1}, ["text", None]):
        with pytest.raises(TypeError, match="prompts"):
            router.route(wrong)
