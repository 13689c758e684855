"""The table of methods: one entry is all that a method needs, and a bad entry is named at once."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from l2d_utils import losses, methods, plots
from l2d_utils.data import Split
from l2d_utils.methods import Method, register
from l2d_utils.routers import DeferralRouter, PlugInRouter
from l2d_utils.studies import compare, tables


@pytest.fixture(autouse=True)
def table_as_before():
    """What a test registers is gone after it."""
    before = dict(methods.METHODS)
    yield
    methods.METHODS.clear()
    methods.METHODS.update(before)


def sharpened(costs, power=1.0):
    return losses.pair_loss((costs.max(axis=1, keepdims=True) - costs) ** power)


def toy(key="toy", label="a toy", mark="[ours]", color="#7B3F99", marker="H", **more):
    return Method(key, label, mark, color, marker, **{"make": partial(DeferralRouter, sharpened), **more})


def problem_of(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(240, 3))
    costs = (rng.random((240, 3)) > 1 / (1 + np.exp(-X * [2.0, 1.0, 1.0]))).astype(float)
    return compare.Problem(X, costs, Split(*np.split(np.arange(240), [120, 180])))


def test_ten_lines_in_one_place_and_the_method_is_everywhere():
    register(
        Method(
            "toy", "a toy", "[ours]", "#7B3F99", "H",
            make=partial(DeferralRouter, sharpened),
            own=({"power": 1.0}, {"power": 2.0}),
        )
    )  # fmt: skip
    assert methods.label("toy") == "a toy"
    for comparison in (methods.ROUTERS, methods.PROMPTS, methods.OWN):
        assert methods.standing_in(comparison)[-1] == "toy"

    tuned = compare.tune(["toy"], problem_of(0))["toy"]
    assert tuned.chosen["power"] in (1.0, 2.0) and tuned.chosen["l2"] in methods.RIDGES
    by_hand = [
        DeferralRouter(sharpened, {"power": power}, l2).fit(problem_of(0).X[:120], problem_of(0).costs[:120])
        for power in (1.0, 2.0)
        for l2 in methods.RIDGES
    ]
    held = problem_of(0).X[120:180], problem_of(0).costs[120:180]
    assert tuned.validation_loss == min(-router.score(*held) for router in by_hand)

    keys = ["two_stage", "toy", "oracle"]
    frame = compare.compare(keys, problem_of, range(3), every=3)
    summary = tables.summary(frame)
    assert list(summary["method"]) == keys and np.isfinite(summary[["mean", "low", "high"]]).all(axis=None)

    differences = tables.differences(frame[frame["method"] != "oracle"], "two_stage")
    for fig in (plots.intervals(summary, "loss"), plots.paired_differences(differences, "loss", baseline="two_stage")):
        axes = fig.axes[0]
        assert "a toy" in [text.get_text() for text in axes.get_yticklabels()]
        drawn = [line for line in axes.lines if line.get_marker() == "H"]
        assert drawn and to_hex(drawn[0].get_markeredgecolor()).upper() == "#7B3F99"


def test_a_moved_router_shares_the_fits_of_a_new_base(monkeypatch):
    register(toy(settings=({"l2": 0.1}, {"l2": 1.0})))
    register(toy("toy_offsets", base="toy", offsets=methods.shrunken, make=None))
    fits = []
    fit = DeferralRouter.fit
    monkeypatch.setattr(DeferralRouter, "fit", lambda self, *rows: (fits.append(self.l2), fit(self, *rows))[1])
    tuned = compare.tune(["toy", "toy_offsets"], problem_of(0))
    assert fits == [0.1, 1.0]
    assert set(tuned["toy_offsets"].chosen) == {"l2", "offset/1", "offset/2", "offset/3"}


def test_a_kept_result_of_a_new_loss_depends_on_its_code():
    from l2d_utils.cache import describe

    register(toy())
    before = describe(methods.fingerprint(["toy"]))
    del methods.METHODS["toy"]
    register(toy(make=partial(DeferralRouter, lambda costs: losses.pair_loss(costs.max() - costs))))
    assert describe(methods.fingerprint(["toy"])) != before


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (dict(key=""), "^key: .*none"),
        (dict(label=""), "^label: .*'toy' has none"),
        (dict(mark=""), "^mark: .*'toy' has none"),
        (dict(mark="mine"), r"^mark: 'toy' must say \[paper\]"),
        (dict(color=""), "^color: .*'toy' has none"),
        (dict(marker=""), "^marker: .*'toy' has none"),
        (dict(key="mild"), "^key: 'mild' is taken by 'MILD'"),
        (dict(base="nobody", offsets=methods.shrunken), "^base: 'toy' moves 'nobody'"),
        (dict(base="oracle", offsets=methods.shrunken), "^base: 'toy' moves 'oracle'"),
        (dict(offsets=methods.shrunken), "^base, offsets: 'toy'"),
        (dict(base="mild"), "^base, offsets: 'toy'"),
        (dict(make=None), "^make: 'toy'"),
        (dict(settings=({"l2": 1.0}, {"ridge": 1.0})), "^settings: .*'toy' does not take .*ridge"),
        (dict(make=PlugInRouter, own=({"gamma": 1.0},)), "^settings: .*'toy' does not take .*loss_params"),
        (dict(own=({"power": 1.0}, {"pover": 2.0})), "^settings: .*'toy' does not take .*pover"),
        (dict(make=partial(DeferralRouter, "mild"), own=({"gama": 0.3},)), "^settings: .*'toy' does not take .*gama"),
    ],
)
def test_a_bad_entry_is_named_and_leaves_the_table_alone(bad, message):
    before = dict(methods.METHODS)
    with pytest.raises(ValueError, match=message):
        register(toy(**bad))
    assert dict(methods.METHODS) == before


def test_every_entry_of_the_table_can_be_told_apart():
    drawn = [(m.color.upper(), m.marker, m.line) for m in methods.METHODS.values()]
    labels = [m.label for m in methods.METHODS.values()]
    assert len(set(drawn)) == len(drawn) and len(set(labels)) == len(labels)


def test_what_no_method_is_called_is_named():
    with pytest.raises(ValueError, match="'nobody'"):
        methods.find("nobody")
    assert methods.label("nobody") == "nobody"


def test_the_ten_lines_of_the_readme_run_as_printed():
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
    (block,) = (part for part in re.findall(r"```python\n(.*?)```", text, re.S) if "methods.register" in part)
    exec(compile(block, "README.md", "exec"), {})
    found = compare.compare(["two_stage", "row_wise"], problem_of, [0, 1], every=3, solver={"tol": 1e-3})
    assert set(tables.differences(found, "two_stage")["method"]) == {"row_wise"}
    assert methods.label("row_wise") == "row-wise two-stage"
