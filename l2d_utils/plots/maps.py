"""Maps: numbers on a grid, which agent wins where on the simplex or in the plane, and who gets what from the router."""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from scipy.ndimage import distance_transform_edt

from l2d_utils.plots import style
from l2d_utils.plots.checks import check_choice, check_fractions, check_frame, panels_of
from l2d_utils.plots.style import BLUE, FACE, INK, VERMILLION, mix

DIVERGING = LinearSegmentedColormap.from_list(
    "l2d_diverging",
    [mix(BLUE, INK, 0.25), mix(BLUE, FACE, 0.35), "#F7F7F5", mix(VERMILLION, FACE, 0.3), mix(VERMILLION, INK, 0.2)],
)
SEQUENTIAL = LinearSegmentedColormap.from_list(
    "l2d_sequential", ["#F4F8FB", mix(BLUE, FACE, 0.55), BLUE, mix(BLUE, INK, 0.65)]
)

CHARACTER = 0.085  # inches; width of one in 11-point text
TIP = 0.15  # inches; how far an arrowhead reaches beyond the end of its ribbon
BORDER = {"color": INK, "linestyle": "--", "linewidth": 1.8}
Decide = Callable[[np.ndarray], np.ndarray]


def _cell_text(value: float, fmt: str) -> str:
    """Short text of a cell: no leading zero, a real minus sign."""
    return re.sub(r"^([+−]?)0\.", r"\1.", style.signed_text(value, fmt))


def _levels(frame: pd.DataFrame, column: str) -> dict[object, str]:
    """Values of a column as rows or columns of the grid, with their texts."""
    found = list(frame[column].unique())
    found = sorted(found) if pd.api.types.is_numeric_dtype(frame[column]) else found
    return {value: style.method_label(value) for value in found}


