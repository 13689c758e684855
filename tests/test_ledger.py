"""The claims ledger: what it refuses, how it judges, and that README and stored tables agree with it."""

import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from l2d_utils import ledger, metrics, results
from l2d_utils.results import UsageError
from reproduce import notebooks, readme

CLAIMS = notebooks.BOOK / readme.CLAIMS
FIGURES = notebooks.ROOT / "figures"
CLAIM = {
    "id": "toy", "title": "a toy claim", "paper": "MILD", "mark": "[paper]", "claim": "It is small.", "notebook": "06",
    "quantity": "loss", "test": {"below": 0}, "why": "Because.",
    "evidence": [{"file": "toy.csv", "where": {"method": "a"}, "column": "mean", "interval": ["low", "high"]}],
}  # fmt: skip
UNTESTED = {key: CLAIM[key] for key in ("id", "title", "paper", "mark", "claim", "notebook")}
SEEDS = {"file": "seeds.csv", "where": {"method": "a", "setting": "x"}, "column": "value", "over": "seed"}


@pytest.fixture
def folder(tmp_path):
    """Two tables: one with an interval per method, one with a value per method, setting and seed."""
    rows = [("a", -0.2, -0.3, -0.1), ("b", -0.2, -0.4, 0.0), ("c", 0.2, 0.1, 0.3), ("d", 0.7, 0.69, 0.71)]
    table = pd.DataFrame(rows, columns=["method", "mean", "low", "high"]).assign(holds=[True, True, False, "maybe"])
    table.to_csv(tmp_path / "toy.csv", index=False)
    rng = np.random.default_rng(0)
    seeds = [
        (method, setting, seed, base + rng.normal(0, 0.1))
        for method, base in (("a", 0.0), ("b", 1.0))
        for setting in ("x", "y")
        for seed in range(5)
    ]
    pd.DataFrame(seeds, columns=["method", "setting", "seed", "value"]).to_csv(tmp_path / "seeds.csv", index=False)
    return tmp_path


def _read(tmp_path, *entries):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(list(entries), allow_unicode=True), "utf-8")
    return ledger.read(path)


def _with(part=None, **changes):
    """The toy claim with other fields (None takes one out); `part` likewise changes its only part of evidence."""
    evidence = [{k: v for k, v in {**CLAIM["evidence"][0], **(part or {})}.items() if v is not None}]
    return {k: v for k, v in {**CLAIM, "evidence": evidence, **changes}.items() if v is not None}


def _judged(folder, entry):
    (row,) = ledger.judge(_read(folder, entry), [folder])[0].to_dict("records")
    return row


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (_with(verdict="REPRODUCED"), "unknown field 'verdict'"),
        (_with(title=None), "title is missing"),
        (_with(notebook=6), "notebook is missing or no text"),
        (_with(paper="IMMAX"), "paper 'IMMAX'"),
        (_with(test={"near": 3}), "test must be one of"),
        (_with(test={"below": 0, "above": 0}), "test must be one of"),
        (_with(test={"below": "0"}), "is not what it takes"),
        (_with(test={"above": float("nan")}), "is not what it takes"),
        (_with(test={"within": 3}), "is not what it takes"),
        (_with(test={"within": {"target": 1}}), "is not what it takes"),
        (_with(test={"within": {"target": 1, "tolerance": 0}}), "is not what it takes"),
        (_with(test={"holds": False}, quantity=None), "is not what it takes"),
        (_with(test={"holds": True}), "quantity is needed for a number, and for nothing else"),
        (_with(quantity=None), "quantity is needed for a number, and for nothing else"),
        (_with(why=""), "test, why and evidence are needed"),
        (_with(evidence=None), "test, why and evidence are needed"),
        (_with(evidence=[]), "no list of parts"),
        (_with(not_testable="no data"), "not_testable excludes"),
        (_with(part={"code": "mean()"}), "unknown field 'code'"),
        (_with(part={"column": None}), "column is missing"),
        (_with(part={"file": "../toy.csv"}), "no plain file name"),
        (_with(part={"over": "seed"}), "excludes over"),
        (_with(part={"interval": ["low"]}), "interval takes two columns"),
        (_with(part={"minus": {"method": "b"}}), "needs the repeats"),
        (_with(part={"where": "method = a"}), "where is"),
        ("just text", "no list of fields"),
        (UNTESTED | {"not_testable": " "}, "reason"),
    ],
)
def test_a_malformed_claim_is_named(tmp_path, entry, message):
    with pytest.raises(UsageError, match="claim") as error:
        _read(tmp_path, entry)
    assert message in str(error.value)
    assert "'toy'" in str(error.value) or not isinstance(entry, dict)


