"""Methods against each other: one number with its interval, paired differences, and shares per agent."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l2d_utils.plots.checks import check_choice, check_frame, check_unique, panels_of
from l2d_utils.plots.style import (
    FACE,
    GREEN,
    INK,
    MUTED,
    agent_color,
    as_percent,
    in_points,
    method_label,
    method_styles,
    new_figure,
    panel_axes,
    plain,
    readable,
    signed_text,
    styled,
    tint,
)

ROW = 0.34  # inches per method


def _method_axis(ax: Axes, order: list, first: bool) -> None:
    """Methods down the y axis, first of `order` on top."""
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.set_yticks(range(len(order)), [method_label(name) for name in order])
    ax.tick_params(axis="y", length=0, labelleft=first)
    ax.grid(axis="y", visible=False)
    ax.spines["left"].set_visible(False)


def _ranked(frame: pd.DataFrame, better: str) -> list:
    means = frame.groupby("method", sort=False)["mean"].mean()
    return list(means.sort_values(ascending=better == "lower", kind="stable").index)


def _draw_references(ax: Axes, references: Mapping[str, float], values: np.ndarray, fmt: str) -> None:
    """Labelled vertical lines above the axes, in as many rows as the labels need. A reference too far
    from the data (values, NaN left out) to share its scale is named at the edge that it lies beyond."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    reach = high - low or 0.1 * max(abs(low), 1.0)
    inside = {name: x for name, x in references.items() if low - 0.6 * reach <= x <= high + 0.6 * reach}
    left, right = min([low, *inside.values()]), max([low + reach, *inside.values()])
    room = 0.06 * (right - left)
    ax.set_xlim(left - room, right + room)
    fig = ax.figure
    fig.draw_without_rendering()
    renderer = fig.canvas.get_renderer()
    frame = ax.get_window_extent()
    ends: list[float] = []  # right-hand end, in pixels, of the last label of each row
    styles = method_styles(list(references))
    for name, x in sorted(references.items(), key=lambda item: item[1]):
        label, color = f"{method_label(name)} {fmt.format(x)}", styles[name].color
        at, align = x, "center"
        if name in inside:
            ax.axvline(x, color=color, linestyle=styles[name].linestyle, linewidth=1.5, zorder=1)
        elif x < left:
            at, align, label = left - room, "left", f"◂ {label}"
        else:
            at, align, label = right + room, "right", f"{label} ▸"
        look = {"ha": align, "va": "bottom", "fontsize": 11, "color": readable(color)}
        text = ax.annotate(label, (at, 1), xycoords=ax.get_xaxis_transform(), **in_points(0, 4), **look)
        box = text.get_window_extent(renderer)
        # A label near an edge of the axes is slid inside, so that it cannot leave the page.
        slide = max(0.0, frame.x0 - box.x0) - max(0.0, box.x1 - frame.x1)
        row = next((i for i, end in enumerate(ends) if box.x0 + slide > end + 8), len(ends))
        ends[row : row + 1] = [box.x1 + slide]
        text.set_position((slide * 72 / fig.dpi, 4 + 15 * row))
    ax.set_title(ax.get_title(loc="left"), pad=8 + 15 * len(ends))


def _number_at_right(ax: Axes, y: int, text: str, *, bold: bool = False) -> None:
    look = {"va": "center", "fontsize": 11, "color": INK, "fontweight": "bold" if bold else "normal"}
    ax.annotate(text, (1, y), xycoords=ax.get_yaxis_transform(), **in_points(6, 0), **look)


