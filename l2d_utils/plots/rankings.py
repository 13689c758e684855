"""Dots and bars: methods against each other, shares per agent, ideal distributions, and numbers beside the bound they
were tested against, marked by what came of the test."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from l2d_utils.plots import style
from l2d_utils.plots.checks import check_choice, check_fractions, check_frame, panels_of, refuse_rows

ROW = 0.34  # inches per method


def _bare(ax: Axes, below: float) -> None:
    """Room for rows 0, 1, ... from the top down to `below`, without a grid or an axis beside them."""
    ax.set_ylim(below, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    ax.spines["left"].set_visible(False)


def _method_axis(ax: Axes, order: list, first: bool) -> None:
    """Methods down the y axis, first of `order` on top."""
    _bare(ax, len(order) - 0.4)
    ax.set_yticks(range(len(order)), [style.method_label(name) for name in order])
    ax.tick_params(axis="y", labelleft=first)


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
    frame = ax.get_window_extent()
    ends: list[float] = []  # right-hand end, in pixels, of the last label of each row
    styles = style.method_styles(list(references))
    for name, x in sorted(references.items(), key=lambda item: item[1]):
        label, color = f"{style.method_label(name)} {fmt.format(x)}", styles[name].color
        if name in inside:
            at, align = x, "center"
            ax.axvline(x, color=color, linestyle=styles[name].linestyle, linewidth=1.5, zorder=1)
        elif x < left:
            at, align, label = left - room, "left", f"◂ {label}"
        else:
            at, align, label = right + room, "right", f"{label} ▸"
        look = {"xycoords": ax.get_xaxis_transform(), "ha": align, "va": "bottom", "color": style.readable(color)}
        text = style.note(ax, label, (at, 1), (0, 4), **look)
        box = text.get_window_extent()
        # A label near an edge of the axes is slid inside, so that it cannot leave the page.
        slide = max(0.0, frame.x0 - box.x0) - max(0.0, box.x1 - frame.x1)
        row = next((i for i, end in enumerate(ends) if box.x0 + slide > end + 8), len(ends))
        ends[row : row + 1] = [box.x1 + slide]
        text.set_position((slide * 72 / fig.dpi, 4 + 15 * row))
    ax.set_title(ax.get_title(loc="left"), pad=8 + 15 * len(ends))


def _at_right(ax: Axes, y: float, text: str, gap: int = 6, **look: object) -> None:
    look = {"xycoords": ax.get_yaxis_transform(), "va": "center", "color": style.INK, **look}
    style.note(ax, text, (1, y), (gap, 0), **look)


def _draw_dot(ax: Axes, y: int, row: tuple, pen: style.MethodStyle, filled: bool, **size: float) -> None:
    """Interval and mean of a row, if they are finite."""
    if np.isfinite([row.low, row.high]).all():
        ax.plot([row.low, row.high], [y, y], color=pen.color, linewidth=2.2, solid_capstyle="butt", zorder=2)
    look = {"markeredgecolor": pen.color, "markerfacecolor": pen.color if filled else style.FACE, **size}
    if np.isfinite(row.mean):
        ax.plot([row.mean], [y], pen.marker, linestyle="none", zorder=3, **look)


@style.styled
def intervals(
    frame: pd.DataFrame, value: str, *, better: str = "lower", references: Mapping[str, float] | None = None,
    panel: str | None = None, percent: bool = False, title: str | None = None,
) -> Figure:  # fmt: skip
    """Methods ranked by their mean, best on top: a dot, its interval, and the number at the right.

    Args:
        frame: columns `method`, `mean`, and optionally `low`, `high` (same unit as `mean`; NaN: no interval is drawn);
            one row per method, or per method and value of the column named by `panel`.
        value: the label of the x axis, with its unit. better: "lower" or "higher".
        references: name → x of named vertical lines (best single, oracle). percent: values are fractions.
    """
    check_choice("better", better, ["lower", "higher"])
    frame = check_frame("frame", frame, [], ["mean"], ["low", "high"], place=["method", panel])
    order, panels = _ranked(frame, better), panels_of(frame, panel)
    styles = style.method_styles(order)
    fmt = "{:.1%}" if percent else "{:.3f}"
    fig = style.new_figure(1.45 + ROW * len(order) + (0.3 if references else 0), title)
    axes = fig.subplots(1, len(panels), squeeze=False)[0]
    for i, (ax, (name, rows)) in enumerate(zip(axes, panels, strict=True)):
        _method_axis(ax, order, first=i == 0)
        ax.set_title(style.plain(name))
        for row in rows.itertuples():
            y, pen = order.index(row.method), styles[row.method]
            ax.plot([row.low, row.high], [y, y], color=pen.color, linewidth=3, alpha=0.55, solid_capstyle="butt")
            look = {"color": pen.color, "markersize": 8, "markeredgewidth": 2 if pen.marker in "|_x" else 0.8}
            ax.plot([row.mean], [y], pen.marker, linestyle="none", **look)
            _at_right(ax, y, style.signed_text(row.mean, fmt))
        ax.locator_params(axis="x", nbins=max(3, 7 // len(panels)) if len(panels) < 4 else 2)
        if percent:
            style.as_percent(ax.xaxis)
        _draw_references(ax, references or {}, rows[["mean", "low", "high"]].to_numpy(), fmt)
    fig.supxlabel(f"{value}   " + ("(← better)" if better == "lower" else "(better →)"), fontsize=12)
    return fig


@style.styled
def paired_differences(frame: pd.DataFrame, value: str, *, baseline: str, title: str | None = None) -> Figure:
    """Forest plot of paired differences (method minus baseline; below 0 is better) with 95 % intervals.

    Args:
        frame: columns `method`, `mean`, `low`, `high`, one row per method, in the unit of `value`. A marker is filled
            when its interval excludes 0.
        value: the label of the x axis with its unit. baseline: the method subtracted (its key, or any name).
    """
    frame = check_frame("frame", frame, [], ["mean", "low", "high"], place=["method"])
    order = _ranked(frame, "lower")
    styles = style.method_styles(order)
    fig = style.new_figure(1.7 + ROW * len(order), title)
    ax = fig.subplots()
    _method_axis(ax, order, first=True)
    reach = 1.12 * max(float(frame[["mean", "low", "high"]].abs().to_numpy().max()), 1e-12)
    fmt = "{:+.3f}" if reach > 0.1 else "{:+.4f}"
    ax.axvspan(-reach, 0, color=style.tint(style.GREEN), alpha=0.28, zorder=0, linewidth=0)
    ax.axvline(0, color=style.INK, linewidth=1.2, zorder=1)
    for row in frame.itertuples():
        y, pen = order.index(row.method), styles[row.method]
        decided = row.low > 0 or row.high < 0
        # Markers made of strokes cannot be filled or left open, so every row takes a filled shape here.
        pen = pen._replace(marker="o") if pen.marker in "|_x" else pen
        _draw_dot(ax, y, row, pen, decided, markersize=8.5, markeredgewidth=1.8)
        _at_right(ax, y, style.signed_text(row.mean, fmt), fontweight="bold" if decided else "normal")
    ax.set_xlim(-reach, reach)
    than = style.method_label(baseline)
    ax.set_xlabel(f"{value}, minus {than}\nfilled: the 95 % interval excludes 0")
    for text, x, side in ((f"← better than {than}", 0, "left"), (f"worse than {than} →", 1, "right")):
        style.note(ax, text, (x, 1), (0, 4), xycoords="axes fraction", ha=side, va="bottom")
    return fig


@style.styled
def shares(
    frame: pd.DataFrame, *, ideal: Mapping[str, float] | None = None,
    xlabel: str = "share of examples routed to the agent", title: str | None = None,
) -> Figure:  # fmt: skip
    """What share of the examples each method sends to each agent: one column of aligned bars per agent.

    Args:
        frame: columns `method`, `agent`, `share` (in [0, 1]) and optionally `low`, `high`; methods and agents stand in
            order of appearance, a pair without a row is a share of 0.
        ideal: agent of the frame → ideal share, a tick across all bars of the agent. xlabel: what the bars are.
    """
    frame = check_frame("frame", frame, [], ["share"], ["low", "high"], place=["method", "agent"])
    ideal = ideal or {}
    refuse_rows("frame", frame, "share", ~frame["share"].between(0, 1), ", not in [0, 1]")
    order, agents = list(frame["method"].unique()), list(frame["agent"].unique())
    if unknown := [name for name in ideal if name not in agents]:
        raise ValueError(f"ideal: no agent {unknown[0]!r} in the frame; it has {agents}")
    grid = -(-len(agents) // 4), min(len(agents), 4)
    fig = style.new_figure(0.75 + grid[0] * (0.6 + 0.8 * ROW * (len(order) + 0.6)), title)
    top = min(1.0, 1.25 * max([frame["share"].max(), frame["high"].max(), *ideal.values()]))
    for k, ax in enumerate(style.panel_axes(fig, len(agents), grid, sharex=True)):
        _method_axis(ax, order, first=k % grid[1] == 0)
        rows = frame[frame["agent"] == agents[k]].set_index("method").reindex(order)
        values, color, wanted = rows["share"].fillna(0.0), style.agent_color(k), ideal.get(agents[k], np.nan)
        ax.barh(range(len(rows)), values, height=0.66, color=style.tint(color), edgecolor=color, linewidth=1)
        for y, (value, row) in enumerate(zip(values, rows.itertuples(), strict=True)):
            ax.plot([row.low, row.high], [y, y], color=style.readable(color), linewidth=1.6)
            # The number stands where bar, interval and the tick of the ideal end.
            near = value <= wanted < value + 0.3 * top
            beyond = np.nanmax([value, row.high, wanted if near else value])
            style.note(ax, f"{value:.0%}", (beyond, y), (5, 0), va="center", color=style.INK)
            if agents[k] in ideal:
                ax.vlines(wanted, y - 0.42, y + 0.42, color=style.INK, linewidth=2.2, zorder=4)
        ax.set_title(style.plain(agents[k]), color=style.readable(color))
        ax.set_xlim(0, top * 1.12)
        ax.locator_params(axis="x", nbins=max(3, 8 // grid[1] + 1))
        ax.tick_params(axis="x", labelbottom=k + grid[1] >= len(agents))
        style.as_percent(ax.xaxis)
    fig.supxlabel(xlabel + ("   (black tick: ideal share)" if ideal else ""), fontsize=12)
    return fig


GOOD, BAD = style.MethodStyle(style.GREEN, "o"), style.MethodStyle(style.VERMILLION, "D")
OPEN, SIGNAL = style.MethodStyle(style.MUTED, "s"), style.MethodStyle(style.BLUE, "D")
#: Outcome → colour and marker; colour is never the only sign. The open ones are drawn hollow.
OUTCOME_STYLE = {
    "REPRODUCED": GOOD, "DIFFERS": BAD, "NOT TESTABLE HERE": OPEN, "holds": GOOD, "open": OPEN, "against": BAD,
    "signal": SIGNAL, "no signal": OPEN,
}  # fmt: skip


@style.styled
def outcomes(
    frame: pd.DataFrame, value: str, *, line: float | None = None, band: tuple[float, float] | None = None,
    panel: str | None = None, percent: bool = False,
) -> Figure:  # fmt: skip
    """Rows in groups: a dot with its interval, coloured and shaped by its outcome, beside the bound.

    Args:
        frame: columns `group`, `name` (of a method: its key), `outcome` (one of `OUTCOME_STYLE`), and optionally
            `mean`, `low`, `high` (NaN: no dot, no interval) and `text` (written at the right); groups and rows stand
            in order of appearance.
        value: the label of the x axis, with its unit. line: x of the bound. band: x of the ends of a shaded range.
        panel: column that splits the frame into panels with common rows (a row that a panel lacks stays empty there)
            and a common x axis. percent: values are fractions, shown in per cent.
    """
    frame = check_frame("frame", frame, ["outcome"], [], ["mean", "low", "high"], place=["group", "name", panel])
    for outcome in frame["outcome"].unique():
        check_choice("outcome", outcome, list(OUTCOME_STYLE))
    panels = panels_of(frame, panel)
    at = _places(frame)
    below = max(at.values()) + 0.7
    fig = style.new_figure(1.35 + 0.29 * (below + 0.6) + (0.2 if panel else 0))
    axes = fig.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for ax, (name, rows) in zip(axes, panels, strict=True):
        ax.set_title(style.plain(name))
        _bare(ax, below)
        if band:
            ax.axvspan(*band, color=style.MUTED, alpha=0.13, linewidth=0, zorder=0)
        if line is not None:
            ax.axvline(line, color=style.INK, linewidth=1.2, zorder=1)
        for row in rows.itertuples():
            y, pen = at[row.group, row.name], OUTCOME_STYLE[row.outcome]
            _draw_dot(ax, y, row, pen, filled=pen != OPEN, markersize=7.5, markeredgewidth=1.7)
            if getattr(row, "text", ""):
                _at_right(ax, y, style.plain(row.text), 7, color=style.INK if np.isfinite(row.mean) else style.MUTED)
        if percent:
            style.as_percent(ax.xaxis)
        ax.locator_params(axis="x", nbins=max(3, 7 // len(panels)))
    names = {y: style.method_label(name) for (_, name), y in at.items() if name is not None}
    axes[0].set_yticks(list(names), list(names.values()))
    for group, y in ((group, y) for (group, name), y in at.items() if name is None):
        look = {"xycoords": axes[0].get_yaxis_transform(), "ha": "right", "va": "center", "color": style.INK}
        style.note(axes[0], style.plain(group), (0, y), (-4, 0), fontsize=12, fontweight="bold", **look)
    if panel:
        fig.supxlabel(value, fontsize=12)
    else:
        axes[0].set_xlabel(value, loc="right")  # the axes are narrow: a long label grows to the left
    drawn = set(frame.loc[frame["mean"].notna(), "outcome"])
    handles = [style.key(pen._replace(linestyle=""), name) for name, pen in OUTCOME_STYLE.items() if name in drawn]
    for handle in handles:
        handle.set_markerfacecolor(style.FACE if handle.get_color() == OPEN.color else handle.get_color())
    fig.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return fig


def _places(frame: pd.DataFrame) -> dict[tuple[str, str | None], float]:
    """y of every row, by group and name; that of a group's heading under the name None. "" is a group without one."""
    at, y = {}, 0.0
    for group, rows in frame.groupby("group", sort=False):
        for name in [*([None] if group else []), *rows["name"].unique()]:
            at[group, name] = y
            y += 1
        y += 0.4
    return at


