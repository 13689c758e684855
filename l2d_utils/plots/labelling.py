"""Labels beside lines and points instead of in a legend, placed where they cover nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from l2d_utils.plots.style import readable

PAD = 5.0  # pixels between a label and what it names
CLEARANCE = 3.0  # pixels kept free around a label


class Label(NamedTuple):
    """A text and the places (m, 2), in data units, that it may stand beside, best first."""

    text: str
    color: str
    anchors: np.ndarray


def densify(pixels: np.ndarray, step: float = 4.0) -> np.ndarray:
    """Points (n, 2) along a polyline (m, 2) at most `step` pixels apart, corners included."""
    pixels = pixels[np.isfinite(pixels).all(axis=1)]
    if len(pixels) < 2:
        return pixels
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(pixels, axis=0).T))])
    at = np.unique(np.concatenate([np.linspace(0, length[-1], 2 + int(length[-1] / step)), length]))
    return np.column_stack([np.interp(at, length, pixels[:, 0]), np.interp(at, length, pixels[:, 1])])


def place_labels(ax: Axes, labels: Sequence[Label], obstacles: Sequence[np.ndarray], sides: str) -> int:
    """Write each label beside one of its anchors, inside the axes, and return how many had to cover something.

    obstacles: polylines (m, 2) in data units that no label may cover. sides: "lines" tries above and below,
    "points" tries all eight sides. Greedy in the order given; the axes' limits must be final.
    """
    fig = ax.figure
    fig.draw_without_rendering()
    renderer = fig.canvas.get_renderer()
    to_pixels = ax.transData.transform
    blocked = [densify(to_pixels(np.asarray(o, dtype=float))) for o in obstacles if len(o)]
    blocked = np.concatenate(blocked) if blocked else np.empty((0, 2))
    frame = ax.get_window_extent()
    directions = [(0, 1), (0, -1)]
    if sides == "points":
        directions = [(1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]
    taken: list[np.ndarray] = []
    covering = 0
    for label in labels:
        text = ax.annotate(
            label.text,
            (0, 0),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=11,
            color=readable(label.color),
            annotation_clip=False,
        )
        box = text.get_window_extent(renderer)
        half = np.array([box.width, box.height]) / 2
        best = None
        for rank, anchor in enumerate(np.asarray(label.anchors, dtype=float)):
            pixel = to_pixels(anchor)
            for turn, direction in enumerate(directions):
                for push in (1.0, 2.5) if sides == "points" else (1.0, 2.0, 3.5):
                    shift = np.array(direction) * (half + PAD * push)
                    low, high = pixel + shift - half - CLEARANCE, pixel + shift + half + CLEARANCE
                    covered = int(((blocked > low) & (blocked < high)).all(axis=1).sum())
                    crossed = sum(bool((low < t[1]).all() and (high > t[0]).all()) for t in taken)
                    outside = (
                        low[0] < frame.x0 or low[1] < frame.y0 or high[0] > frame.x1 or high[1] > frame.y1
                    )
                    cost = (
                        10 * covered + 500 * crossed + 1000 * outside + rank / 20 + turn / 4 + 3 * (push - 1)
                    )
                    if best is None or cost < best[0]:
                        best = (cost, anchor, shift, low, high, covered or crossed or outside)
        _, anchor, shift, low, high, bad = best
        text.xy = tuple(anchor)
        text.set_position(tuple(shift * 72 / fig.dpi))
        taken.append(np.array([low, high]))
        covering += bool(bad)
    return covering
