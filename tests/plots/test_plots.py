"""The figures: bad input named, input left alone, the same bytes twice, every row of data drawn."""

from __future__ import annotations

import io
import itertools
from functools import partial

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from l2d_utils import methods, plots
from l2d_utils.plots import style
from l2d_utils.routers import DeferralRouter

METHODS = [
    "two_stage",
    "two_stage_cost_sum",
    "mild",
    "global_temperature",
    "reweighted",
    "class_balanced",
    "focal",
    "ldam",
    "logit_adjustment",
    "vs",
    "one_vs_all",
    "dr_cpe_joint",
]


def ranked(n: int) -> pd.DataFrame:
    mean = 0.16 + 0.002 * np.arange(n)
    return pd.DataFrame({"method": METHODS[:n], "mean": mean, "low": mean - 0.003, "high": mean + 0.004})


def differences(n: int) -> pd.DataFrame:
    mean = np.linspace(-0.02, 0.01, n)
    return pd.DataFrame({"method": METHODS[:n], "mean": mean, "low": mean - 0.005, "high": mean + 0.005})


def curve_points(n: int) -> pd.DataFrame:
    x = np.linspace(0, 1, 21)
    parts = []
    for k, name in enumerate(METHODS[:n]):
        y = 0.7 - 0.2 * x + 0.02 * k * np.sin(np.pi * x)
        parts.append(pd.DataFrame({"x": x, "y": y, "low": y - 0.01, "high": y + 0.01, "method": name}))
    return pd.concat(parts)


def share_rows(n: int) -> pd.DataFrame:
    rows = [
        {"method": name, "agent": f"expert {k + 1}", "share": share}
        for name in METHODS[:n]
        for k, share in enumerate((0.7, 0.2, 0.1))
    ]
    return pd.DataFrame(rows)


def cells(n: int) -> pd.DataFrame:
    rows = [
        {"row": i, "col": j / 4, "value": (i - j) / 100, "sure": abs(i - j) > 1}
        for i, j in itertools.product(range(n), range(4))
    ]
    return pd.DataFrame(rows)


def dollar_points(n: int) -> pd.DataFrame:
    dollars = np.geomspace(0.1, 10, 5)
    parts = [
        pd.DataFrame({"method": name, "dollars": dollars, "accuracy": 0.5 + 0.1 * np.log10(dollars) + k / 100})
        for k, name in enumerate(METHODS[:n])
    ]
    return pd.concat(parts)


AGENTS = pd.DataFrame(
    {"agent": ["small", "large $3"], "dollars": [0.1, 10.0], "accuracy": [0.4, 0.7]}  # a lone dollar sign
)


def log_lines(frame: pd.DataFrame, **more):
    return plots.lines(frame, "x", "y", "method", xlabel="n", ylabel="error", xscale="log", yscale="log", **more)


FRAMES = {
    "intervals": (ranked, lambda f: plots.intervals(f, "loss", references={"oracle": 0.155, "random": 0.9})),
    "paired_differences": (differences, lambda f: plots.paired_differences(f, "loss", baseline="plug_in")),
    "curves": (curve_points, lambda f: plots.curves(f, references={"random": ([0, 1], [0.7, 0.5])})),
    "lines": (
        curve_points,
        lambda f: plots.lines(f, "x", "y", "method", xlabel="margin", ylabel="loss", verticals={"here": 0.5}),
    ),
    "shares": (share_rows, lambda f: plots.shares(f, ideal={"expert 1": 0.7})),
    "heatmap": (
        cells,
        lambda f: plots.heatmap(f, "row", "col", "value", label="difference", significant="sure", best="min"),
    ),
    "frontier": (dollar_points, lambda f: plots.frontier(f, AGENTS)),
}
NEEDED = {
    "intervals": ["method", "mean"],
    "paired_differences": ["method", "mean", "low", "high"],
    "curves": ["x", "y", "method"],
    "lines": ["x", "y", "method"],
    "shares": ["method", "agent", "share"],
    "heatmap": ["row", "col", "value", "sure"],
    "frontier": ["method", "dollars", "accuracy"],
}


def argmax(points: np.ndarray) -> np.ndarray:
    return points.argmax(axis=1)


def by_sign(points: np.ndarray) -> np.ndarray:
    return (points[:, 0] > 0).astype(int)