def test_ids_and_titles_are_unique(tmp_path):
    with pytest.raises(UsageError, match="id 'toy' is given twice"):
        _read(tmp_path, CLAIM, CLAIM)
    with pytest.raises(UsageError, match="title 'a toy claim' is given twice"):
        _read(tmp_path, CLAIM, {**CLAIM, "id": "other"})


@pytest.mark.parametrize("text", ["", "a: 1", "[", "!!python/object/apply:os.getcwd []"])
def test_a_file_that_is_no_list_of_claims_is_refused(tmp_path, text):
    path = tmp_path / "claims.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(UsageError, match="claims.yaml"):
        ledger.read(path)


# ---------------------------------------------------------------- the numbers


@pytest.mark.parametrize(
    ("part", "test", "message"),
    [
        ({"file": "none.csv"}, None, "no such file"),
        ({"where": {"method": "z"}}, None, "no row has method='z'"),
        ({"where": {"model": "a"}}, None, "no column 'model'"),
        ({"column": "median"}, None, "no column 'median'"),
        ({"file": "seeds.csv", "column": "value", "interval": None}, None, "fits 10 rows"),
        ({**SEEDS, "where": {"method": "a"}, "interval": None}, None, "more than one row per seed"),
        ({**SEEDS, "where": {"method": "a", "seed": "1", "setting": "x"}, "interval": None}, None, "single seed"),
        ({**SEEDS, "minus": {"seed": "1"}, "interval": None}, None, "different entries of seed"),
        ({"column": "method", "interval": None}, None, "'a' is no number"),
        ({"column": "holds", "where": {"method": "d"}, "interval": None}, {"holds": True}, "neither True nor False"),
    ],
)
def test_a_selection_that_does_not_fit_is_named(folder, part, test, message):
    entry = _with(part=part, test=test or CLAIM["test"], quantity=None if test else "loss")
    with pytest.raises(UsageError, match="claim 'toy'") as error:
        _judged(folder, entry)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("method", "test", "outcome"),
    [
        ("a", {"below": 0}, ledger.HOLDS),
        ("b", {"below": 0}, ledger.OPEN),  # touches the bound
        ("b", {"below": 1e-9}, ledger.HOLDS),
        ("c", {"below": 0}, ledger.AGAINST),
        ("c", {"below": 0.1}, ledger.OPEN),  # touches it from the other side
        ("c", {"above": 0}, ledger.HOLDS),
        ("c", {"above": 0.1}, ledger.OPEN),
        ("a", {"above": 0}, ledger.AGAINST),
        ("d", {"within": {"target": 0.7, "tolerance": 0.02}}, ledger.HOLDS),
        ("d", {"within": {"target": 0.7, "tolerance": 0.005}}, ledger.OPEN),  # wider than the tolerance
        ("d", {"within": {"target": 0.72, "tolerance": 0.02}}, ledger.OPEN),
        ("d", {"within": {"target": 0.75, "tolerance": 0.02}}, ledger.AGAINST),
    ],
)
def test_an_interval_is_compared_with_its_bound(folder, method, test, outcome):
    (claim,) = _read(folder, _with(part={"where": {"method": method}}, test=test))
    (reading,) = ledger.readings(claim, [folder])
    assert reading.outcome == outcome
    assert (reading.slack > 0) == (outcome == ledger.HOLDS)


def test_every_verdict_can_be_reached(folder):
    assert _judged(folder, CLAIM)["verdict"] == ledger.REPRODUCED
    row = _judged(folder, _with(part={"where": {"method": ["a", "b", "c"]}}))
    assert (row["verdict"], row["readings"], row["holding"], row["against"]) == (ledger.DIFFERS, 3, 1, 1)
    assert row["measured"] == "1 of 3 hold, 1 against; least favourable: 0.200 [0.100, 0.300]"
    row = _judged(folder, UNTESTED | {"not_testable": "no data"})
    assert (row["verdict"], row["measured"], row["test"]) == (ledger.NOT_TESTABLE, "", "")


