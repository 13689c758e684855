"""Numbers in groups beside the bound that they were tested against, marked by what came of the test."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from l2d_utils.plots.checks import check_choice, check_frame, check_unique
from l2d_utils.plots.style import (
    BLUE,
    FACE,
    GREEN,
    INK,
    MUTED,
    VERMILLION,
    MethodStyle,
    as_percent,
    in_points,
    key,
    method_label,
    new_figure,
    plain,
    styled,
)

ROW = 0.29  # inches per row

#: Outcome → colour and marker; colour is never the only sign. Those of the open outcomes are drawn hollow.
OUTCOME_STYLE = {
    "REPRODUCED": MethodStyle(GREEN, "o"),
    "DIFFERS": MethodStyle(VERMILLION, "D"),
    "NOT TESTABLE HERE": MethodStyle(MUTED, "s"),
    "holds": MethodStyle(GREEN, "o"),
    "open": MethodStyle(MUTED, "s"),
    "against": MethodStyle(VERMILLION, "D"),
    "signal": MethodStyle(BLUE, "D"),
    "no signal": MethodStyle(MUTED, "s"),
}
HOLLOW = {"open", "no signal", "NOT TESTABLE HERE"}


@styled
def outcomes(
    frame: pd.DataFrame,
    value: str,
    *,
    line: float | None = None,
    band: tuple[float, float] | None = None,
    panel: str | None = None,
    percent: bool = False,
) -> Figure:
    """Rows in groups: a dot with its interval, coloured and shaped by its outcome, beside the bound.

    Args:
        frame: columns `group`, `name` (of a method: its key), `outcome` (one of `OUTCOME_STYLE`), and optionally
            `mean`, `low`, `high` (NaN: no dot, no interval) and `text` (written at the right); groups and rows stand
            in order of appearance.
        value: the label of the x axis, with its unit. line: x of the bound. band: x of the ends of a shaded range.
        panel: column that splits the frame into panels with common rows (a row that a panel lacks stays empty there)
            and a common x axis. percent: values are fractions, shown in per cent.

    Raises:
        ValueError: a missing column, an empty frame, an infinite number, an unknown outcome or a repeated row.
    """
    names = ["group", "name", "outcome", *([panel] if panel else [])]
    frame = check_frame("frame", frame, names, (), ["mean", "low", "high"])
    check_unique("frame", frame, ["group", "name", *([panel] if panel else [])])
    for outcome in frame["outcome"].unique():
        check_choice("outcome", outcome, list(OUTCOME_STYLE))
    panels = list(frame[panel].unique()) if panel else [None]
    at = _places(frame)
    below = max(at.values()) + 0.7
    fig = new_figure(1.35 + ROW * (below + 0.6) + (0.2 if panel else 0))
    axes = fig.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for ax, name in zip(axes, panels, strict=True):
        ax.set_title(plain(name) if panel else "")
        ax.set_ylim(below, -0.6)
        ax.grid(axis="y", visible=False)
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
        if band:
            ax.axvspan(*band, color=MUTED, alpha=0.13, linewidth=0, zorder=0)
        if line is not None:
            ax.axvline(line, color=INK, linewidth=1.2, zorder=1)
        _draw(ax, frame[frame[panel] == name] if panel else frame, at)
        if percent:
            as_percent(ax.xaxis)
        ax.locator_params(axis="x", nbins=max(3, 7 // len(panels)))
    _name_rows(axes[0], at)
    if panel:
        fig.supxlabel(value, fontsize=12)
    else:
        axes[0].set_xlabel(value, loc="right")  # the axes are narrow: a long label grows to the left
    drawn = [o for o in OUTCOME_STYLE if (frame["outcome"].eq(o) & frame["mean"].notna()).any()]
    handles = [key(OUTCOME_STYLE[o]._replace(linestyle=""), o) for o in drawn]
    for handle, outcome in zip(handles, drawn, strict=True):
        handle.set_markerfacecolor(FACE if outcome in HOLLOW else handle.get_color())
    fig.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return fig


def _places(frame: pd.DataFrame) -> dict[tuple[str, str | None], float]:
    """y of every row, by group and name; that of a group's heading under the name None. "" is a group without one."""
    at, y = {}, 0.0
    for group, rows in frame.groupby("group", sort=False):
        if group:
            at[group, None] = y
            y += 1
        for name in rows["name"].unique():
            at[group, name] = y
            y += 1
        y += 0.4
    return at


def _name_rows(ax, at: dict[tuple[str, str | None], float]) -> None:
    rows = {y: method_label(name) for (_, name), y in at.items() if name is not None}
    ax.set_yticks(list(rows), list(rows.values()))
    look = {"ha": "right", "va": "center", "fontsize": 12, "fontweight": "bold", "color": INK}
    for (group, name), y in at.items():
        if name is None:
            place = blended_transform_factory(ax.transAxes, ax.transData)
            ax.annotate(plain(group), (0, y), xycoords=place, **in_points(-4, 0), **look)


def _draw(ax, rows: pd.DataFrame, at: dict[tuple[str, str | None], float]) -> None:
    for row in rows.itertuples():
        y, style = at[row.group, row.name], OUTCOME_STYLE[row.outcome]
        if np.isfinite(row.low) and np.isfinite(row.high):
            ax.plot([row.low, row.high], [y, y], color=style.color, linewidth=2.2, solid_capstyle="butt", zorder=2)
        if np.isfinite(row.mean):
            face = FACE if row.outcome in HOLLOW else style.color
            look = {"markersize": 7.5, "markeredgecolor": style.color, "markeredgewidth": 1.7, "markerfacecolor": face}
            ax.plot([row.mean], [y], style.marker, linestyle="none", zorder=3, **look)
        if getattr(row, "text", ""):
            place = blended_transform_factory(ax.transAxes, ax.transData)
            color = INK if np.isfinite(row.mean) else MUTED
            look = {"va": "center", "fontsize": 11, "color": color}
            ax.annotate(plain(row.text), (1, y), xycoords=place, **in_points(7, 0), **look)
