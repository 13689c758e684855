"""Curves: deferral curves, functions of one variable, errors on log axes, accuracy against dollars."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from l2d_utils.methods import METHODS
from l2d_utils.plots import style
from l2d_utils.plots.checks import check_choice, check_frame, panels_of, refuse_rows

Reference = tuple[Sequence[float], Sequence[float]]


def _line_styles(values: pd.Series) -> dict[object, style.MethodStyle]:
    """The methods' own styles for names; an ordered ramp of colours for numbers."""
    names = list(values.unique())
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return style.method_styles(names)
    names.sort()
    ramp = colormaps["viridis"](np.linspace(0, 0.85, len(names)))
    return {name: style.MethodStyle(to_hex(color), "") for name, color in zip(names, ramp, strict=True)}


def _draw_references(axes: Sequence[Axes], references: Mapping[str, Reference]) -> list[Line2D]:
    """Broken lines on all axes, grey unless the methods table knows the name; their entries of the legend."""
    keys = []
    for (name, (x, y)), dash in zip(references.items(), itertools.cycle(("--", "-.", ":"))):
        x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        if x.ndim != 1 or x.shape != y.shape or not len(x):
            raise ValueError(f"references[{name!r}]: x has shape {x.shape}, y has shape {y.shape}")
        pen = style.MethodStyle(getattr(METHODS.get(name), "color", style.MUTED), "", dash)
        for ax in axes:
            ax.plot(x, y, color=pen.color, linewidth=1.6, linestyle=dash, zorder=1.5)
        keys.append(style.key(pen, style.method_label(name)))
    return keys


def _draw_lines(ax: Axes, frame: pd.DataFrame, styles: Mapping, markers: bool, band: tuple[str, str] | None) -> None:
    """One line per style; frame: columns x, y, hue and those of `band`. A crowded line carries only a few markers."""
    for i, (name, pen) in enumerate(styles.items()):
        rows = frame[frame["hue"] == name].sort_values("x", kind="stable")
        if rows.empty:
            continue
        if band and rows[[*band]].notna().all(axis=None):
            ax.fill_between(rows["x"], rows[band[0]], rows[band[1]], color=pen.color, alpha=0.16, linewidth=0)
        ax.plot(
            rows["x"], rows["y"], color=pen.color, linestyle=pen.linestyle, zorder=2 + 0.01 * i,
            marker=pen.marker if markers else "", markeredgewidth=0.8,
            markevery=(0.03 + 0.035 * (i % 4), 0.16) if len(rows) > 12 else None,
            markeredgecolor=pen.color if pen.marker in "|_x" else style.FACE,
        )  # fmt: skip


