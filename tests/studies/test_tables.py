"""Tables pair what belongs together, and say what lies on the edge of its grid."""

import numpy as np
import pandas as pd
import pytest

from l2d_utils import results
from l2d_utils.studies import tables


def test_differences_are_paired_by_seed():
    rows = [
        {"split": "test", "metric": "deferral_loss", "seed": s, "method": m, "value": 10.0 * s + shift}
        for m, shift in (("a", 0.0), ("b", 1.0))
        for s in (0, 1, 2)
    ]
    frame = pd.DataFrame(rows).sample(frac=1, random_state=0)
    found = tables.differences(frame, "a").iloc[0]
    assert (found["method"], found["mean"], found["low"], found["high"]) == ("b", 1.0, 1.0, 1.0)
    assert found["decided"]
    with pytest.raises(ValueError, match="twice"):
        tables.summary(pd.concat([frame, frame]))
    with pytest.raises(ValueError, match="baseline"):
        tables.differences(frame, "c")


def study():
    """Three seeds of two methods with shares and what was chosen."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(3):
        for method in ("two_stage", "mild"):
            rows.append(
                {"split": "test", "metric": "deferral_loss", "seed": seed, "method": method, "value": rng.random()}
            )
            share = rng.dirichlet([3, 2, 1])
            for quantity in ("share", "regret"):
                more = [{"agent": k, "metric": quantity, "value": v} for k, v in enumerate(share, 1)]
                rows += [{"split": "test", "seed": seed, "method": method, **one} for one in more]
            held = {"split": "validation", "seed": seed, "method": method}
            rows.append({**held, "metric": "chosen", "parameter": "l2", "value": [0.1, 1.0, 10.0][seed]})
            rows.append({**held, "metric": "chosen", "parameter": "offset/1", "value": 0.3})
            rows.append({**held, "metric": "deferral_loss", "value": seed + (method == "mild")})
    rows.append({"split": "validation", "metric": "edge", "seed": 2, "method": "mild", "parameter": "l2", "value": 1.0})
    return results.tidy(rows)


def test_a_difference_is_decided_where_its_interval_excludes_zero():
    frame = study()
    gap = tables.differences(frame, "two_stage").iloc[0]
    assert gap["decided"] == (gap["low"] > 0 or gap["high"] < 0)


def test_chosen_says_how_often_the_edge_was_taken_and_leaves_offsets_out():
    found = tables.chosen(study()).set_index("method")
    assert set(found["parameter"]) == {"l2"}
    assert found.loc["mild", ["smallest", "largest"]].tolist() == [0.1, 10.0]
    assert found["on_edge"].to_dict() == {"two_stage": 0.0, "mild": pytest.approx(1 / 3)}
    assert tables.chosen(study()[lambda f: f["metric"] != "edge"])["on_edge"].eq(0).all()


def test_per_agent_is_the_same_from_a_stored_table(tmp_path, monkeypatch):
    monkeypatch.delenv("L2D_OUT", raising=False)
    frame = study()
    results.save_table(frame, "study", tmp_path)
    back = results.stored("study", tmp_path, tmp_path)
    assert back["agent"].tolist() == frame["agent"].tolist()  # 1, not "1" and not 1.0
    found = tables.per_agent(back)
    assert found["agent"].unique().tolist() == ["expert 1", "expert 2", "expert 3"]
    np.testing.assert_allclose(found["mean"], tables.per_agent(frame)["mean"], rtol=1e-5)
    assert found.groupby("method")["share"].sum().to_numpy() == pytest.approx(np.ones(2))


def test_overview_shows_mean_and_half_interval_by_label():
    frame = study()
    shown = tables.overview(frame)
    assert list(shown.index) == ["two-stage", "MILD"]
    assert list(shown.columns) == ["loss", *(f"{q} {k}" for q in ("share", "regret") for k in (1, 2, 3))]
    row = tables.summary(frame).set_index("method").loc["mild"]
    assert shown.loc["MILD", "loss"] == f"{row['mean']:.3f} ± {row['high'] - row['mean']:.3f}"
    assert tables.best_of(frame, ["mild", "two_stage"]) == "two_stage"


def test_stored_prefers_this_run_and_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("L2D_OUT", raising=False)
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / "t.csv").write_text("value\n1\n")
    assert results.stored("t", new, old)["value"].tolist() == [1]
    (new / "t.csv").write_text("value\n2\n")
    assert results.stored("t", new, old)["value"].tolist() == [2]
    with pytest.raises(FileNotFoundError, match="missing.csv"):
        results.stored("missing", new, old)