@style.styled
def heatmap(
    frame: pd.DataFrame, rows: str, cols: str, value: str, *, label: str, significant: str | None = None,
    panel: str | None = None, center: float | None = 0.0, best: str | None = None, fmt: str | None = None,
    xlabel: str | None = None, ylabel: str | None = None, title: str | None = None,
) -> Figure:  # fmt: skip
    """A number on a grid: regime maps of paired differences, validation loss over (λ, γ).

    Args:
        frame: columns `rows`, `cols` (the grid: numbers are sorted, names stay in order of appearance), `value` (NaN
            leaves the cell blank; not all are), and optionally the boolean column `significant` (a dot in the cell's
            corner) and the column `panel` (one map per value, common colours). Methods are shown by their labels.
        label: what the colour means, with its unit. best: "min" or "max" frames that cell of each panel.
        center: the value shown white on the blue-to-orange scale; None gives a sequential scale.
    """
    check_choice("best", best, [None, "min", "max"])
    frame = check_frame("frame", frame, [significant], gaps=[value], place=[rows, cols, panel])
    if frame[value].isna().all():
        raise ValueError(f"frame: column {value!r} holds no finite number")
    down, across, panels = _levels(frame, rows), _levels(frame, cols), panels_of(frame, panel)
    fmt = fmt or ("{:.3f}" if center is None else "{:+.3f}")
    grid = style.panel_grid(len(panels))
    cell = 6.6 / (grid[1] * len(across))  # width of one, in inches
    height = len(down) * float(np.clip(0.55 * cell, 0.38, 0.62))
    fig = style.new_figure(max(1.3 + grid[0] * (0.35 + height), 3.4), title)
    axes = style.panel_axes(fig, len(panels), grid)
    low, high = float(frame[value].min()), float(frame[value].max())
    longest = max(len(_cell_text(v, fmt)) for v in (low, high))
    fits = cell >= CHARACTER * longest + 0.1  # else the colours speak alone
    inset = min(0.2, CHARACTER / cell)
    if center is None:
        room = 0.0 if high > low else 0.5
        colours = {"cmap": SEQUENTIAL, "vmin": low - room, "vmax": high + room}
    else:
        reach = max(abs(low - center), abs(high - center)) or 1.0
        colours = {"cmap": DIVERGING, "norm": TwoSlopeNorm(center, center - reach, center + reach)}
    for k, (ax, (name, part)) in enumerate(zip(axes, panels, strict=True)):
        table = part.pivot(index=rows, columns=cols, values=value).reindex(index=down, columns=across).to_numpy()
        texts = np.vectorize(lambda v: _cell_text(v, fmt), otypes=[str])(table)
        seaborn.heatmap(
            table, mask=~np.isfinite(table), ax=ax, cbar=False, linewidths=1.5, linecolor=FACE, fmt="",
            annot=texts if fits else None, annot_kws={"fontsize": 11}, **colours,
        )  # fmt: skip
        ax.grid(False)
        ax.set_facecolor("#EEF0F2")
        ax.set_xticks(np.arange(len(across)) + 0.5, across.values())
        ax.set_yticks(np.arange(len(down)) + 0.5, down.values())
        ax.set_ylim(0, len(down))
        ax.tick_params(length=0, rotation=0, labelleft=k % grid[1] == 0)
        if (1 + max(map(len, across.values()))) * CHARACTER > cell:
            ax.tick_params(axis="x", rotation=35)
        ax.set_title(style.plain(name))
        if significant:  # dots in the upper right corners
            marked = part[part[significant].astype(bool)]
            i, j = (marked[name].map([*at].index) + 1 - inset for name, at in ((rows, down), (cols, across)))
            ax.plot(j, i, "o", color=INK, markersize=5, markeredgecolor=FACE, markeredgewidth=0.8, linestyle="none")
        if best and np.isfinite(table).any():
            i, j = np.unravel_index(np.nanargmin(table) if best == "min" else np.nanargmax(table), table.shape)
            ax.add_patch(Rectangle((j + 0.02, i + 0.04), 0.96, 0.92, fill=False, edgecolor=INK, linewidth=2.4))
    notes = ["● 95 % interval excludes 0"] if significant else []
    notes += [f"framed: {'lowest' if best == 'min' else 'highest'}"] if best else []
    across_label = (style.plain(cols) if xlabel is None else xlabel) + (f"      ({';  '.join(notes)})" if notes else "")
    fig.supxlabel(across_label, fontsize=12)
    down_label = style.plain(rows) if ylabel is None else ylabel
    fig.supylabel(down_label, fontsize=12, rotation=0 if len(down_label) <= 2 else 90)
    bar = fig.colorbar(axes[-1].collections[0], ax=axes, label=label, fraction=0.035, pad=0.015)
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
    ax: Axes, x: np.ndarray, y: np.ndarray, winners: np.ndarray, bayes: np.ndarray | None, n_agents: int
) -> list:
    """Paint winners (rows of y, columns of x; -1: outside) and outline the regions of `bayes`; what was drawn."""
    drawn = [
        ax.imshow(
            np.ma.masked_less(winners, 0), extent=(x[0], x[-1], y[0], y[-1]), origin="lower", aspect="auto",
            cmap=ListedColormap([style.tint(style.agent_color(k)) for k in range(n_agents)]), vmin=-0.5,
            vmax=n_agents - 0.5, interpolation="nearest", zorder=0.5,
        )
    ]  # fmt: skip
    solid, dashed = {"colors": FACE, "linewidths": 2.0}, {"colors": INK, "linewidths": 1.8, "linestyles": "--"}
    for grid, pen in ((winners, solid), *([(bayes, dashed)] if bayes is not None else [])):
        for k in np.unique(grid[grid >= 0])[1:]:
            reached = np.ma.masked_where(grid < 0, grid >= k).astype(float)
            drawn.append(ax.contour(x, y, reached, [0.5], zorder=2, **pen))
    return drawn