@style.styled
def lines(
    frame: pd.DataFrame, x: str, y: str, hue: str, *, xlabel: str, ylabel: str, low: str | None = None,
    high: str | None = None, references: Mapping[str, Reference] | None = None,
    verticals: Mapping[str, float] | None = None, panel: str | None = None, hue_label: str | None = None,
    xscale: str = "linear", yscale: str = "linear", ylim: tuple[float, float] | None = None, percent: str = "",
    markers: bool = False, title: str | None = None,
) -> Figure:  # fmt: skip
    """Lines of `y` over `x`, one per value of `hue`: losses against the margin, errors against the sample size.

    Args:
        frame: columns `x`, `y` (numbers, in the units that xlabel and ylabel state), `hue` (keys of methods, or
            anything else; numbers get an ordered ramp), and `low`, `high` when given (a band; both or neither).
        references: name → (x values, as many y values) of broken grey curves. verticals: name → x of vertical lines.
        panel: column that splits the frame into panels with common axes. hue_label: title of the legend.
        xscale, yscale: "linear" or "log" (numbers > 0). percent: axes of fractions ("x", "y", "xy").
    """
    if (low is None) != (high is None):
        raise ValueError("low, high: give both columns of the band or neither")
    check_choice("percent", percent, ["", "x", "y", "xy"])
    band = (low, high) if low else None
    frame = check_frame("frame", frame, [hue, panel], [x, y, *(band or ())])
    for column, scale in ((x, xscale), (y, yscale)):
        refuse_rows("frame", frame, column, (frame[column] <= 0) & (scale == "log"), ", must be > 0")
    styles, panels = _line_styles(frame[hue]), panels_of(frame, panel)
    grid = style.panel_grid(len(panels))
    fig = style.new_figure({1: 4.8, 2: 4.3}.get(grid[1], 3.6) if grid[0] == 1 else 1.1 + 2.7 * grid[0], title)
    axes = style.panel_axes(fig, len(panels), grid, sharex=True, sharey=True)
    axes[0].set(xscale=xscale, yscale=yscale)  # of all: the axes are shared
    reference_keys = _draw_references(axes, references or {})
    for k, (ax, (name, rows)) in enumerate(zip(axes, panels, strict=True)):
        ax.set_title(style.plain(name), pad=22 if verticals else None)
        _draw_lines(ax, rows.assign(x=rows[x], y=rows[y], hue=rows[hue]), styles, markers, band)
        for text, at in (verticals or {}).items():  # named above the axes; the title makes room for the names
            ax.axvline(at, color=style.MUTED, linewidth=1.2, linestyle=":")
            look = {"xycoords": ax.get_xaxis_transform(), "ha": "center", "va": "bottom"}
            style.note(ax, style.plain(text), (at, 1), (0, 3), **look)
        if ylim:
            ax.set_ylim(ylim)
        if k + grid[1] >= len(panels):
            ax.set_xlabel(xlabel)
            ax.tick_params(axis="x", labelbottom=True)
        if xscale == "linear" and (frame[x] % 1 == 0).all():
            ax.xaxis.set_major_locator(MaxNLocator(nbins=10 // grid[1] + 1, integer=True))
        for axis in percent:
            style.as_percent(getattr(ax, f"{axis}axis"))
    if len(axes) == 1:
        axes[0].set_ylabel(ylabel)
    else:
        fig.supylabel(ylabel, fontsize=12)
    order = list(styles)
    if not pd.api.types.is_numeric_dtype(frame[hue]):  # the legend's order is that of the lines on the page
        heights = frame.groupby(hue)[y].mean()
        order.sort(key=lambda name: -heights[name])
    handles = [style.key(styles[name], style.method_label(name), marker=markers) for name in order]
    style.legend(fig, handles + reference_keys, beside=len(axes) == 1, title=hue_label)
    return fig


def curves(
    frame: pd.DataFrame, *, xlabel: str = "deferral rate", ylabel: str = "system accuracy", percent: str = "xy",
    **options: object,
) -> Figure:  # fmt: skip
    """Curves of methods with bands: `lines` of accuracy against deferral rate, unless other labels are given.

    Args:
        frame: columns `x`, `y`, `method`, and optionally `low`, `high` (the band around y, in its unit). With the
            defaults x is the deferral rate and y the system accuracy, both fractions; for others percent="".
        options: others of `lines`, whose errors are raised: references, panel, title.
    """
    band = {"low": "low", "high": "high"} if {"low", "high"} <= set(getattr(frame, "columns", ())) else {}
    options |= band | {"xlabel": xlabel, "ylabel": ylabel, "percent": percent}
    return lines(frame, "x", "y", "method", markers=True, **options)


@style.styled
def frontier(
    frame: pd.DataFrame, agents: pd.DataFrame, *, ylabel: str = "accuracy", title: str | None = None
) -> Figure:
    """Accuracy against dollars: methods as curves over their settings, each agent alone as a hollow point.

    Dollars stand on a log axis when they are positive and span more than a factor of 30.

    Args:
        frame: columns `method`, `dollars` (>= 0, per 1,000 requests), `accuracy` (a fraction) and optionally `low`,
            `high` (interval of the accuracy); rows of a method are joined in order of dollars.
        agents: columns `agent`, `dollars`, `accuracy`.
    """
    frame = check_frame("frame", frame, ["method"], ["dollars", "accuracy"], ["low", "high"])
    agents = check_frame("agents", agents, ["agent"], ["dollars", "accuracy"])
    for name, table in (("frame", frame), ("agents", agents)):
        refuse_rows(name, table, "dollars", table["dollars"] < 0)
    dollars = np.concatenate([frame["dollars"], agents["dollars"]])
    log = bool(dollars.min() > 0 and dollars.max() > 30 * dollars.min())
    styles = style.method_styles(list(frame["method"].unique()))
    fig = style.new_figure(4.6 + 0.13 * (len(styles) + len(agents)), title)  # the legend has two columns
    ax = fig.subplots()
    ax.set_xscale("log" if log else "linear")
    frame = frame.rename(columns={"dollars": "x", "accuracy": "y", "method": "hue"})
    _draw_lines(ax, frame, styles, markers=True, band=("low", "high"))
    handles = [style.key(pen, style.method_label(name)) for name, pen in styles.items()]
    for k, row in enumerate(agents.itertuples()):
        look = {"markersize": 10, "markerfacecolor": style.FACE, "markeredgewidth": 2, "zorder": 5}
        look |= {"color": style.readable(style.agent_color(k)), "label": style.plain(row.agent)}
        handles += ax.plot([row.dollars], [row.accuracy], style.agent_marker(k), linestyle="none", **look)
    ax.margins(x=0.08, y=0.1)
    if log:
        ax.xaxis.set_major_formatter(lambda value, _: style.number_text(value))
    style.as_percent(ax.yaxis)
    ax.set_xlabel("dollars per 1,000 requests" + (" (log scale)" if log else ""))
    ax.set_ylabel(ylabel)
    style.legend(fig, handles, title="hollow: one agent alone")
    return fig
