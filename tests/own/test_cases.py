"""Tables as people really have them: each kind is read, with every repair counted, or refused with a cell quoted."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import table

from l2d_utils.data import DataError
from l2d_utils.own import cells, intake


def written(frame, tmp_path):
    """As it comes back from a csv."""
    frame.to_csv(tmp_path / "t.csv", index=False)
    return intake.read(tmp_path / "t.csv")


def spelled(frame, prefix, spell):
    columns = [c for c in frame if c.startswith(prefix)]
    return frame.assign(**{c: [spell(x) for x in frame[c]] for c in columns})


def odd(case):
    return " | ".join(f"{o.found} ({o.count})" for o in case.oddities)


PRICES = {
    "dollar sign": "${:.5f}".format, "dollar and blank": "$ {:.5f}".format, "currency": "USD {:.5f}".format,
    "thousands": lambda x: f"{1e7 * x:,.2f}", "euros": lambda x: f"€{1e7 * x:,.2f}",
}  # fmt: skip


@pytest.mark.parametrize("way", PRICES)
def test_prices_are_read_as_people_write_them(way, tmp_path):
    frame = table()
    case = written(spelled(frame, "cost/", PRICES[way]), tmp_path)
    ratio = case.dollars / frame[[f"cost/a{k}" for k in range(3)]].to_numpy()
    np.testing.assert_allclose(ratio, 1e7 if way in ("thousands", "euros") else 1.0, rtol=0.02)
    assert "read as numbers" in " ".join(o.done for o in case.oddities) and "mean cost" not in odd(case)


def test_text_in_prices_is_refused_with_a_cell_and_never_filled(tmp_path):
    frame = table()
    frame["cost/a1"] = frame["cost/a1"].astype(object)
    frame.loc[frame.index[:30], "cost/a1"] = "ask sales"
    with pytest.raises(DataError, match="'cost/a1' holds 30 cells that are no price, such as 'ask sales'"):
        written(frame, tmp_path)
    with pytest.raises(DataError, match="'1,234'.*thousand"):  # or 1.234? It is asked for, not guessed
        written(table().assign(**{"cost/a1": "1,234"}), tmp_path)


SCORES = {
    "PASS": lambda x: "PASS" if x > 0.5 else "FAIL", "yes": lambda x: "yes" if x > 0.5 else "no",
    "True": lambda x: str(x > 0.5), "correct": lambda x: "Correct" if x > 0.5 else "Incorrect",
    "%": lambda x: f"{100 * (x > 0.5):.0f}%",
}  # fmt: skip


@pytest.mark.parametrize("word", SCORES)
def test_words_for_scores_are_read(word, tmp_path):
    frame = table()
    case = written(spelled(frame, "score/", SCORES[word]), tmp_path)
    np.testing.assert_array_equal(case.scores, frame[[f"score/a{k}" for k in range(3)]].to_numpy() > 0.5)
    assert word == "True" or f"such as {SCORES[word](case.scores[0, 0])!r} (120)" in odd(case)


def test_words_that_stand_for_nothing_are_quoted():
    with pytest.raises(DataError, match="'good' in 'score/a0' and 'bad' in 'score/a1' cannot be read as a score"):
        intake.read(table().assign(**{"score/a0": "good", "score/a1": "bad"}))


@pytest.mark.parametrize("word", ["None", "NA", "-", "null"])
def test_a_class_may_have_the_name_of_an_empty_cell(word, tmp_path):
    rng = np.random.default_rng(0)
    classes = np.array([word, "Up", "Down"])
    truth = rng.integers(3, size=150)
    frame = pd.DataFrame({"prompt": [f"headline {i}" for i in range(150)], "truth": classes[truth]})
    for name in ("ann", "ben"):
        frame[f"label/{name}"] = classes[np.where(rng.random(150) < 0.7, truth, rng.integers(3, size=150))]
    case = written(frame, tmp_path)
    assert case.complete.sum() == 150 and f"cells {word!r} in 'truth'" in odd(case)
    expected = frame[["label/ann", "label/ben"]].eq(frame["truth"], axis=0).to_numpy(dtype=float)
    np.testing.assert_array_equal(case.scores, expected)


@given(
    st.lists(
        st.one_of(st.text(max_size=8), st.floats(), st.none(), st.sampled_from(["1,234", "$5", "85%"])), min_size=1
    )
)
def test_any_cell_is_a_number_or_missing(found):
    column = pd.Series(found, dtype=object)
    for read in (cells.scores, cells.prices):
        try:
            values, _, count = read(column)
        except ValueError as error:
            assert "\n" not in str(error)
        else:
            assert values.shape == (len(found),) and not np.isinf(values).any() and 0 <= count <= len(found)


def same(case, other):
    np.testing.assert_allclose(case.scores, other.scores, atol=1e-9)
    np.testing.assert_allclose(case.dollars, other.dollars, rtol=1e-6)
    assert case.prompts == other.prompts and case.agents == other.agents and list(case.task) == list(other.task)


FILES = {
    "t.tsv": lambda f, p: f.to_csv(p, sep="\t", index=False),
    "semicolons.csv": lambda f, p: f.to_csv(p, sep=";", decimal=",", index=False),
    "points.csv": lambda f, p: f.to_csv(p, sep=";", index=False),
    "t.csv.gz": lambda f, p: f.to_csv(p, index=False),
    "t.jsonl": lambda f, p: f.to_json(p, orient="records", lines=True, double_precision=12),
    "t.jsonl.gz": lambda f, p: f.to_json(p, orient="records", lines=True, double_precision=12),
    "t.parquet": lambda f, p: f.to_parquet(p),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_kinds_give_the_same_case(name, tmp_path):
    frame = table(split=False)
    FILES[name](frame, tmp_path / name)
    same(intake.read(tmp_path / name), intake.read(frame))


@pytest.mark.parametrize(("name", "mark"), [("t.csv", ","), ("t.csv", ";"), ("t.tsv", "\t")])
def test_a_doubled_column_is_refused_whatever_separates_columns(name, mark, tmp_path):
    """Once pandas renamed the second of two where the separator was no comma."""
    (tmp_path / name).write_text(mark.join(["prompt", "score/a", "score/a"]) + "\n")
    with pytest.raises(DataError, match="'score/a' stands there 2 times"):
        intake.read(tmp_path / name)


@given(st.binary(max_size=200), st.sampled_from(["x.tsv", "x.jsonl", "x.csv.gz", "x.tsv.gz"]))
def test_noise_in_any_file_is_one_line(tmp_path_factory, noise, name):
    path = tmp_path_factory.mktemp("noise") / name
    path.write_bytes(noise)
    with pytest.raises(DataError) as caught:
        intake.read(path)
    assert "\n" not in str(caught.value)


def long(frame):
    parts = [
        pd.DataFrame({"query": frame["prompt"], "task_name": frame["task"], "model_name": f"a{k}",
                      "performance": frame[f"score/a{k}"], "cost": frame[f"cost/a{k}"]})
        for k in range(3)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_one_row_per_prompt_and_model_is_turned(tmp_path):
    frame = table(split=False)
    case = written(long(frame), tmp_path)
    same(case, intake.read(frame))
    assert "one row per prompt and model" in odd(case)
    shuffled = intake.read(long(frame).sample(frac=1.0, random_state=0))
    assert sorted(shuffled.prompts) == sorted(case.prompts)
    with pytest.raises(DataError, match="'a0' stand together in two rows"):
        intake.read(pd.concat([long(frame), long(frame).iloc[:1]]))


def test_plain_headers_get_the_names_that_are_needed():
    frame = table().rename(columns=lambda c: c.replace("score/", "org/").replace("cost/a", "cost of a"))
    with pytest.raises(DataError) as caught:
        intake.read(frame)
    said = str(caught.value)
    assert "['org/a0', 'org/a1', 'org/a2'] hold only numbers from 0 to 1: rename them to ['score/org/a0'" in said
    assert "score/cost" not in said and "\n" not in said