PICTURES = {
    "simplex_regions": lambda: plots.simplex_regions({"a": argmax}, bayes=argmax, resolution=60),
    "plane_regions": lambda: plots.plane_regions(
        {"a": by_sign, "b": by_sign},
        np.array([[0.5, 0.1], [-0.5, 0.2]]),
        np.array([1, 0]),
        ["expert 1", "expert 2"],
        xlim=(-1, 1),
        ylim=(-1, 1),
        bayes=by_sign,
        resolution=40,
    ),
    "density_bars": lambda: plots.density_bars([0.5, 0.5], {"Q": [0.2, 0.8], "R": [1.0, 0.0]}),
    "router_diagram": lambda: plots.router_diagram(["one", "two"], [0.9, 0.1], captions=["$1", "$2"]),
}


def png(fig: Figure) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def width_of(data: bytes) -> int:
    return int.from_bytes(data[16:20], "big")


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("n", [1, 12])
def test_frames_draw_the_same_page_twice_and_stay_as_they_are(kind, n):
    make, draw = FRAMES[kind]
    frame = make(n)
    before = frame.copy(deep=True)
    page = png(draw(frame))
    assert width_of(page) == 990
    if n == 12:  # drawing twice is the slow part, and the full page is the harder one to repeat
        assert png(draw(frame)) == page
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_draw_the_same_page_twice(kind):
    first, second = png(PICTURES[kind]()), png(PICTURES[kind]())
    assert first == second
    assert width_of(first) == 990


@pytest.mark.parametrize(("kind", "column"), [(kind, c) for kind, cs in NEEDED.items() for c in cs])
def test_a_missing_column_is_named(kind, column):
    make, draw = FRAMES[kind]
    with pytest.raises(ValueError, match=f"missing column '{column}'"):
        draw(make(2).drop(columns=column))


@pytest.mark.parametrize("kind", FRAMES)
def test_an_empty_frame_is_refused(kind):
    make, draw = FRAMES[kind]
    with pytest.raises(ValueError, match="no rows"):
        draw(make(2).iloc[:0])


def test_a_number_that_is_not_finite_is_refused_with_its_row():
    frame = ranked(3)
    frame.loc[1, "mean"] = np.nan
    with pytest.raises(ValueError, match="'mean' has nan in row 1"):
        plots.intervals(frame, "loss")
    with pytest.raises(ValueError, match="'low' has inf in row 0"):
        plots.intervals(ranked(1).assign(low=np.inf), "loss")
    with pytest.raises(ValueError, match="'mean' must hold numbers"):
        plots.intervals(ranked(1).assign(mean="much"), "loss")


