"""Pictures that explain: ideal distributions, and who gets what from the router."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import NullLocator

from l2d_utils.plots import style
from l2d_utils.plots.checks import check_fractions

TIP = 0.15  # inches; how far an arrowhead reaches beyond the end of its ribbon


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