def _name_regions(ax: Axes, x: np.ndarray, y: np.ndarray, winners: np.ndarray, bayes: np.ndarray | None) -> None:
    """Each agent's name where its region has most room."""
    crossed = np.zeros(winners.shape, dtype=bool)  # where the dashed borders run: no place for a name
    if bayes is not None:
        crossed[:-1] |= bayes[:-1] != bayes[1:]
        crossed[:, :-1] |= bayes[:, :-1] != bayes[:, 1:]
    for k, color in enumerate(map(style.agent_color, range(3))):
        # The point farthest from the region's border has the most room for its name; a name is about thrice as wide
        # as high (with its margins), so heights count threefold, and 0.27 of the triangle's side wide.
        room = distance_transform_edt(np.pad((winners == k) & ~crossed, 1), sampling=(3, 1))
        if room.max() < 0.27 / 2 * len(x):
            continue
        i, j = np.unravel_index(np.argmax(room), room.shape)
        look = {"ha": "center", "va": "center", "fontsize": 11.5, "fontweight": "bold", "zorder": 6}
        look["path_effects"] = [withStroke(linewidth=3, foreground=style.tint(color))]
        ax.text(x[j - 1], y[i - 1], f"agent {k + 1}", color=style.readable(mix(color, INK, 0.25)), **look)


def _panel_figure(decide: Mapping[str, Decide], title: str | None, aspect: float) -> tuple[Figure, list[Axes]]:
    """One panel per rule, three a row; `aspect` is height over width of a panel."""
    if not isinstance(decide, Mapping) or not decide:
        raise ValueError("decide: expected a non-empty mapping of panel title -> callable")
    rows, columns = style.panel_grid(len(decide))
    width = min(8.4 / columns, 4.8)
    fig = style.new_figure(rows * (width * aspect + 0.55) + 0.7 + (0.3 if title else 0), title)
    return fig, style.panel_axes(fig, len(decide), (rows, columns))


@style.styled
def simplex_regions(
    decide: Mapping[str, Decide], *, bayes: Decide | None = None, resolution: int = 400, title: str | None = None
) -> Figure:
    """Which of three agents wins where on the 2-simplex, one panel per rule.

    Args:
        decide: panel title → callable from barycentric points (m, 3), rows >= 0 that sum to 1 (coordinate 1 is 1 in the
            left corner, 2 in the right one, 3 at the top), to winners (m,), integers 0, 1, 2. At least one.
        bayes: a rule of the same kind whose borders are overlaid, dashed. resolution: grid points a side.
    """
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
    for name, rule in (*decide.items(), *([("bayes", bayes)] if bayes is not None else [])):
        grids[name] = np.full(inside.shape, -1, dtype=np.int64)
        grids[name][inside] = _winners(f"rule {name!r}", rule, safe, 3)
    ideal = grids["bayes"] if bayes is not None else None
    corners = [(0, 0), (1, 0), (0.5, height)]
    for ax, name in zip(axes, decide, strict=True):
        outline = ax.add_patch(Polygon(corners, fill=False, edgecolor=INK, linewidth=1.4, zorder=5))
        for artist in _draw_regions(ax, x, y, grids[name], ideal, 3):
            artist.set_clip_path(outline)
        _name_regions(ax, x, y, grids[name], ideal)
        for k, (corner, align) in enumerate(zip(corners, ("left", "right", "center"), strict=True)):
            shift, va = ((0, 6), "bottom") if k == 2 else ((0, -16), "center")
            style.note(ax, f"$a_{k + 1}$ = 1", corner, shift, ha=align, va=va)
        ax.set_title(style.plain(name), loc="center", pad=24)
        ax.set(xlim=(-0.03, 1.03), ylim=(-0.02, height + 0.02), aspect="equal")
        ax.axis("off")
    if bayes is not None:
        fig.legend([Line2D([], [], **BORDER)], ["Bayes rule's borders"], loc="outside lower center")
    return fig


