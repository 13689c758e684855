"""Maps: numbers on a grid, and which agent wins where on the simplex or in the plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon
from matplotlib.patheffects import withStroke
from scipy.ndimage import distance_transform_edt

from l2d_utils.plots.checks import check_choice, check_frame, check_unique, panels_of
from l2d_utils.plots.style import (
    BLUE,
    FACE,
    INK,
    MARKERS,
    MUTED,
    VERMILLION,
    agent_color,
    mix,
    new_figure,
    number_text,
    panel_grid,
    plain,
    readable,
    signed_text,
    styled,
    tint,
)

DIVERGING = LinearSegmentedColormap.from_list(
    "l2d_diverging",
    [
        mix(BLUE, INK, 0.25),
        mix(BLUE, FACE, 0.35),
        "#F7F7F5",
        mix(VERMILLION, FACE, 0.3),
        mix(VERMILLION, INK, 0.2),
    ],
)
SEQUENTIAL = LinearSegmentedColormap.from_list(
    "l2d_sequential", ["#F4F8FB", mix(BLUE, FACE, 0.55), BLUE, mix(BLUE, INK, 0.65)]
)

Decide = Callable[[np.ndarray], np.ndarray]


def _cell_text(value: float, fmt: str) -> str:
    """Short text of a cell: no leading zero, a real minus sign."""
    text = signed_text(value, fmt)
    for sign in ("", "+", "−"):
        if text.startswith(sign + "0."):
            text = sign + text[len(sign) + 1 :]
    return text


def _level(value: object) -> str:
    return number_text(value) if isinstance(value, (float, np.floating)) else plain(value)


@styled
def heatmap(
    frame: pd.DataFrame,
    rows: str,
    cols: str,
    value: str,
    *,
    label: str,
    significant: str | None = None,
    panel: str | None = None,
    center: float | None = 0.0,
    best: str | None = None,
    fmt: str | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    title: str | None = None,
) -> Figure:
    """A number on a grid: regime maps of paired differences, validation loss over (λ, γ).

    frame: columns `rows`, `cols` (the grid; numbers are sorted, names stay in order of appearance), `value`
    (NaN leaves the cell blank), and optionally the boolean column `significant` (a dot in the cell's corner)
    and the column `panel` (one map per value, common colours). label: what the colour means, with its unit.
    center: the value shown white on the blue-to-orange scale (blue below, orange above); None gives a
    sequential scale. best: "min" or "max" frames that cell of each panel.
    Raises ValueError for a missing column, an empty frame, a repeated cell or no finite value.
    """
    check_choice("best", best, [None, "min", "max"])
    extra = [name for name in (significant, panel) if name]
    frame = check_frame("frame", frame, [rows, cols, *extra], [], [])
    if value not in frame.columns:
        raise ValueError(f"frame: missing column {value!r}; it has {list(frame.columns)}")
    frame = check_frame("frame", frame, optional=[value])
    check_unique("frame", frame, [rows, cols, *([panel] if panel else [])])
    if frame[value].isna().all():
        raise ValueError(f"frame: column {value!r} holds no finite number")

    def levels(column: str) -> list:
        found = list(frame[column].unique())
        return sorted(found) if pd.api.types.is_numeric_dtype(frame[column]) else found

    down, across, panels = levels(rows), levels(cols), panels_of(frame, panel)
    low, high = float(frame[value].min()), float(frame[value].max())
    if center is None:
        color_map, norm = SEQUENTIAL, None
        low, high = (low, high) if high > low else (low - 0.5, low + 0.5)
    else:
        reach = max(abs(low - center), abs(high - center)) or 1.0
        color_map, norm = DIVERGING, TwoSlopeNorm(center, center - reach, center + reach)
    fmt = fmt or ("{:.3f}" if center is None else "{:+.3f}")
    grid_rows, columns = panel_grid(len(panels))
    cell = 6.6 / (columns * len(across))
    # Text fits a cell of 0.5 inch; below that the colours speak alone.
    annotate = cell >= 0.085 * max(len(_cell_text(v, fmt)) for v in (low, high)) + 0.1
    height = 1.3 + grid_rows * (0.35 + len(down) * min(max(0.38, 0.55 * cell), 0.62))
    fig = new_figure(max(height, 3.4), title)
    axes = fig.subplots(grid_rows, columns, squeeze=False).ravel()
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    axes = axes[: len(panels)]
    for k, (ax, (name, part)) in enumerate(zip(axes, panels, strict=True)):
        table = part.pivot(index=rows, columns=cols, values=value).reindex(index=down, columns=across).to_numpy()
        limits = {"norm": norm} if norm else {"vmin": low, "vmax": high}
        texts = np.vectorize(lambda v: _cell_text(v, fmt), otypes=[str])(table)
        seaborn.heatmap(
            table, mask=~np.isfinite(table), ax=ax, cmap=color_map, cbar=False, linewidths=1.5, linecolor=FACE,
            annot=texts if annotate else None, fmt="", annot_kws={"fontsize": 11}, **limits,
        )  # fmt: skip
        mesh = ax.collections[0]
        ax.grid(False)
        ax.set_facecolor("#EEF0F2")
        ax.tick_params(length=0, rotation=0)
        ax.set_xticks(np.arange(len(across)) + 0.5, [_level(v) for v in across])
        ax.set_yticks(np.arange(len(down)) + 0.5, [_level(v) for v in down])
        ax.set_ylim(0, len(down))
        if max(len(_level(v)) for v in across) > 11 * cell:
            ax.tick_params(axis="x", rotation=35)
        ax.set_title(plain(name))
        if significant:
            marks = part[part[significant].astype(bool)]
            x = np.array([across.index(v) for v in marks[cols]], dtype=float) + 1.0
            y = np.array([down.index(v) for v in marks[rows]], dtype=float) + 1.0
            inset = min(0.2, 0.085 / cell)
            ax.plot(
                x - inset,
                y - inset,
                "o",
                color=INK,
                markersize=5,
                markeredgecolor=FACE,
                markeredgewidth=0.8,
                linestyle="none",
            )
        if best and np.isfinite(table).any():
            pick = np.nanargmin if best == "min" else np.nanargmax
            i, j = np.unravel_index(pick(table), table.shape)
            ax.add_patch(
                Polygon(
                    [(j + 0.02, i + 0.04), (j + 0.98, i + 0.04), (j + 0.98, i + 0.96), (j + 0.02, i + 0.96)],
                    fill=False,
                    edgecolor=INK,
                    linewidth=2.4,
                )
            )
        if k % columns:
            ax.tick_params(labelleft=False)
    notes = [
        note
        for note, used in (
            ("● 95 % interval excludes 0", significant),
            (f"framed: {'lowest' if best == 'min' else 'highest'}", best),
        )
        if used
    ]
    across_label = plain(cols) if xlabel is None else xlabel
    fig.supxlabel(across_label + (f"      ({';  '.join(notes)})" if notes else ""), fontsize=12)
    down_label = plain(rows) if ylabel is None else ylabel
    fig.supylabel(down_label, fontsize=12, rotation=0 if len(down_label) <= 2 else 90)
    bar = fig.colorbar(mesh, ax=list(axes), label=label, fraction=0.035, pad=0.015)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    return fig


def _winners(name: str, decide: Decide, points: np.ndarray, n_agents: int) -> np.ndarray:
    """What `decide` says of points (m, d): int64 (m,) in 0..n_agents-1; ValueError otherwise."""
    winners = np.asarray(decide(points))
    if winners.shape != (len(points),):
        raise ValueError(f"{name}: returned shape {winners.shape} for {len(points)} points")
    if not np.issubdtype(winners.dtype, np.integer) or winners.min() < 0 or winners.max() >= n_agents:
        raise ValueError(f"{name}: must return integers from 0 to {n_agents - 1}")
    return winners.astype(np.int64)


def _draw_regions(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    winners: np.ndarray,
    bayes: np.ndarray | None,
    labels: Sequence[str],
    name_regions: bool,
) -> list:
    """Paint winners (rows of y, columns of x; -1: outside) and outline the regions of `bayes`."""
    shades = ListedColormap([tint(agent_color(k)) for k in range(len(labels))])
    image = ax.imshow(
        np.ma.masked_less(winners, 0),
        extent=(x[0], x[-1], y[0], y[-1]),
        origin="lower",
        cmap=shades,
        vmin=-0.5,
        vmax=len(labels) - 0.5,
        interpolation="nearest",
        aspect="auto",
        zorder=0.5,
    )
    drawn = [image]
    for grid, style in (
        (winners, {"colors": FACE, "linewidths": 2.0}),
        (bayes, {"colors": INK, "linewidths": 1.8, "linestyles": "--"}),
    ):
        if grid is None:
            continue
        for k in np.unique(grid[grid >= 0])[1:]:
            drawn.append(
                ax.contour(x, y, np.ma.masked_where(grid < 0, grid >= k).astype(float), [0.5], zorder=2, **style)
            )
    crossed = np.zeros(winners.shape, dtype=bool)  # where the dashed borders run: no place for a name
    if bayes is not None:
        crossed[:-1] |= bayes[:-1] != bayes[1:]
        crossed[:, :-1] |= bayes[:, :-1] != bayes[:, 1:]
    for k, label in enumerate(labels if name_regions else ()):
        mask = np.pad((winners == k) & ~crossed, 1)
        if mask.sum() < 0.01 * (winners >= 0).sum():
            continue
        # The point farthest from the region's border has the most room for its name; a name is about
        # thrice as wide as high (with its margins), so heights count threefold.
        i, j = np.unravel_index(np.argmax(distance_transform_edt(mask, sampling=(3, 1))), mask.shape)
        ax.text(
            x[j - 1],
            y[i - 1],
            plain(label),
            ha="center",
            va="center",
            fontsize=11.5,
            fontweight="bold",
            color=readable(mix(agent_color(k), INK, 0.25)),
            zorder=6,
            path_effects=[withStroke(linewidth=3, foreground=tint(agent_color(k)))],
        )
    return drawn


def _panel_figure(decide: Mapping[str, Decide], title: str | None, aspect: float) -> tuple[Figure, list[Axes]]:
    """One panel per rule, three a row; `aspect` is height over width of a panel."""
    if not isinstance(decide, Mapping) or not decide:
        raise ValueError("decide: expected a non-empty mapping of panel title -> callable")
    rows, columns = panel_grid(len(decide))
    width = min(8.4 / columns, 4.8)
    fig = new_figure(rows * (width * aspect + 0.55) + 0.7 + (0.3 if title else 0), title)
    axes = list(fig.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes[len(decide) :]:
        ax.set_visible(False)
    return fig, axes[: len(decide)]


@styled
def simplex_regions(
    decide: Mapping[str, Decide],
    labels: Sequence[str] = ("agent 1", "agent 2", "agent 3"),
    *,
    corners: Sequence[str] = ("$a_1$ = 1", "$a_2$ = 1", "$a_3$ = 1"),
    bayes: Decide | None = None,
    resolution: int = 400,
    title: str | None = None,
) -> Figure:
    """Which of three agents wins where on the 2-simplex, one panel per rule.

    decide: panel title -> callable from barycentric points (m, 3) (rows >= 0 that sum to 1) to winners (m,)
    in {0, 1, 2}. labels: the agents' names. corners: text at the corners of coordinates 1, 2 (below, left and
    right) and 3 (top); mathtext is read. bayes: a rule of the same kind whose borders are overlaid, dashed.
    resolution: grid points a side. Raises ValueError for no rule, not three labels, or a rule that returns
    something else than m integers from 0 to 2.
    """
    if len(labels) != 3 or len(corners) != 3:
        raise ValueError(f"labels, corners: expected three each, found {len(labels)} and {len(corners)}")
    height = np.sqrt(3) / 2
    fig, axes = _panel_figure(decide, title, aspect=0.92)
    x, y = np.linspace(0, 1, resolution), np.linspace(0, height, resolution)
    across, up = np.meshgrid(x, y)
    third = up / height
    second = across - third / 2
    points = np.stack([1 - second - third, second, third], axis=-1)
    inside = (points >= -2.5 / resolution).all(axis=-1)  # a rim just outside, cut off by the triangle below
    safe = np.clip(points[inside], 0, None)
    safe /= safe.sum(axis=1, keepdims=True)
    grids = {}
    for name, rule in ({**decide, **({"bayes": bayes} if bayes is not None else {})}).items():
        grids[name] = np.full(inside.shape, -1, dtype=np.int64)
        grids[name][inside] = _winners(f"decide[{name!r}]" if name in decide else "bayes", rule, safe, 3)
    ideal = grids.get("bayes") if bayes is not None else None
    triangle = [(0, 0), (1, 0), (0.5, height)]
    for ax, name in zip(axes, decide, strict=True):
        outline = ax.add_patch(Polygon(triangle, fill=False, edgecolor=INK, linewidth=1.4, zorder=5))
        for artist in _draw_regions(ax, x, y, grids[name], ideal, labels, name_regions=True):
            artist.set_clip_path(outline)
        for (cx, cy), text, align, shift in zip(
            triangle, corners, ("left", "right", "center"), (-16, -16, 6), strict=True
        ):
            ax.annotate(
                text,
                (cx, cy),
                xytext=(0, shift),
                textcoords="offset points",
                ha=align,
                fontsize=11,
                color=MUTED,
                va="bottom" if shift > 0 else "center",
            )
        ax.set_title(plain(name), loc="center", pad=24)
        ax.set_xlim(-0.03, 1.03)
        ax.set_ylim(-0.02, height + 0.02)
        ax.set_aspect("equal")
        ax.axis("off")
    if bayes is not None:
        fig.legend(
            handles=[Line2D([], [], color=INK, linestyle="--", linewidth=1.8, label="Bayes rule's borders")],
            loc="outside lower center",
        )
    return fig


@styled
def plane_regions(
    decide: Mapping[str, Decide],
    points: np.ndarray,
    best: np.ndarray,
    labels: Sequence[str],
    *,
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    bayes: Decide | None = None,
    border: str = "Bayes rule's borders",
    meaning: str = "area: routed to;  point: best served by",
    xlabel: str = "feature 1",
    ylabel: str = "feature 2",
    resolution: int = 300,
    title: str | None = None,
) -> Figure:
    """Which agent a rule routes to in a plane of two features, with examples, one panel per rule.

    decide: panel title -> callable from points (m, 2) to winners (m,) in 0..K-1. points: (n, 2) examples.
    best: (n,) integers, the agent that each example had best gone to (gives colour and marker). labels: the K
    agents' names. bayes: a rule whose borders are overlaid, dashed; border: its name in the legend. meaning: the
    legend's title. Raises ValueError for no rule, shapes that do not match, no example, or integers outside 0..K-1.
    """
    points, best = np.asarray(points, dtype=np.float64), np.asarray(best)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"points: expected shape (n, 2) with n >= 1, found {points.shape}")
    best = _winners("best", lambda _: best, points, len(labels))
    fig, axes = _panel_figure(decide, title, aspect=min(1.2, max(0.6, (ylim[1] - ylim[0]) / (xlim[1] - xlim[0]))))
    x, y = np.linspace(*xlim, resolution), np.linspace(*ylim, resolution)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    shape = (resolution, resolution)
    ideal = None if bayes is None else _winners("bayes", bayes, grid, len(labels)).reshape(shape)
    for ax, (name, rule) in zip(axes, decide.items(), strict=True):
        winners = _winners(f"decide[{name!r}]", rule, grid, len(labels)).reshape(shape)
        _draw_regions(ax, x, y, winners, ideal, labels, name_regions=False)
        for k in range(len(labels)):
            chosen = points[best == k]
            ax.plot(
                chosen[:, 0],
                chosen[:, 1],
                MARKERS[k % len(MARKERS)],
                color=agent_color(k),
                markersize=5.5,
                markeredgecolor=FACE,
                markeredgewidth=0.7,
                linestyle="none",
                zorder=3,
            )
        ax.set_xlim(xlim)
        ax.set_ylim(ylim)
        ax.set_aspect("equal", adjustable="box")
        ax.grid(False)
        ax.set_title(plain(name))
        ax.set_xlabel(xlabel)
        if ax is axes[0]:
            ax.set_ylabel(ylabel)
    handles = [
        (
            Patch(facecolor=tint(agent_color(k)), edgecolor=agent_color(k)),
            Line2D([], [], color=agent_color(k), marker=MARKERS[k % len(MARKERS)], linestyle="none"),
        )
        for k in range(len(labels))
    ]
    names = [plain(label) for label in labels]
    if bayes is not None:
        handles.append(Line2D([], [], color=INK, linestyle="--", linewidth=1.8))
        names.append(border)
    fig.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=min(5, len(names)),
        title=meaning,
        handler_map={tuple: HandlerTuple(ndivide=1, pad=0)},
    )
    return fig
