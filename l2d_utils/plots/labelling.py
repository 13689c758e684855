"""Labels beside lines and points instead of in a legend, placed where they cover nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from l2d_utils.plots.style import FACE, INK, readable

CLEARANCE = 3.0  # pixels kept free around a label
LEADER = 20.0  # pixels; a label farther from its anchor is tied to it by a thin line
SIDES = ((0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0))


class Label(NamedTuple):
    """A text, the places (m, 2) in data units that it may stand beside, best first, and which of the
    obstacles it names."""

    text: str
    color: str
    anchors: np.ndarray
    owner: int


def densify(pixels: np.ndarray, step: float = 4.0) -> np.ndarray:
    """Points (n, 2) along a polyline (m, 2) at most `step` pixels apart, corners included."""
    pixels = pixels[np.isfinite(pixels).all(axis=1)]
    if len(pixels) < 2:
        return pixels
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(pixels, axis=0).T))])
    at = np.unique(np.concatenate([np.linspace(0, length[-1], 2 + int(length[-1] / step)), length]))
    return np.column_stack([np.interp(at, length, pixels[:, 0]), np.interp(at, length, pixels[:, 1])])


def _distance(dots: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Pixels from the box low..high to the nearest of dots (n, 2); 0 when one lies inside."""
    if not len(dots):
        return np.inf
    return float(np.hypot(*np.maximum(np.maximum(low - dots, dots - high), 0).T).min())


def place_labels(ax: Axes, labels: Sequence[Label], obstacles: Sequence[np.ndarray], pushes: Sequence[float]) -> int:
    """Write each label beside one of its anchors, inside the axes; return how many had to cover something.

    obstacles: polylines (m, 2) in data units that no label may cover. pushes: distances from the anchor that
    may be tried, in pixels. Greedy in the order given, preferring places that lie nearer to the label's owner
    than to anything else. The axes' limits and everything outside the axes must be final.
    """
    fig = ax.figure
    fig.draw_without_rendering()
    renderer = fig.canvas.get_renderer()
    to_pixels = ax.transData.transform
    tracks = [densify(to_pixels(np.asarray(o, dtype=float))) for o in obstacles]
    blocked = np.concatenate(tracks) if tracks else np.empty((0, 2))
    frame = ax.get_window_extent()
    taken: list[tuple[np.ndarray, np.ndarray]] = []
    covering = 0
    for label in labels:
        style = {"fontsize": 11, "color": readable(label.color), "ha": "center", "va": "center"}
        style["path_effects"] = [withStroke(linewidth=3, foreground=FACE)]
        probe = ax.text(0.5, 0.5, label.text, transform=ax.transAxes, **style)
        box = probe.get_window_extent(renderer)
        probe.remove()
        half = np.array([box.width, box.height]) / 2
        others = np.concatenate([np.empty((0, 2)), *tracks[: label.owner], *tracks[label.owner + 1 :]])
        best = None
        for rank, anchor in enumerate(np.asarray(label.anchors, dtype=float)):
            pixel = to_pixels(anchor)
            for turn, side in enumerate(np.array(SIDES)):
                for push in pushes:
                    shift = side * (half + push / np.hypot(*side))
                    low, high = pixel + shift - half - CLEARANCE, pixel + shift + half + CLEARANCE
                    outside = bool((low < frame.min).any() or (high > frame.max).any())
                    cost = 1000 * outside + rank / 20 + turn / 4 + push / 4
                    if best is not None and cost >= best[0]:
                        continue  # the costly terms below can only add to it
                    covered = int(((blocked > low) & (blocked < high)).all(axis=1).sum())
                    crossed = sum(bool((low < b).all() and (high > a).all()) for a, b in taken)
                    if push > LEADER:
                        way = densify(np.stack([pixel, pixel + shift]))
                        crossed += sum(bool(((way > a) & (way < b)).all(axis=1).any()) for a, b in taken)
                    own, other = _distance(tracks[label.owner], low, high), _distance(others, low, high)
                    cost += 10 * covered + 500 * crossed + 1.5 * max(0.0, own + 12 - other)
                    if best is None or cost < best[0]:
                        best = (cost, anchor, shift, (low, high), push, bool(covered or crossed or outside))
        _, anchor, shift, area, push, bad = best
        ax.annotate(
            label.text,
            anchor,
            xytext=tuple(shift * 72 / fig.dpi),
            textcoords="offset points",
            annotation_clip=False,
            zorder=8,
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 1.0, "shrinkA": 1, "shrinkB": 5}
            if push > LEADER
            else None,
            **style,
        )
        taken.append(area)
        if push > LEADER:
            pixel = to_pixels(anchor)
            blocked = np.concatenate([blocked, densify(np.stack([pixel, pixel + shift]))])
        covering += bad
    return covering