def test_differences_are_paired_and_lists_are_single_readings(folder):
    part = {**SEEDS, "where": {"method": "a", "setting": ["x", "y"]}, "minus": {"method": "b"}, "interval": None}
    (claim,) = _read(folder, _with(part=part))
    found = ledger.readings(claim, [folder])
    assert [r.label for r in found] == ["x · minus b", "y · minus b"]
    table = pd.read_csv(folder / "seeds.csv")
    for reading, setting in zip(found, "xy", strict=True):
        wide = table[table["setting"] == setting].pivot(index="seed", columns="method", values="value")
        np.testing.assert_allclose([reading.mean, reading.low, reading.high], metrics.paired(wide["a"], wide["b"]))


def test_the_order_of_rows_does_not_matter(folder):
    entry = _with(part={**SEEDS, "minus": {"method": "b"}, "interval": None})
    before = _judged(folder, entry)
    table = pd.read_csv(folder / "seeds.csv", dtype=str)
    table.sample(frac=1, random_state=1).to_csv(folder / "seeds.csv", index=False)
    assert _judged(folder, entry) == before


def test_checks_and_single_numbers(folder):
    holds = _with(part={"column": "holds", "interval": None}, test={"holds": True}, quantity=None)
    row = _judged(folder, holds)
    assert (row["verdict"], row["measured"], row["test"]) == (ledger.REPRODUCED, "holds", "the check holds")
    holds["evidence"][0]["where"] = {"method": ["a", "c"]}
    row = _judged(folder, holds)
    assert (row["verdict"], row["measured"]) == (ledger.DIFFERS, "1 of 2 hold")
    alone = _with(part={"interval": None, "minus": {"method": "c"}})
    assert _judged(folder, alone)["measured"] == "−0.400"


def test_a_table_of_the_run_wins_over_the_stored_one(folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "toy.csv").write_text("method,mean,low,high\na,1,0.5,1.5\n", "utf-8")
    claims = _read(folder, CLAIM)
    assert ledger.judge(claims, [run, folder])[0]["verdict"].item() == ledger.DIFFERS
    assert ledger.judge(claims, [folder, run])[0]["verdict"].item() == ledger.REPRODUCED


DAMAGE = {
    "empty": lambda whole: b"",
    "cut in a line": lambda whole: whole[: len(whole) // 2],
    "cut in its last number": lambda whole: whole[:-2],
    "header only": lambda whole: whole.split(b"\n")[0] + b"\n",
    "NUL bytes": lambda whole: bytes(len(whole)),
    "not UTF-8": lambda whole: whole.replace(b"a,", b"a\xe9,", 1),
    "a line twice": lambda whole: whole + whole.split(b"\n")[1] + b"\n",
    "a conflict of git": lambda whole: b"<<<<<<< HEAD\n" + whole,
    "a quote that never ends": lambda whole: whole.replace(b"a,", b'"a,', 1),
    "nan": lambda whole: whole.replace(b"-0.3", b"nan", 1),
    "semicolons": lambda whole: whole.replace(b",", b";"),
    "a web page": lambda whole: b"<!doctype html>\n<html>not found</html>\n",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_table_is_named(folder, damage):
    path = folder / "toy.csv"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(UsageError, match="claim 'toy': toy.csv") as error:
        _judged(folder, CLAIM)
    assert "\n" not in str(error.value)


def test_line_ends_of_windows_and_lost_rows_that_no_claim_reads_are_no_damage(folder):
    before, path = _judged(folder, CLAIM), folder / "toy.csv"
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:3]).replace(b"\n", b"\r\n") + b"\r\n")
    assert _judged(folder, CLAIM) == before


def test_several_selections_are_read_one_after_the_other_and_facts_are_named(folder):
    table = pd.read_csv(folder / "seeds.csv").assign(n=lambda t: t["setting"].map({"x": 100, "y": 200}))
    table.to_csv(folder / "seeds.csv", index=False)
    where = [{"method": "a", "setting": ["y"], "n": [200]}, {"method": ["a", "b"], "setting": "x", "n": 100}]
    (claim,) = _read(folder, _with(part={**SEEDS, "where": where, "interval": None}))
    assert [r.label for r in ledger.readings(claim, [folder])] == ["n=200 · y", "a", "b"]  # yaml.safe_dump sorts