def test_a_single_run_without_interval_is_drawn():
    fig = plots.intervals(ranked(2)[["method", "mean"]], "loss")
    assert len(png(fig)) > 1000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.intervals(pd.concat([ranked(1)] * 2), "loss"), "row 1 repeats"),
        (lambda: plots.intervals(ranked(1), "loss", better="up"), "better"),
        (lambda: plots.intervals([1, 2], "loss"), "expected a DataFrame"),
        (lambda: log_lines(curve_points(1)), "'x' has 0.0 in row 0, must be > 0"),
        (lambda: log_lines(curve_points(1).assign(x=1.0, y=0.0)), "'y' has 0.0 in row 0, must be > 0"),
        (
            lambda: log_lines(curve_points(1).assign(x=1.0), references={"flat": ([0, 1], [1])}),
            r"references\['flat'\]: x has shape",
        ),
        (lambda: plots.shares(share_rows(1).assign(share=1.5)), "not in \\[0, 1\\]"),
        (lambda: plots.shares(share_rows(1), ideal={"nobody": 0.5}), "no agent 'nobody'"),
        (lambda: plots.heatmap(cells(1).assign(value=np.nan), "row", "col", "value", label=""), "no finite"),
        (lambda: plots.frontier(dollar_points(1).assign(dollars=-1.0), AGENTS), "dollars"),
        (
            lambda: plots.lines(curve_points(1), "x", "y", "method", xlabel="", ylabel="", low="low"),
            "low, high",
        ),
        (lambda: plots.simplex_regions({}), "decide"),
        (lambda: plots.simplex_regions({"a": lambda p: p[:, 0]}), "integers"),
        (lambda: plots.simplex_regions({"a": lambda p: np.array([0])}), "returned shape"),
        (lambda: plots.router_diagram(["a"], [1.0], inputs=np.full((1, 8, 8), 9.0)), "from 0 to 1"),
        (lambda: plots.router_diagram(["a"], [1.0], inputs=np.zeros((8, 8))), "inputs: expected shape"),
        (lambda: plots.density_bars([0.5, 0.6], {"Q": [0.5, 0.5]}), "sums to 1.1"),
        (lambda: plots.density_bars([1.0, 0.0], {"Q": [0.5, 0.5]}), "entry 1 is 0"),
        (lambda: plots.router_diagram(["a"], [0.5, 0.5]), "2 entries for 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def drawn_points(fig: Figure) -> set[tuple[float, float]]:
    return {
        (round(float(x), 9), round(float(y), 9))
        for ax in fig.axes
        for line in ax.lines
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_intervals_put_the_best_on_top_and_draw_every_mean(better):
    frame = ranked(5).sample(frac=1, random_state=3)
    fig = plots.intervals(frame, "loss", better=better)
    ax = fig.axes[0]
    best = frame.sort_values("mean", ascending=better == "lower")
    assert [t.get_text() for t in ax.get_yticklabels()] == [plots.method_label(m) for m in best["method"]]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # position 0 is the top
    wanted = {(round(m, 9), float(y)) for y, m in enumerate(best["mean"])}
    assert wanted <= drawn_points(fig)


def test_a_difference_is_filled_exactly_when_its_interval_excludes_zero():
    frame = differences(7)
    fig = plots.paired_differences(frame, "loss", baseline="plug_in")
    dots = [line for line in fig.axes[0].lines if line.get_marker() not in ("None", "", None)]
    assert len(dots) == len(frame)
    filled = {round(float(d.get_xdata()[0]), 9): d.get_markerfacecolor() == d.get_markeredgecolor() for d in dots}
    for row in frame.itertuples():
        assert filled[round(row.mean, 9)] == (row.low > 0 or row.high < 0)
    assert 0 < sum(filled.values()) < len(frame)


@pytest.mark.parametrize(
    ("value", "fmt", "text"),
    [
        (-0.0004, "{:+.3f}", "0.000"),
        (-0.0004, "{:+.4f}", "−0.0004"),
        (1e-9, "{:+.2f}", "0.00"),
        (0.2, "{:+.1f}", "+0.2"),
    ],
)
def test_what_is_rounded_to_zero_has_no_sign(value, fmt, text):
    assert style.signed_text(value, fmt) == text


def test_shares_draw_one_bar_per_method_and_agent():
    frame = share_rows(4)
    fig = plots.shares(frame)
    widths = [patch.get_width() for ax in fig.axes for patch in ax.patches]
    assert len(widths) == len(frame)
    assert sorted(widths) == pytest.approx(sorted(frame["share"]))


def test_heatmap_marks_the_significant_cells_and_frames_the_lowest():
    frame = cells(4)
    fig = plots.heatmap(frame, "row", "col", "value", label="d", significant="sure", best="min")
    ax = fig.axes[0]
    assert sum(len(line.get_xdata()) for line in ax.lines) == frame["sure"].sum()
    assert len(ax.texts) == len(frame)
    lowest = frame.loc[frame["value"].idxmin()]
    assert ax.patches[0].get_center() == pytest.approx((lowest["col"] * 4 + 0.5, lowest["row"] + 0.5))


@pytest.mark.parametrize("n", [1, 4, 12])
def test_every_curve_has_a_line_and_a_name(n):
    fig = plots.curves(curve_points(n))
    assert len(fig.axes[0].lines) == n
    assert named(fig) == [plots.method_label(name) for name in METHODS[:n]][::-1] or n == 1  # as on the page


def test_lines_on_log_axes_keep_the_slope_of_a_reference():
    n = np.array([100.0, 1000.0, 10000.0])
    frame = pd.DataFrame({"x": n, "y": 3 / np.sqrt(n), "method": "mild"})
    fig = log_lines(frame, references={"slope −1/2": (n, 9 / np.sqrt(n))})
    ax = fig.axes[0]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    drawn = [ax.transData.transform(line.get_xydata()) for line in ax.lines]
    slopes = [np.diff(points, axis=0) for points in drawn]
    np.testing.assert_allclose(*(slope[:, 1] / slope[:, 0] for slope in slopes))  # parallel on the page
    assert named(fig) == ["MILD", "slope −1/2"]


def test_frontier_names_every_agent_and_takes_a_log_axis_when_dollars_span_widely():
    fig = plots.frontier(dollar_points(2), AGENTS)
    assert fig.axes[0].get_xscale() == "log"
    assert named(fig) == ["two-stage", "two-stage, cost-sum", "small", r"large \$3"]
    narrow = plots.frontier(dollar_points(2).query("dollars > 2"), AGENTS.tail(1)).axes[0]
    assert narrow.get_xscale() == "linear"


def test_simplex_regions_ask_about_points_of_the_simplex_and_show_the_winner_there():
    asked = []

    def rule(points):
        asked.append(points)
        return argmax(points)

    ax = plots.simplex_regions({"a": rule}, resolution=80).axes[0]
    assert (asked[0] >= 0).all()
    np.testing.assert_allclose(asked[0].sum(axis=1), 1, atol=1e-12)
    image = ax.images[0].get_array()
    assert image[2, 8] == 0 and image[2, -9] == 1 and image[-8, 40] == 2  # left, right, top corner


def test_plane_regions_draw_every_example():
    points = np.random.default_rng(0).normal(size=(30, 2))
    best = by_sign(points)
    fig = plots.plane_regions({"a": by_sign}, points, best, ["x", "y"], xlim=(-3, 3), ylim=(-3, 3))
    assert sum(len(line.get_xdata()) for line in fig.axes[0].lines) == len(points)


def test_density_bars_have_the_heights_given_and_leave_their_input_alone():
    p, q = np.array([0.25, 0.75]), np.array([0.5, 0.5])
    fig = plots.density_bars(p, {"Q": q})
    assert [bar.get_height() for bar in fig.axes[0].patches] == pytest.approx([0.25, 0.75, 0.5, 0.5])
    assert (p == [0.25, 0.75]).all() and (q == 0.5).all()


def test_router_diagram_draws_a_ribbon_per_share_above_zero():
    fig = plots.router_diagram(["a", "b", "c"], [0.6, 0.4, 0.0])
    ribbons = [patch for patch in fig.axes[0].patches if type(patch).__name__ == "PathPatch"]
    assert len(ribbons) == 3  # one from the inputs, two to agents
    heights = [patch.get_path().vertices[10, 1] - patch.get_path().vertices[0, 1] for patch in ribbons]
    assert heights[1] / heights[0] == pytest.approx(0.6)


# --- the style -------------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes (2009), full deficiency, on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}


def lab(color: str, vision: np.ndarray) -> np.ndarray:
    """CIELAB coordinates of a colour as seen with `vision`."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ (
        vision @ linear
    ).clip(0, 1)
    f = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_no_two_methods_of_the_table_look_or_read_alike():
    assert len({to_rgb(method.color) for method in methods.METHODS.values()}) == len(methods.METHODS)
    assert len({method.label for method in methods.METHODS.values()}) == len(methods.METHODS)
    assert {method.line for method in methods.METHODS.values()} <= {"-", "--", "-.", ":"}


@pytest.mark.parametrize("vision", VISIONS)
def test_the_leading_methods_are_told_apart_by_every_reader(vision):
    leading = ["two_stage", "mild", "global_temperature", "dr_cpe_joint", "dr_cpe_marginal", "plug_in"]
    seen = {name: lab(methods.find(name).color, VISIONS[vision]) for name in leading}
    for a, b in itertools.combinations(leading, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > 12, (a, b)


def test_names_outside_the_table_get_colours_of_their_own():
    names = ["mild", "two_stage", *[f"llm-{k}" for k in range(12)]]
    styles = plots.method_styles(names)
    mild = methods.find("mild")
    assert styles["mild"] == (mild.color, mild.marker, mild.line)
    assert len({style.color for style in styles.values()}) == len(names)
    assert plots.method_label("gpt$4") == plots.method_label(plots.method_label("gpt$4")) == r"gpt\$4"


@pytest.fixture
def toy():
    """A method that only this test knows."""
    make = partial(DeferralRouter, "two_stage")
    yield methods.register(methods.Method("toy_loss", "my $1 loss", "[ours]", "#123456", "H", "-.", make=make))
    del methods.METHODS["toy_loss"]


WITH_METHODS = {kind: FRAMES[kind] for kind, needed in NEEDED.items() if "method" in needed}


@pytest.mark.parametrize("kind", WITH_METHODS)
def test_a_newly_registered_method_is_labelled_and_drawn_by_every_plot(kind, toy):
    make, draw = WITH_METHODS[kind]
    frame = make(1).assign(method=toy.key)
    assert_drawn(draw(frame), toy, colored=kind != "shares")  # its bars have the agents' colours


def test_density_bars_label_and_draw_it_too(toy):
    assert_drawn(plots.density_bars([0.5, 0.5], {toy.key: [0.2, 0.8]}), toy)


def test_heatmaps_and_outcomes_label_methods_too(toy):
    grid = pd.DataFrame({"method": [toy.key, "mild"], "data": "d", "value": [0.1, 0.2]})
    for rows, cols, axis in (("method", "data", "y"), ("data", "method", "x")):
        ax = plots.heatmap(grid, rows, cols, "value", label="loss").axes[0]
        texts = [text.get_text() for text in getattr(ax, f"get_{axis}ticklabels")()]
        assert texts == [r"my \$1 loss", "MILD"]
    frame = pd.DataFrame({"group": "g", "name": [toy.key], "outcome": "holds", "mean": [0.0]})
    assert r"my \$1 loss" in texts_of(plots.outcomes(frame, "value"))


def assert_drawn(fig: Figure, method: methods.Method, colored: bool = True) -> None:
    """Its label is read somewhere, and a line has its colour."""
    assert any(r"my \$1 loss" in text for text in texts_of(fig))
    colors = {to_rgb(line.get_color()) for ax in fig.axes for line in ax.lines}
    assert not colored or to_rgb(method.color) in colors


def texts_of(fig: Figure) -> list[str]:
    return [text.get_text() for text in fig.findobj(Text)]


def named(fig: Figure) -> list[str]:
    return [text.get_text() for text in fig.legends[0].get_texts()]


def test_drawing_does_not_touch_the_readers_settings_and_use_style_does():
    with mpl.rc_context():
        mpl.rcParams.update({"font.size": 5, "axes.grid": False})
        first = png(plots.intervals(ranked(3), "loss"))
        assert mpl.rcParams["font.size"] == 5
        plots.use_style()
        assert mpl.rcParams["font.size"] == 12
        assert png(plots.intervals(ranked(3), "loss")) == first


def test_a_name_outside_the_table_never_gets_a_colour_in_use():
    styles = plots.method_styles(["two_stage, q = 0.5", "two_stage", "plug_in", "two_stage, q = 1"])
    colors = {to_rgb(style.color) for style in styles.values()}
    assert len(colors) == len(styles)


def test_outcomes_draw_every_row_with_its_marker():
    frame = pd.DataFrame(
        {
            "group": ["one", "one", "two", "two"], "name": list("abcd"), "text": ["", "1 of 2", "", "none"],
            "outcome": ["holds", "open", "against", "NOT TESTABLE HERE"], "mean": [0.1, 0.2, 0.3, np.nan],
            "low": [0.0, 0.1, 0.2, np.nan], "high": [0.2, 0.3, 0.4, np.nan],
        }
    )  # fmt: skip
    before = frame.copy()
    fig = plots.outcomes(frame, "value", line=0.0, band=(-0.1, 0.1))
    pd.testing.assert_frame_equal(frame, before)
    (ax,) = fig.axes
    dots = [line for line in ax.lines if line.get_marker() not in ("", "None")]
    assert [line.get_xdata()[0] for line in dots] == [0.1, 0.2, 0.3]
    assert [line.get_marker() for line in dots] == ["o", "s", "D"]
    assert [label.get_text() for label in ax.get_yticklabels()] == list("abcd")
    assert {"one", "two", "1 of 2", "none"} <= {text.get_text() for text in ax.texts}
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["holds", "open", "against"]


def test_outcomes_share_rows_between_panels():
    frame = pd.DataFrame(
        {"group": "g", "name": ["a", "b", "a"], "outcome": "signal", "mean": [1.0, 2.0, 3.0], "data": ["x", "x", "y"]}
    )
    left, right = plots.outcomes(frame, "value", panel="data").axes
    assert left.get_ylim() == right.get_ylim() and left.get_xlim() == right.get_xlim()
    assert [line.get_ydata()[0] for line in right.lines] == [left.lines[0].get_ydata()[0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcome": "perhaps"}, "outcome"),
        ({"mean": np.inf}, "mean"),
        ({"name": "a"}, "repeats"),
        ({"group": None}, "group"),
    ],
)
def test_outcomes_name_what_is_wrong(change, message):
    frame = pd.DataFrame({"group": "g", "name": ["a", "b"], "outcome": "holds", "mean": [0.0, 1.0]}).assign(**change)
    with pytest.raises(ValueError, match=message):
        plots.outcomes(frame, "value")


def test_a_region_too_small_for_its_name_has_none():
    ax = plots.simplex_regions({"a": lambda p: (p / [7, 2, 1]).argmax(axis=1)}, resolution=80).axes[0]
    assert {text.get_text() for text in ax.texts} >= {"agent 2", "agent 3"}
    assert "agent 1" not in {text.get_text() for text in ax.texts}
