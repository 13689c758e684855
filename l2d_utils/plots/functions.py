"""Curves: deferral curves, functions of one variable, errors on log axes, accuracy against dollars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from l2d_utils.plots.checks import check_choice, check_frame, panels_of
from l2d_utils.plots.labelling import Label, place_labels
from l2d_utils.methods import METHODS
from l2d_utils.plots.style import (
    FACE,
    INK,
    MUTED,
    MethodStyle,
    as_percent,
    key,
    method_label,
    method_styles,
    new_figure,
    number_text,
    panel_grid,
    plain,
    styled,
)

DIRECT_LABELS = 6  # up to so many lines are labelled beside the line, more get a legend
RAMP = colormaps["viridis"]

Reference = tuple[Sequence[float], Sequence[float]]


def _line_styles(values: pd.Series) -> dict[object, MethodStyle]:
    """Registry styles for names; an ordered ramp of colours for numbers."""
    names = list(values.unique())
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return method_styles(names)
    names.sort()
    return {name: MethodStyle(to_hex(RAMP(0.85 * i / max(1, len(names) - 1))), "") for i, name in enumerate(names)}


def _shown(name: object) -> str:
    return number_text(name) if isinstance(name, (float, np.floating)) else method_label(name)


def _reference_style(name: str) -> MethodStyle:
    """Dashed; grey unless the registry knows the name."""
    return MethodStyle(METHODS[name].color if name in METHODS else MUTED, "", "--")


def _check_references(references: Mapping[str, Reference] | None) -> dict[str, np.ndarray]:
    """name -> (m, 2) points; ValueError naming the reference whose x and y do not match."""
    checked = {}
    for name, (x, y) in (references or {}).items():
        x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        if x.ndim != 1 or x.shape != y.shape or not len(x):
            raise ValueError(f"references[{name!r}]: x has shape {x.shape}, y has shape {y.shape}")
        checked[name] = np.column_stack([x, y])
    return checked


def _anchors(points: np.ndarray, ax: Axes) -> np.ndarray:
    """Places along a line for its label, right-hand ones first, evenly spaced on the drawn axis."""
    pixels = ax.transData.transform(points)
    order = np.argsort(pixels[:, 0], kind="stable")
    if len(points) > 2 and not (np.diff(order) > 0).all():
        return points[::-1]  # not a function of x: label at its points
    at = np.linspace(pixels[order[-1], 0], pixels[order[0], 0], 48)
    spots = np.column_stack([at, np.interp(at, pixels[order, 0], pixels[order, 1])])
    return ax.transData.inverted().transform(spots)


def _draw_lines(
    ax: Axes,
    frame: pd.DataFrame,
    x: str,
    y: str,
    hue: str,
    styles: Mapping[object, MethodStyle],
    *,
    low: str | None,
    high: str | None,
    references: Mapping[str, np.ndarray],
    step: bool,
    markers: bool,
) -> None:
    for name, points in references.items():
        style = _reference_style(name)
        ax.plot(*points.T, color=style.color, linewidth=1.6, linestyle=style.linestyle, zorder=1.5)
    for i, (name, style) in enumerate(styles.items()):
        rows = frame[frame[hue] == name].sort_values(x, kind="stable")
        if rows.empty:
            continue
        if low is not None and rows[[low, high]].notna().all(axis=None):
            ax.fill_between(
                rows[x],
                rows[low],
                rows[high],
                color=style.color,
                alpha=0.16,
                linewidth=0,
                step="post" if step else None,
            )
        spacing = ((0.03 + 0.035 * (i % 4)), 0.16) if len(rows) > 12 else None
        ax.plot(
            rows[x],
            rows[y],
            color=style.color,
            linestyle=style.linestyle,
            zorder=2 + 0.01 * i,
            drawstyle="steps-post" if step else "default",
            marker=style.marker if markers else "",
            markevery=spacing,
            markeredgecolor=style.color if style.marker in "|_x" else FACE,
            markeredgewidth=0.8,
        )


def _name_lines(
    fig: Figure,
    axes: Sequence[Axes],
    frame: pd.DataFrame,
    x: str,
    y: str,
    hue: str,
    styles: Mapping[object, MethodStyle],
    references: Mapping[str, np.ndarray],
    markers: bool,
    hue_label: str | None,
) -> None:
    """Labels beside the lines when one panel holds few lines and all labels find room, else a legend."""
    if len(axes) == 1 and len(styles) + len(references) <= DIRECT_LABELS:
        ax = axes[0]
        names = [*map(_shown, styles), *map(method_label, references)]
        colors = [style.color for style in [*styles.values(), *map(_reference_style, references)]]
        ordered = frame.sort_values(x, kind="stable")
        tracks = [ordered.loc[ordered[hue] == name, [x, y]].to_numpy() for name in styles]
        tracks += references.values()
        ax.set_xlim(ax.get_xlim())
        ax.set_ylim(ax.get_ylim())
        labels = [
            Label(*named, _anchors(points, ax), k)
            for k, (*named, points) in enumerate(zip(names, colors, tracks, strict=True))
        ]
        before = len(ax.texts)
        if not place_labels(ax, labels, tracks, pushes=(7, 11, 16)):
            return
        for text in ax.texts[before:]:
            text.remove()
    heights = frame.groupby(hue)[y].mean()
    order = list(styles)
    if not pd.api.types.is_numeric_dtype(frame[hue]):
        order.sort(key=lambda name: -heights[name])
    handles = [key(styles[name], _shown(name), marker=markers) for name in order]
    handles += [key(_reference_style(name), method_label(name)) for name in references]
    if len(axes) == 1:
        fig.legend(handles=handles, loc="outside right upper", title=hue_label, alignment="left")
    else:
        fig.legend(handles=handles, loc="outside lower center", title=hue_label, ncols=min(4, len(handles)))


@styled
def lines(
    frame: pd.DataFrame,
    x: str,
    y: str,
    hue: str,
    *,
    xlabel: str,
    ylabel: str,
    low: str | None = None,
    high: str | None = None,
    references: Mapping[str, Reference] | None = None,
    verticals: Mapping[str, float] | None = None,
    panel: str | None = None,
    hue_label: str | None = None,
    xscale: str = "linear",
    yscale: str = "linear",
    ylim: tuple[float, float] | None = None,
    percent: str = "",
    markers: bool = False,
    step: bool = False,
    title: str | None = None,
) -> Figure:
    """Lines of `y` over `x`, one per value of `hue`: losses against the margin, margins against counts.

    frame: columns `x`, `y` (numbers, in the units that xlabel and ylabel state), `hue` (names of methods, or
    anything else; numbers get an ordered ramp), and `low`, `high` when given (a band; both or neither).
    references: name -> (x values, y values) of dashed grey curves. verticals: name -> x of labelled vertical
    lines. panel: column that splits the frame into panels with common axes. percent: which axes hold
    fractions shown in per cent ("x", "y" or "xy"). markers: draw the methods' markers. step: y holds from
    its x to the next. Up to six lines are labelled in place, more in a legend.
    Raises ValueError for a missing column, an empty frame, a non-finite x or y, or `low` without `high`.
    """
    if (low is None) != (high is None):
        raise ValueError("low, high: give both columns of the band or neither")
    check_choice("percent", percent, ["", "x", "y", "xy"])
    names = [hue, *([panel] if panel else [])]
    frame = check_frame("frame", frame, names, [x, y, *([low, high] if low else [])])
    references = _check_references(references)
    styles, panels = _line_styles(frame[hue]), panels_of(frame, panel)
    grid_rows, columns = panel_grid(len(panels))
    fig = new_figure({1: 4.8, 2: 4.3}.get(columns, 3.6) if grid_rows == 1 else 1.1 + 2.7 * grid_rows, title)
    axes = fig.subplots(grid_rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for extra in axes[len(panels) :]:
        extra.set_visible(False)
    axes = axes[: len(panels)]
    for k, (ax, (name, rows)) in enumerate(zip(axes, panels, strict=True)):
        ax.set_title(plain(name))
        ax.set_xscale(xscale)
        ax.set_yscale(yscale)
        _draw_lines(ax, rows, x, y, hue, styles, low=low, high=high, references=references, step=step, markers=markers)
        for text, at in (verticals or {}).items():
            ax.axvline(at, color=MUTED, linewidth=1.2, linestyle=":")
            ax.annotate(
                plain(text),
                (at, 1),
                xycoords=ax.get_xaxis_transform(),
                xytext=(0, 3),
                fontsize=11,
                textcoords="offset points",
                ha="center",
                va="bottom",
                color=MUTED,
            )
        if verticals:
            ax.set_title(plain(name), pad=22)
        if ylim:
            ax.set_ylim(ylim)
        if "x" in percent:
            as_percent(ax.xaxis)
        if "y" in percent:
            as_percent(ax.yaxis)
        if k + columns >= len(panels):
            ax.set_xlabel(xlabel)
            ax.tick_params(axis="x", labelbottom=True)
        if xscale == "linear" and (frame[x] % 1 == 0).all():
            ax.xaxis.set_major_locator(MaxNLocator(nbins=10 // columns + 1, integer=True))
    if len(axes) == 1:
        axes[0].set_ylabel(ylabel)
    else:
        fig.supylabel(ylabel, fontsize=12)
    _name_lines(fig, axes, frame, x, y, hue, styles, references, markers, hue_label)
    return fig


def curves(
    frame: pd.DataFrame,
    *,
    xlabel: str = "deferral rate",
    ylabel: str = "system accuracy",
    references: Mapping[str, Reference] | None = None,
    panel: str | None = None,
    percent: str = "xy",
    title: str | None = None,
) -> Figure:
    """Curves of methods with bands: accuracy against deferral rate, convergence over epochs.

    frame: columns `x`, `y`, `method`, and optionally `low`, `high` (the band around y, in its unit). With the
    defaults x is the deferral rate and y the system accuracy, both fractions; for other curves give the
    labels and `percent=""`. references: name -> (x values, y values), dashed (random, oracle). panel: column
    that splits the frame into panels. Raises ValueError as `lines` does.
    """
    band = isinstance(frame, pd.DataFrame) and {"low", "high"} <= set(frame.columns)
    return lines(
        frame,
        "x",
        "y",
        "method",
        xlabel=xlabel,
        ylabel=ylabel,
        low="low" if band else None,
        high="high" if band else None,
        references=references,
        panel=panel,
        percent=percent,
        markers=True,
        title=title,
    )


@styled
def loglog(
    frame: pd.DataFrame,
    *,
    xlabel: str = "sample size n",
    ylabel: str = "mean absolute error (nats)",
    slope: float = -0.5,
    title: str | None = None,
) -> Figure:
    """Error against sample size on log axes, with a dashed line of the given slope to compare with.

    frame: columns `n` (count), `error` (unit in ylabel), `method`, and optionally `low`, `high`; all > 0. The
    line of slope `slope` starts at the largest error of the smallest n, so only its steepness means anything.
    Raises ValueError for a missing column, an empty frame, or an n or error that is not positive.
    """
    frame = check_frame("frame", frame, ["method"], ["n", "error"], ["low", "high"])
    for column in ("n", "error", "low", "high"):
        bad = np.flatnonzero(frame[column] <= 0)
        if bad.size:
            raise ValueError(f"frame: column {column!r} has {frame[column][bad[0]]} in row {bad[0]}, must be > 0")
    styles = method_styles(list(frame["method"].unique()))
    n = np.array([frame["n"].min(), frame["n"].max()])
    start = frame.loc[frame["n"] == n[0], "error"].max() * 1.35
    name = f"slope {slope:g}" if slope != -0.5 else r"slope −1/2"
    reference = {name: np.column_stack([n, start * (n / n[0]) ** slope])}
    fig = new_figure(4.8, title)
    ax = fig.subplots()
    ax.set_xscale("log")
    ax.set_yscale("log")
    band = bool(frame[["low", "high"]].notna().all(axis=None))
    _draw_lines(
        ax,
        frame,
        "n",
        "error",
        "method",
        styles,
        low="low" if band else None,
        high="high" if band else None,
        references=reference,
        step=False,
        markers=True,
    )
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    _name_lines(fig, [ax], frame, "n", "error", "method", styles, reference, True, None)
    return fig


@styled
def frontier(
    frame: pd.DataFrame,
    agents: pd.DataFrame,
    *,
    xlabel: str = "dollars per 1,000 requests",
    ylabel: str = "accuracy",
    log_x: bool | None = None,
    percent: bool = True,
    title: str | None = None,
) -> Figure:
    """Accuracy against dollars: methods as curves over their settings, agents as labelled points.

    frame: columns `method`, `dollars` (per 1,000 requests), `accuracy` (a fraction) and optionally `low`,
    `high` (interval of the accuracy); rows of a method are joined in order of dollars. agents: columns
    `agent`, `dollars`, `accuracy`. log_x: None puts dollars on a log axis when they are positive and span
    more than a factor of 30. Raises ValueError for a missing column, an empty frame, negative dollars, or a
    log axis asked of dollars that are not all positive.
    """
    frame = check_frame("frame", frame, ["method"], ["dollars", "accuracy"], ["low", "high"])
    agents = check_frame("agents", agents, ["agent"], ["dollars", "accuracy"])
    for name, table in (("frame", frame), ("agents", agents)):
        bad = np.flatnonzero(table["dollars"] < 0)
        if bad.size:
            raise ValueError(f"{name}: column 'dollars' has {table['dollars'][bad[0]]} in row {bad[0]}")
    dollars = np.concatenate([frame["dollars"], agents["dollars"]])
    if log_x and dollars.min() <= 0:
        raise ValueError("log_x: dollars must all be positive for a log axis")
    if log_x is None:
        log_x = bool(dollars.min() > 0 and dollars.max() > 30 * dollars.min())
    styles = method_styles(list(frame["method"].unique()))
    fig = new_figure(5.4, title)
    ax = fig.subplots()
    if log_x:
        ax.set_xscale("log")
    band = bool(frame[["low", "high"]].notna().all(axis=None))
    _draw_lines(
        ax,
        frame,
        "dollars",
        "accuracy",
        "method",
        styles,
        low="low" if band else None,
        high="high" if band else None,
        references={},
        step=False,
        markers=True,
    )
    spots = agents[["dollars", "accuracy"]].to_numpy()
    alone = {"color": INK, "marker": "o", "markerfacecolor": FACE, "markeredgewidth": 2, "linestyle": "none"}
    ax.plot(*spots.T, markersize=8, zorder=5, **alone)
    ax.margins(x=0.14, y=0.14)
    if log_x:
        ax.xaxis.set_major_formatter(lambda value, _: number_text(value))
    if percent:
        as_percent(ax.yaxis)
    ax.set_xlabel(xlabel + (" (log scale)" if log_x else ""))
    ax.set_ylabel(ylabel)
    handles = [key(style, method_label(name)) for name, style in styles.items()]
    handles.append(Line2D([], [], label="one agent alone", **alone))
    fig.legend(handles=handles, loc="outside right upper", alignment="left")
    tracks = [
        frame[frame["method"] == name].sort_values("dollars")[["dollars", "accuracy"]].to_numpy() for name in styles
    ]
    ax.set_xlim(ax.get_xlim())
    ax.set_ylim(ax.get_ylim())
    labels = [
        Label(plain(name), INK, spot[None], len(tracks) + k)
        for k, (name, spot) in enumerate(zip(agents["agent"], spots, strict=True))
    ]
    place_labels(ax, labels, [*tracks, *spots[:, None]], pushes=(8, 14, 26, 40, 60, 85))
    return fig