def test_evidence_of_a_check_is_found_by_its_id(folder, monkeypatch):
    monkeypatch.delenv("L2D_OUT")
    results.claims([("it-is-so", "whatever it says", 1, True), ("not-so", "x", 1, False)], "06_claims", folder)
    part = {"file": "06_claims.csv", "where": {"id": ["it-is-so", "not-so"]}, "column": "holds", "interval": None}
    row = _judged(folder, _with(part=part, test={"holds": True}, quantity=None))
    assert (row["verdict"], row["measured"]) == (ledger.DIFFERS, "1 of 2 hold")


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((-0.00068, -0.00125, -0.00011), "−0.0007 [−0.0013, −0.0001]"),
        ((-1e-9, -1e-9, -1e-9), "0.0000"),
        ((0.775, 0.766, 0.783), "0.775 [0.766, 0.783]"),
        ((-2.0, -2.0, -2.0), "−2"),
        ((1.548, 1.548, 1.548), "1.55"),
    ],
)
def test_numbers_as_text(numbers, text):
    assert ledger.number_text(*numbers) == text


# ---------------------------------------------------------------- the book's own ledger


@pytest.fixture(scope="module")
def own():
    return ledger.judge(ledger.read(CLAIMS), [FIGURES])


def test_every_claim_resolves_and_names_a_chapter(own):
    table, readings = own
    chapters = {path.stem[:2] for path in notebooks.find(notebooks.BOOK)}
    assert set(table["notebook"]) <= chapters
    assert set(table["paper"]) == set(ledger.PAPERS) and set(table["verdict"]) <= set(ledger.VERDICTS)
    assert set(readings["id"]) == set(table.loc[table["verdict"] != ledger.NOT_TESTABLE, "id"])


def test_a_claim_that_differs_has_an_account(own):
    accounts = {claim.id: claim.account for claim in ledger.read(CLAIMS)}
    differ = own[0].loc[own[0]["verdict"] == ledger.DIFFERS, "id"]
    assert all(accounts[name] for name in differ)


def _stored(figures):
    return pd.read_csv(figures / f"{readme.PICTURE}.csv", dtype=str, keep_default_na=False)


def test_the_stored_ledger_is_up_to_date(own):
    pd.testing.assert_frame_equal(_stored(FIGURES), own[0].astype(str), check_dtype=False, obj="ledger")


def test_readme_shows_the_ledger_and_why_a_claim_is_not_tested():
    text = (notebooks.ROOT / "README.md").read_text("utf-8")
    assert "<!-- generated:ledger -->" in text
    rows = [line for line in text.splitlines() if f"| {ledger.NOT_TESTABLE} |" in line]
    assert len(rows) == sum(bool(claim.not_testable) for claim in ledger.read(CLAIMS)) > 0
    assert all(row.split("|")[3].strip().endswith(".") for row in rows)


@pytest.fixture
def copy(tmp_path):
    """The parts of the repository that README's ledger is made from."""
    shutil.copytree(FIGURES, tmp_path / "figures", ignore=shutil.ignore_patterns("0*.png"))
    (tmp_path / "notebooks").mkdir()
    for path in (CLAIMS, *notebooks.find(notebooks.BOOK)):
        shutil.copy(path, tmp_path / "notebooks")
    for name in ("l2d_utils", "reproduce"):
        shutil.copytree(notebooks.ROOT / name, tmp_path / name)
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(notebooks.ROOT / name, tmp_path)
    return tmp_path


def test_a_changed_number_makes_readme_and_stored_ledger_stale(copy):
    text = readme.render((copy / "README.md").read_text("utf-8"), copy)
    assert readme.render(text, copy) == text
    table = copy / "figures" / "08_full_nine.csv"
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    mild = (rows["method"] == "mild") & (rows["metric"] == "deferral_loss")
    rows.loc[mild, "value"] = (rows.loc[mild, "value"].astype(float) - 0.05).astype(str)
    rows.to_csv(table, index=False)
    assert readme.render(text, copy) != text
    found, _ = ledger.judge(ledger.read(copy / "notebooks" / "claims.yaml"), [copy / "figures"])
    assert not _stored(copy / "figures").equals(found.astype(str))
    assert found.set_index("id").loc["mild-llm-imbalance", "verdict"] == ledger.REPRODUCED


def test_a_changed_bound_makes_readme_stale(copy):
    path = copy / "notebooks" / "claims.yaml"
    page, text = readme.render((copy / "README.md").read_text("utf-8"), copy), path.read_text("utf-8")
    assert text.count("test: {below: 2}") == 1
    path.write_text(text.replace("test: {below: 2}", "test: {below: 1}"), "utf-8")
    assert readme.render(page, copy) != page