@style.styled
def plane_regions(
    decide: Mapping[str, Decide], points: np.ndarray, best: np.ndarray, labels: Sequence[str], *,
    xlim: tuple[float, float], ylim: tuple[float, float], bayes: Decide | None = None,
    border: str = "Bayes rule's borders", meaning: str = "area: routed to;  point: best served by",
    xlabel: str = "feature 1", ylabel: str = "feature 2", resolution: int = 300, title: str | None = None,
) -> Figure:  # fmt: skip
    """Which agent a rule routes to in a plane of two features, with examples, one panel per rule.

    Args:
        decide: panel title → callable from points (m, 2) to winners (m,), integers in 0..K-1. At least one.
        points: (n, 2) examples, n >= 1. best: (n,) integers in 0..K-1, the agent that each had best gone to (gives
            colour and marker).
        labels: the K agents' names. meaning: the legend's title.
        bayes: a rule whose borders are overlaid, dashed; border: its name in the legend.
    """
    points, best = np.asarray(points, dtype=np.float64), np.asarray(best)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"points: expected shape (n, 2) with n >= 1, found {points.shape}")
    best = _winners("best", lambda _: best, points, len(labels))
    pens = [style.MethodStyle(style.agent_color(k), style.agent_marker(k), "none") for k in range(len(labels))]
    fig, axes = _panel_figure(decide, title, aspect=min(1.2, max(0.6, (ylim[1] - ylim[0]) / (xlim[1] - xlim[0]))))
    x, y = np.linspace(*xlim, resolution), np.linspace(*ylim, resolution)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    ideal = None if bayes is None else _winners("bayes", bayes, grid, len(labels)).reshape(resolution, -1)
    for ax, (name, rule) in zip(axes, decide.items(), strict=True):
        winners = _winners(f"rule {name!r}", rule, grid, len(labels)).reshape(resolution, -1)
        _draw_regions(ax, x, y, winners, ideal, len(labels))
        for k, pen in enumerate(pens):
            look = {"color": pen.color, "markersize": 5.5, "markeredgecolor": FACE, "markeredgewidth": 0.7}
            ax.plot(*points[best == k].T, pen.marker, linestyle="none", zorder=3, **look)
        ax.set(xlim=xlim, ylim=ylim, xlabel=xlabel, ylabel=ylabel if ax is axes[0] else "")
        ax.set_aspect("equal", adjustable="box")
        ax.grid(False)
        ax.set_title(style.plain(name))
    names = [style.plain(label) for label in labels]
    handles = [(Patch(facecolor=style.tint(pen.color), edgecolor=pen.color), style.key(pen, "")) for pen in pens]
    if bayes is not None:
        handles.append(Line2D([], [], **BORDER))
        names.append(border)
    look = {"title": meaning, "handler_map": {tuple: HandlerTuple(ndivide=1, pad=0)}}
    fig.legend(handles, names, loc="outside lower center", ncols=min(5, len(names)), **look)
    return fig


def _ribbon(x0: float, low0: float, x1: float, low1: float, thick: float, color: str) -> PathPatch:
    """A ribbon `thick` high from (x0, low0..) to (x1, low1..), leaving and arriving level, with an arrowhead."""
    x1 -= TIP
    mid, wing = (x0 + x1) / 2, 0.05
    there = [(x0, low0), (mid, low0), (mid, low1), (x1, low1)]
    head = [(x1, low1 - wing), (x1 + TIP, low1 + thick / 2), (x1, low1 + thick + wing), (x1, low1 + thick)]
    back = [(mid, low1 + thick), (mid, low0 + thick), (x0, low0 + thick), (x0, low0)]
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, *[Path.LINETO] * 4, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    return PathPatch(Path([*there, *head, *back], codes), facecolor=color, edgecolor="none", zorder=2)


def _box(ax: Axes, x: float, y: float, w: float, h: float, color: str) -> None:
    look = {"facecolor": style.tint(color), "edgecolor": color, "linewidth": 1.6, "zorder": 3}
    ax.add_patch(FancyBboxPatch((x, y), w, h, boxstyle="round,pad=0,rounding_size=0.12", **look))


def _write(ax: Axes, x: float, y: float, text: str, **look: object) -> None:
    ax.text(x, y, style.plain(text), **{"ha": "center", "va": "center_baseline", "zorder": 5, **look})