@styled
def intervals(
    frame: pd.DataFrame,
    value: str,
    *,
    better: str = "lower",
    references: Mapping[str, float] | None = None,
    panel: str | None = None,
    percent: bool = False,
    title: str | None = None,
) -> Figure:
    """Methods ranked by their mean, best on top: a dot, its interval, and the number at the right.

    Args:
        frame: columns `method`, `mean`, and optionally `low`, `high` (same unit as `mean`; NaN: no interval is drawn);
            one row per method, or per method and value of the column named by `panel`.
        value: the label of the x axis, with its unit. better: "lower" or "higher".
        references: name → x of named vertical lines (best single, oracle). percent: values are fractions.

    Raises:
        ValueError: a missing column, an empty frame, a non-finite mean or a repeated method.
    """
    check_choice("better", better, ["lower", "higher"])
    frame = check_frame("frame", frame, ["method", *([panel] if panel else [])], ["mean"], ["low", "high"])
    check_unique("frame", frame, ["method", *([panel] if panel else [])])
    order, panels = _ranked(frame, better), panels_of(frame, panel)
    styles = method_styles(order)
    fmt = "{:.1%}" if percent else "{:.3f}"
    fig = new_figure(1.45 + ROW * len(order) + (0.3 if references else 0), title)
    axes = fig.subplots(1, len(panels), squeeze=False)[0]
    for i, (ax, (name, rows)) in enumerate(zip(axes, panels, strict=True)):
        _method_axis(ax, order, first=i == 0)
        ax.set_title(plain(name))
        for row in rows.itertuples():
            y, style = order.index(row.method), styles[row.method]
            ax.plot([row.low, row.high], [y, y], color=style.color, linewidth=3, alpha=0.55, solid_capstyle="butt")
            look = {"color": style.color, "markersize": 8, "markeredgewidth": 2 if style.marker in "|_x" else 0.8}
            ax.plot([row.mean], [y], style.marker, linestyle="none", **look)
            _number_at_right(ax, y, signed_text(row.mean, fmt))
        ax.locator_params(axis="x", nbins=max(3, 7 // len(panels)) if len(panels) < 4 else 2)
        if percent:
            as_percent(ax.xaxis)
        _draw_references(ax, references or {}, rows[["mean", "low", "high"]].to_numpy(), fmt)
    fig.supxlabel(f"{value}   " + ("(← better)" if better == "lower" else "(better →)"), fontsize=12)
    return fig


@styled
def paired_differences(frame: pd.DataFrame, value: str, *, baseline: str, title: str | None = None) -> Figure:
    """Forest plot of paired differences (method minus baseline; below 0 is better) with 95 % intervals.

    Args:
        frame: columns `method`, `mean`, `low`, `high`, one row per method, in the unit of `value`. A marker is filled
            when its interval excludes 0.
        value: the label of the x axis with its unit. baseline: the method subtracted (its key, or any name).

    Raises:
        ValueError: a missing column, an empty frame, a non-finite number or a repeated method.
    """
    frame = check_frame("frame", frame, ["method"], ["mean", "low", "high"])
    check_unique("frame", frame, ["method"])
    order = _ranked(frame, "lower")
    styles = method_styles(order)
    fig = new_figure(1.7 + ROW * len(order), title)
    ax = fig.subplots()
    _method_axis(ax, order, first=True)
    reach = 1.12 * max(float(frame[["mean", "low", "high"]].abs().to_numpy().max()), 1e-12)
    fmt = "{:+.3f}" if reach > 0.1 else "{:+.4f}"
    ax.axvspan(-reach, 0, color=tint(GREEN), alpha=0.28, zorder=0, linewidth=0)
    ax.axvline(0, color=INK, linewidth=1.2, zorder=1)
    for row in frame.itertuples():
        y, style = order.index(row.method), styles[row.method]
        decided = row.low > 0 or row.high < 0
        # Markers made of strokes cannot be filled or left open, so every row takes a filled shape here.
        marker = "o" if style.marker in "|_x" else style.marker
        ax.plot([row.low, row.high], [y, y], color=style.color, linewidth=2.2, solid_capstyle="butt", zorder=2)
        look = {"markersize": 8.5, "markeredgecolor": style.color, "markeredgewidth": 1.8}
        look["markerfacecolor"] = style.color if decided else FACE
        ax.plot([row.mean], [y], marker, linestyle="none", zorder=3, **look)
        _number_at_right(ax, y, signed_text(row.mean, fmt), bold=decided)
    ax.set_xlim(-reach, reach)
    than = method_label(baseline)
    ax.set_xlabel(f"{value}, minus {than}\nfilled: the 95 % interval excludes 0")
    for text, x, side in ((f"← better than {than}", 0, "left"), (f"worse than {than} →", 1, "right")):
        look = {"ha": side, "va": "bottom", "fontsize": 11, "color": MUTED}
        ax.annotate(text, (x, 1), xycoords="axes fraction", **in_points(0, 4), **look)
    return fig


@styled
def shares(
    frame: pd.DataFrame,
    *,
    ideal: Mapping[str, float] | None = None,
    xlabel: str = "share of examples routed to the agent",
    title: str | None = None,
) -> Figure:
    """What share of the examples each method sends to each agent: one column of aligned bars per agent.

    Args:
        frame: columns `method`, `agent`, `share` (a fraction) and optionally `low`, `high`; methods and agents stand in
            order of appearance, a pair without a row is a share of 0.
        ideal: agent → ideal share, a tick across all bars of the agent. xlabel: what the bars are, a fraction.

    Raises:
        ValueError: a missing column, an empty frame, a share outside [0, 1], a repeated (method, agent) pair, or an
            `ideal` that names no agent of the frame.
    """
    frame = check_frame("frame", frame, ["method", "agent"], ["share"], ["low", "high"])
    check_unique("frame", frame, ["method", "agent"])
    ideal = ideal or {}
    bad = np.flatnonzero((frame["share"] < 0) | (frame["share"] > 1))
    if bad.size:
        raise ValueError(f"frame: column 'share' has {frame['share'][bad[0]]} in row {bad[0]}, not in [0, 1]")
    order, agents = list(frame["method"].unique()), list(frame["agent"].unique())
    for name in ideal:
        if name not in agents:
            raise ValueError(f"ideal: no agent {name!r} in the frame; it has {agents}")
    grid = -(-len(agents) // 4), min(len(agents), 4)
    fig = new_figure(0.75 + grid[0] * (0.6 + 0.8 * ROW * (len(order) + 0.6)), title)
    top = min(1.0, 1.25 * max([frame["share"].max(), frame["high"].max(), *ideal.values()]))
    for k, ax in enumerate(panel_axes(fig, len(agents), grid, sharex=True)):
        _method_axis(ax, order, first=k % grid[1] == 0)
        rows = frame[frame["agent"] == agents[k]].set_index("method").reindex(order)
        _draw_shares(ax, rows, agent_color(k), ideal.get(agents[k]), top)
        ax.set_title(plain(agents[k]), color=readable(agent_color(k)))
        ax.set_xlim(0, top * 1.12)
        ax.locator_params(axis="x", nbins=max(3, 8 // grid[1] + 1))
        ax.tick_params(axis="x", labelbottom=k + grid[1] >= len(agents))
        as_percent(ax.xaxis)
    fig.supxlabel(xlabel + ("   (black tick: ideal share)" if ideal else ""), fontsize=12)
    return fig


def _draw_shares(ax: Axes, rows: pd.DataFrame, color: str, ideal: float | None, top: float) -> None:
    """Bars of one agent, from the top; each number stands where bar, interval and the tick of the ideal end."""
    values = rows["share"].fillna(0.0).to_numpy()
    ax.barh(range(len(rows)), values, height=0.66, color=tint(color), edgecolor=color, linewidth=1)
    for y, (value, row) in enumerate(zip(values, rows.itertuples(), strict=True)):
        ax.plot([row.low, row.high], [y, y], color=readable(color), linewidth=1.6)
        near = ideal is not None and value <= ideal < value + 0.3 * top
        beyond = np.nanmax([value, row.high, ideal if near else value])
        ax.annotate(f"{value:.0%}", (beyond, y), **in_points(5, 0), va="center", fontsize=11, color=INK)
    if ideal is not None:
        y = np.arange(len(rows))
        ax.vlines([ideal] * len(rows), y - 0.42, y + 0.42, color=INK, linewidth=2.2, zorder=4)
