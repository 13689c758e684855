"""Results: atomic writing, tidy columns, bytes that repeat."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from l2d_utils import results


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.delenv("L2D_OUT", raising=False)
    return tmp_path / "figures"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        results.write_atomically(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "table.csv"

    def write(temporary):
        temporary.write_text("first half, ")
        assert not path.exists()
        assert temporary.parent == path.parent and temporary.suffix == path.suffix
        temporary.write_text("whole")

    results.write_atomically(path, write)
    assert path.read_text() == "whole"


def test_environment_variable_wins_over_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("L2D_OUT", str(tmp_path / "elsewhere"))
    assert results.output_folder(tmp_path / "figures") == tmp_path / "elsewhere"
    assert not (tmp_path / "figures").exists()


def test_a_folder_that_cannot_be_made_or_written_is_named(tmp_path, monkeypatch, out):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        results.output_folder(tmp_path / "file" / "figures")
    monkeypatch.setattr(results.os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="figures"):
        results.output_folder(out)


def test_tidy_fills_checks_and_orders_columns():
    frame = results.tidy([{"seed": 0, "metric": "loss", "value": 1}, {"seed": 1, "value": 2.5}], study="toy")
    assert list(frame.columns) == results.TIDY
    assert frame["value"].tolist() == [1.0, 2.5]
    assert frame["study"].tolist() == ["toy", "toy"]
    assert frame["data"].tolist() == ["", ""]


@pytest.mark.parametrize(
    ("records", "constants", "message"),
    [
        ([{"value": 1, "expert": 2}], {}, "expert"),
        ([{"value": 1}], {"colour": "red"}, "colour"),
        ([{"value": 1, "seed": 0}], {"seed": 1}, "seed"),
        ([{"metric": "loss"}], {}, "value"),
        ([{"value": 1}, {"value": "much"}], {}, "row 1"),
        ([{"value": 1}, {"value": float("nan")}], {}, "row 1"),
    ],
)
def test_tidy_refuses(records, constants, message):
    with pytest.raises(ValueError, match=message):
        results.tidy(records, **constants)


def test_tidy_leaves_its_input_alone():
    frame = pd.DataFrame({"value": [1, 2]}, index=[5, 6])
    results.tidy(frame, study="toy")
    assert list(frame.columns) == ["value"] and list(frame.index) == [5, 6]


def _figure():
    fig, ax = plt.subplots()
    ax.plot([0, 1], [1, 0])
    ax.set(title="Deferral curve", xlabel="deferral rate", ylabel="accuracy")
    return fig


def test_figures_repeat_byte_for_byte_and_carry_their_description(out):
    frame = results.tidy([{"value": 1 / 3}], metric="accuracy")
    for name in ("one", "two"):
        fig = _figure()
        results.show_figure(fig, name, frame, out)
        plt.close(fig)
    assert (out / "one.png").read_bytes() == (out / "two.png").read_bytes()
    assert (out / "one.csv").read_text() == f"{','.join(results.TIDY)}\n,,,,,,,accuracy,0.333333\n"
    with Image.open(out / "one.png") as image:
        assert image.info["Description"] == "Deferral curve: accuracy against deferral rate"
        assert "Software" not in image.info


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden"])
def test_names_are_plain(name, out):
    with pytest.raises(ValueError, match="name"):
        results.save_table(pd.DataFrame(), name, out)


def test_sources(out):
    class Data:
        name, source = "digits", "scikit-learn"

    results.save_sources(Data(), name="00_sources", out=out)
    assert (out / "00_sources.csv").read_text() == "data,source,sha256\ndigits,scikit-learn,\n"


def test_claims_are_saved_with_their_ids_and_shown(out):
    rows = [("gap-is-small", "the gap is small", -0.01234, np.bool_(True)), ("all", "all of them", "3 of 4", False)]
    shown = results.claims(rows, "00_claims", out)
    text = "id,claim,measured,holds\ngap-is-small,the gap is small,-0.0123,True\nall,all of them,3 of 4,False\n"
    assert (out / "00_claims.csv").read_text("utf-8") == text
    assert shown.loc["all"].tolist() == ["all of them", "3 of 4", False]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "x", 1, True), ("a", "y", 1, True)], "'a' is no word-with-hyphens, or is given twice"),
        ([("The gap", "x", 1, True)], "'The gap' is no"),
        ([("a", "x", 1, "yes")], "'a' has 'yes'"),
        ([("a", "x", 1, float("nan"))], "neither True nor False"),
    ],
)
def test_a_claim_without_an_id_or_an_answer_is_refused(out, rows, message):
    with pytest.raises(ValueError, match=message):
        results.claims(rows, "00_claims", out)
    assert not out.exists()