@style.styled
def density_bars(
    p: Sequence[float], q_by_name: Mapping[str, Sequence[float]], *, support: Sequence[str] | None = None,
    xlabel: str = "point of the support", title: str | None = None,
) -> Figure:  # fmt: skip
    """Ideal distributions on a finite support beside P (above), and their density ratios dQ/dP (below).

    Args:
        p: (m,) probabilities of P, all > 0. q_by_name: name → (m,) probabilities of an ideal Q. The ratio stands on a
            log axis (no unit); a ratio of 0 is left out.
        support: m names of the points.
    """
    p = check_fractions("p", p)
    if not q_by_name:
        raise ValueError("q_by_name: has no distribution")
    if (p == 0).any():
        raise ValueError(f"p: entry {int(np.argmin(p))} is 0, the ratio dQ/dP does not exist there")
    ideals = {name: check_fractions(f"q_by_name[{name!r}]", q) for name, q in q_by_name.items()}
    support = [str(i + 1) for i in range(len(p))] if support is None else list(support)
    if wrong := [name for name, values in {**ideals, "support": support}.items() if len(values) != len(p)]:
        raise ValueError(f"{wrong[0]}: as many entries as p are needed, {len(p)}")
    styles = style.method_styles(list(ideals))
    fig = style.new_figure(5.6, title)
    above, below = fig.subplots(2, 1, sharex=True, height_ratios=[1.35, 1])
    width = 0.84 / (len(ideals) + 1)
    at = np.arange(len(p))
    offsets = (np.arange(len(ideals) + 1) - len(ideals) / 2) * width
    above.bar(at + offsets[0], p, width * 0.94, color="#C3C9D1", label="P")
    below.axhline(1, color=style.MUTED, linewidth=1.4)
    for offset, (name, q) in zip(offsets[1:], ideals.items(), strict=True):
        color, marker, _ = styles[name]
        look = {"color": style.mix(color, style.FACE, 0.15), "label": style.method_label(name)}
        above.bar(at + offset, q, width * 0.94, **look)
        x, ratio = (at + offset)[q > 0], (q / p)[q > 0]
        below.vlines(x, 1, ratio, color=color, linewidth=1.8)
        below.plot(x, ratio, marker, color=color, linestyle="none")
    above.set_ylabel("probability")
    # A log axis around 1, with round numbers on it unless it spans too much.
    below.set_yscale("log")
    reach = max(1.25 * max(np.exp(np.abs(np.log((q / p)[q > 0])).max()) for q in ideals.values()), 1.5)
    below.set_ylim(1 / reach, reach)
    if reach <= 100:
        round_numbers = (0.5, 0.7, 1, 1.4, 2) if reach < 2.2 else (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
        ticks = [t for t in round_numbers if 1 / reach <= t <= reach]
        below.set_yticks(ticks, [f"{t:g}" for t in ticks])
        below.yaxis.set_minor_locator(NullLocator())
    below.set(xlabel=xlabel, ylabel="ratio dQ/dP (log)")
    below.set_xticks(at, [style.plain(name) for name in support])
    for ax in (above, below):
        ax.grid(axis="x", visible=False)
        ax.tick_params(axis="x", length=0)
    fig.legend(*above.get_legend_handles_labels(), loc="outside right upper", alignment="left")
    return fig
