"""The look of the book: palette, a fixed colour and marker per method, and the page size."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

WIDTH = 9.0  # inches; 990 px at DPI, one page of a notebook
DPI = 110
INK, MUTED, GRID = "#1F2933", "#69727D", "#E4E7EB"
FACE = "#FFFFFF"

# Okabe and Ito's palette, safe for the common colour-vision deficiencies. Their yellow is left out:
# a yellow line cannot be read on white.
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, BLACK = "#56B4E9", "#CC79A7", "#000000"


def mix(color: str, other: str, share: float) -> str:
    """`color` with `share` (0 to 1) of `other` mixed in, as a hex string."""
    a, b = to_rgb(color), to_rgb(other)
    return to_hex([(1 - share) * u + share * v for u, v in zip(a, b, strict=True)])


def tint(color: str) -> str:
    """The pale version of a colour, for areas that text or points stand on."""
    return mix(color, FACE, 0.68)


def readable(color: str) -> str:
    """The same hue, dark enough for 11-point text on white."""
    red, green, blue = to_rgb(color)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    return mix(color, INK, max(0.0, min(0.6, 1.6 * (luminance - 0.36))))


class MethodStyle(NamedTuple):
    """How a method is drawn in every figure of the book."""

    color: str
    marker: str
    linestyle: str = "-"


DASH, DOT, DASHDOT = "--", ":", "-."

# The two papers' methods and the plain ones carry the strong hues; the peers from the imbalance literature
# carry muted ones; scores that need no training are greys.
METHOD_STYLE: dict[str, MethodStyle] = {
    "two_stage": MethodStyle(BLUE, "o"),
    "two_stage_cost_sum": MethodStyle(mix(BLUE, INK, 0.5), "s", DASH),
    "global_temperature": MethodStyle(SKY, "v"),
    "offsets": MethodStyle(mix(SKY, INK, 0.35), "P", DASHDOT),
    "two_stage_offsets": MethodStyle(mix(SKY, BLUE, 0.4), "P", DASH),
    "two_stage_shares": MethodStyle(mix(BLUE, INK, 0.3), "P", DOT),
    "mild": MethodStyle(VERMILLION, "D"),
    "mild_offsets": MethodStyle(mix(VERMILLION, INK, 0.45), "P", DASH),
    "mild_free": MethodStyle(mix(VERMILLION, FACE, 0.3), "d", DASHDOT),
    "dr_cpe": MethodStyle(mix(GREEN, SKY, 0.25), "^"),
    "dr_cpe_joint": MethodStyle(GREEN, "^"),
    "dr_cpe_marginal": MethodStyle(mix(GREEN, INK, 0.45), "<", DASH),
    "dr_cpe_log": MethodStyle(mix(GREEN, BLACK, 0.15), "*"),
    "dr_cpe_square": MethodStyle(mix(GREEN, ORANGE, 0.4), "s", DASHDOT),
    "dr_cpe_exponential": MethodStyle(mix(GREEN, BLUE, 0.5), "d", DOT),
    "dr_cpe_offsets": MethodStyle(mix(GREEN, FACE, 0.3), "P", DASH),
    "margin_dr_cpe": MethodStyle(PURPLE, "*"),
    "margin_dr_cpe_offsets": MethodStyle(mix(PURPLE, INK, 0.4), "P", DASH),
    "plug_in": MethodStyle(ORANGE, "s"),
    "plug_in_offsets": MethodStyle(mix(ORANGE, INK, 0.2), "P", DASH),
    "knn": MethodStyle(mix(ORANGE, INK, 0.4), "X"),
    "knn_offsets": MethodStyle(mix(ORANGE, INK, 0.6), "P", DASH),
    "neighbour_dr_cpe_offsets": MethodStyle(mix(PURPLE, FACE, 0.3), "P", DASHDOT),
    "reweighted": MethodStyle("#999933", "v", DASH),
    "class_balanced": MethodStyle("#B8A245", "<", DASH),
    "focal": MethodStyle("#882255", "p", DASH),
    "ldam": MethodStyle("#332288", "h", DASH),
    "logit_adjustment": MethodStyle("#44AA99", "d", DASH),
    "vs": MethodStyle("#AA4499", ">", DASH),
    "one_vs_all": MethodStyle("#CC6677", "8", DASH),
    "one_vs_all_offsets": MethodStyle(mix("#CC6677", INK, 0.4), "P", DASH),
    "one_vs_all_shares": MethodStyle(mix("#CC6677", INK, 0.65), "P", DOT),
    "global_temperature_offsets": MethodStyle(mix(SKY, INK, 0.6), "P", DASH),
    "dr_cpe_joint_offsets": MethodStyle(mix(GREEN, INK, 0.25), "P", DASH),
    "confidence": MethodStyle("#5B6470", "o", DASHDOT),
    "entropy": MethodStyle("#8C95A1", "s", DASHDOT),
    "margin": MethodStyle("#3F4752", "^", DASHDOT),
    "diff_01": MethodStyle("#5D3A9B", "X"),
    "diff_prob": MethodStyle("#9B7FC7", "d"),
    "max_prob": MethodStyle("#8C6D31", "h"),
    "mozannar_sontag": MethodStyle("#117733", "p"),
    "best_single": MethodStyle("#4A4A4A", "|", DASH),
    "cheapest": MethodStyle("#7A6A5A", "_", DASH),
    "random": MethodStyle("#A3A3A3", "x", DOT),
    "through_labels": MethodStyle(mix(ORANGE, BLACK, 0.6), "D", DOT),
    "knows_label": MethodStyle("#2B2B55", "*", DOT),
    "oracle": MethodStyle(BLACK, "*", DASHDOT),
}
COLORS: dict[str, str] = {name: style.color for name, style in METHOD_STYLE.items()}

METHOD_LABEL: dict[str, str] = {
    "two_stage": "two-stage",
    "two_stage_cost_sum": "two-stage, cost-sum",
    "global_temperature": "global temperature",
    "offsets": "post-hoc offsets",
    "two_stage_offsets": "two-stage + offsets",
    "two_stage_shares": "two-stage, ideal shares",
    "mild": "MILD",
    "mild_offsets": "MILD + offsets",
    "mild_free": "MILD, free margins",
    "dr_cpe": "DR-CPE",
    "dr_cpe_joint": "DR-CPE, joint",
    "dr_cpe_marginal": "DR-CPE, marginal",
    "dr_cpe_log": "DR-CPE, log loss",
    "dr_cpe_square": "DR-CPE, square loss",
    "dr_cpe_exponential": "DR-CPE, exponential loss",
    "dr_cpe_offsets": "DR-CPE + offsets",
    "margin_dr_cpe": "margin DR-CPE",
    "margin_dr_cpe_offsets": "margin DR-CPE + offsets",
    "plug_in": "plug-in",
    "plug_in_offsets": "plug-in + offsets",
    "knn": "k nearest neighbours",
    "knn_offsets": "k nearest neighbours + offsets",
    "neighbour_dr_cpe_offsets": "neighbour DR-CPE + offsets",
    "reweighted": "re-weighted",
    "class_balanced": "class-balanced",
    "focal": "focal",
    "ldam": "LDAM",
    "logit_adjustment": "logit adjustment",
    "vs": "VS loss",
    "one_vs_all": "one-vs-all",
    "one_vs_all_offsets": "one-vs-all + offsets",
    "one_vs_all_shares": "one-vs-all, ideal shares",
    "global_temperature_offsets": "global temperature + offsets",
    "dr_cpe_joint_offsets": "DR-CPE, joint + offsets",
    "confidence": "confidence",
    "entropy": "entropy",
    "margin": "top-two margin",
    "diff_01": "Diff-01",
    "diff_prob": "Diff-Prob",
    "max_prob": "Max-Prob",
    "mozannar_sontag": "Mozannar–Sontag",
    "best_single": "best single",
    "cheapest": "cheapest",
    "random": "random",
    "through_labels": "label guess, known homes",
    "knows_label": "knows the label",
    "oracle": "oracle",
}

AGENT_COLORS: tuple[str, ...] = (
    BLUE,
    ORANGE,
    GREEN,
    PURPLE,
    SKY,
    VERMILLION,
    "#999933",
    "#332288",
    "#882255",
    "#117733",
    "#8C6D31",
    "#69727D",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")


def agent_color(k: int) -> str:
    """Colour of agent k (0-based); beyond twelve agents the palette starts again, darker."""
    lap, k = divmod(k, len(AGENT_COLORS))
    return mix(AGENT_COLORS[k], INK, min(0.7, 0.35 * lap))


def plain(text: object) -> str:
    """A name that comes from data, with dollar signs kept from being read as mathematics."""
    return str(text).replace("$", r"\$")


def number_text(value: float) -> str:
    """A number for a tick or a key: three digits, no trailing zeros, a real minus sign."""
    return f"{round(value, 9):.4g}".replace("-", "−")


def signed_text(value: float, fmt: str) -> str:
    """A number in a format such as "{:+.3f}": a real minus sign, and no sign before what is rounded to zero."""
    text = fmt.format(value)
    return (text if any(digit in text for digit in "123456789") else text.lstrip("+-")).replace("-", "−")


def panel_grid(n: int) -> tuple[int, int]:
    """Rows and columns for n panels on a page."""
    columns = 2 if n == 4 else min(n, 3)
    return -(-n // columns), columns


def method_label(name: object) -> str:
    """The name that readers see; a name outside the registry is shown as it is."""
    return plain(METHOD_LABEL.get(str(name), name))


def method_styles(names: Sequence[object]) -> dict[object, MethodStyle]:
    """Styles of `names` (distinct, any hashable): the registry's, and the agents' colours in order of
    appearance for names that the registry does not know."""
    strangers = [name for name in names if str(name) not in METHOD_STYLE]
    taken = {to_rgb(METHOD_STYLE[str(name)].color) for name in names if str(name) in METHOD_STYLE}
    free = [k for k in range(4 * len(AGENT_COLORS)) if to_rgb(agent_color(k)) not in taken]
    found = {
        name: MethodStyle(agent_color(free[i % len(free)]), MARKERS[i % len(MARKERS)])
        for i, name in enumerate(strangers)
    }
    return {name: METHOD_STYLE[str(name)] if name not in found else found[name] for name in names}


STYLE: dict[str, object] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 12,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12.5,
    "figure.dpi": DPI,
    "figure.facecolor": FACE,
    "figure.figsize": (WIDTH, 4.5),
    "figure.titlesize": 14,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.markersize": 7,
    "mathtext.fontset": "dejavusans",
    "savefig.dpi": DPI,
    "svg.hashsalt": "l2d_utils",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 11,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 11,
}


def use_style() -> None:
    """Set the book's style for everything drawn afterwards; inside Jupyter also make figures show as plain
    PNG at their true size. Safe without a display and outside Jupyter."""
    mpl.rcParams.update(STYLE)
    try:
        from IPython import get_ipython
    except ImportError:
        return
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return
    from IPython.core.pylabtools import select_figure_formats
    from matplotlib_inline.config import InlineBackend

    config = InlineBackend.instance(parent=shell)
    config.figure_formats = {"png"}
    # Without the tight box every figure of the book has the same width; without the software's name a
    # stored picture does not change with the version of matplotlib alone.
    config.print_figure_kwargs = {"bbox_inches": None, "metadata": {"Software": None}}
    select_figure_formats(shell, config.figure_formats, **config.print_figure_kwargs)


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Give a drawing function the book's style whatever the caller's settings are, and leave those alone."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def new_figure(height: float, title: str | None = None, width: float = WIDTH) -> Figure:
    """An empty figure (sizes in inches) that fits its contents, with `title` at the top left."""
    fig = Figure(figsize=(width, round(height, 2)), dpi=DPI, layout="constrained")
    fig.get_layout_engine().set(w_pad=0.09, h_pad=0.07)
    FigureCanvasAgg(fig)
    if title:
        fig.suptitle(title, x=0.01, ha="left")
    return fig


def key(style: MethodStyle, label: str, *, marker: bool = True) -> Line2D:
    """The entry of a legend for a line drawn in `style`."""
    shape = style.marker if marker else ""
    return Line2D([], [], color=style.color, marker=shape, linestyle=style.linestyle, label=label)


def as_percent(axis) -> None:
    """Show the fractions of an axis in per cent."""
    axis.set_major_formatter(lambda value, _: f"{number_text(100 * value)}%")