def _thumbnails(ax: Axes, images: np.ndarray, x: float, y: float, side: float) -> None:
    """Up to nine images in a square whose upper left corner is (x, y)."""
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] != 3) or not images.size:
        raise ValueError(f"inputs: expected shape (n, H, W), (n, H, W, 1) or (n, H, W, 3), found {images.shape}")
    if images.dtype != np.uint8 and not ((images >= 0) & (images <= 1)).all():
        raise ValueError("inputs: expected uint8, or floats from 0 to 1")
    images = images[:9]
    across = int(np.ceil(np.sqrt(len(images))))
    step = side / across
    for i, image in enumerate(images):
        row, column = divmod(i, across)
        corner = x + column * step + 0.03, y - (row + 1) * step + 0.03
        thumb = ax.inset_axes([*corner, step - 0.06, step - 0.06], transform=ax.transData, zorder=4)
        thumb.imshow(image, interpolation="nearest", cmap="gray_r", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
        thumb.axis("off")


@style.styled
def router_diagram(
    agents: Sequence[str], shares: Sequence[float], *, captions: Sequence[str] | None = None,
    inputs: np.ndarray | None = None, title: str | None = None,
) -> Figure:  # fmt: skip
    """The problem in one picture: inputs, a router, and agents, with ribbons as wide as their shares.

    Args:
        agents: K names. shares: (K,) fractions that sum to 1. captions: K second lines (what the agent is good at, what
            it costs).
        inputs: up to nine small images shown at the left: (n, H, W), (n, H, W, 1) or (n, H, W, 3), uint8 or floats in
            [0, 1]; grey ones are drawn dark on white.
    """
    shares = check_fractions("shares", shares)
    captions = [""] * len(agents) if captions is None else list(captions)
    n = len(agents)
    for name, found in (("shares", shares), ("captions", captions)):
        if len(found) != n:
            raise ValueError(f"{name}: {len(found)} entries for {n} agents")
    height = max(3.4, 0.95 * n)  # data units are inches: the axes fill the page
    flow = min(1.5, height / 2.2)  # how high all ribbons together are
    fig = style.new_figure(height + (0.45 if title else 0.1), title)
    ax = fig.subplots()
    ax.set(xlim=(0, style.WIDTH), ylim=(0, height), aspect="equal")
    ax.axis("off")
    middle = height / 2
    left, router, right = (0.1, 1.75), (2.7, 1.95), (6.65, 2.25)  # x and width of the three columns
    _box(ax, left[0], middle - left[1] / 2, left[1], left[1], style.MUTED)
    if inputs is not None:
        _thumbnails(ax, np.asarray(inputs), left[0] + 0.1, middle + left[1] / 2 - 0.1, left[1] - 0.2)
    _write(ax, left[0] + left[1] / 2, middle - (0 if inputs is None else left[1] / 2 + 0.2), "inputs")
    _box(ax, router[0], middle - flow / 2 - 0.1, router[1], flow + 0.2, style.MUTED)
    _write(ax, router[0] + router[1] / 2, middle + 0.14, "router", fontsize=14, fontweight="bold")
    _write(ax, router[0] + router[1] / 2, middle - 0.2, "argmax of the scores", fontsize=11)
    low = middle - flow / 2
    ax.add_patch(_ribbon(left[0] + left[1] + 0.06, low, router[0] - 0.06, low, flow, "#C9CED6"))
    start = middle + flow / 2
    for k, (agent, share, caption) in enumerate(zip(agents, shares, captions, strict=True)):
        color, centre, thick = style.agent_color(k), height - (k + 0.5) * height / n, flow * share
        bold = {"fontweight": "bold", "color": style.readable(style.mix(color, style.INK, 0.3))}
        start -= thick
        if share > 0:
            ends = router[0] + router[1] + 0.04, start, right[0] - 0.62, centre - thick / 2
            ax.add_patch(_ribbon(*ends, thick, style.mix(color, style.FACE, 0.35)))
        _write(ax, right[0] - 0.32, centre, f"{share:.0%}", fontsize=12, **bold)
        _box(ax, right[0], centre - 0.36, right[1], 0.72, color)
        _write(ax, right[0] + 0.14, centre + (0.15 if caption else 0), agent, fontsize=12.5, ha="left", **bold)
        _write(ax, right[0] + 0.14, centre - 0.15, caption, fontsize=11, ha="left")
    return fig
