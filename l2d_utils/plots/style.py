"""The look of the book: palette, a fixed colour and marker per method, and the page size."""

import functools
import re
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from l2d_utils.methods import METHODS, label

WIDTH = 9.0  # inches; 990 px at DPI, one page of a notebook
DPI = 110
INK, MUTED, GRID = "#1F2933", "#69727D", "#E4E7EB"
FACE = "#FFFFFF"

# Okabe and Ito's palette, safe for the common colour-vision deficiencies. Their yellow is left out:
# a yellow line cannot be read on white.
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE = "#56B4E9", "#CC79A7"


def mix(color: str, other: str, share: float) -> str:
    """`color` with `share` (0 to 1) of `other` mixed in, as a hex string."""
    a, b = to_rgb(color), to_rgb(other)
    return to_hex([(1 - share) * u + share * v for u, v in zip(a, b, strict=True)])


def tint(color: str) -> str:
    """The pale version of a colour, for areas that text or points stand on."""
    return mix(color, FACE, 0.68)


def readable(color: str) -> str:
    """The same hue, dark enough for 11-point text on white."""
    luminance = np.dot(to_rgb(color), (0.299, 0.587, 0.114))
    return mix(color, INK, float(np.clip(1.6 * (luminance - 0.36), 0, 0.6)))


class MethodStyle(NamedTuple):
    """How a method is drawn in every figure of the book."""

    color: str
    marker: str
    linestyle: str = "-"


AGENT_COLORS = (
    BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION,
    "#999933", "#332288", "#882255", "#117733", "#8C6D31", "#69727D",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")


def agent_color(k: int) -> str:
    """Colour of agent k (0-based); beyond twelve agents the palette starts again, darker."""
    lap, k = divmod(k, len(AGENT_COLORS))
    return mix(AGENT_COLORS[k], INK, min(0.7, 0.35 * lap))


def agent_marker(k: int) -> str:
    """Marker of agent k (0-based)."""
    return MARKERS[k % len(MARKERS)]


def plain(text: object) -> str:
    """A name that comes from data, with dollar signs kept from being read as mathematics; twice is as once."""
    return re.sub(r"(?<!\\)\$", r"\\$", str(text))


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


def panel_axes(fig: Figure, n: int, grid: tuple[int, int], **shared: bool) -> list[Axes]:
    """Axes of n panels on a grid of rows and columns; places left over stay empty."""
    axes = list(fig.subplots(*grid, squeeze=False, **shared).ravel())
    for ax in axes[n:]:
        ax.set_visible(False)
    return axes[:n]


def method_label(name: object) -> str:
    """What readers see: the label of a method that the table knows, a float in short, anything else as it is."""
    return number_text(name) if isinstance(name, float) else plain(label(name))


def method_styles(names: Sequence[object]) -> dict[object, MethodStyle]:
    """Styles of `names` (distinct, any hashable): those of the methods table, and the agents' colours in order of
    appearance for names that the table does not know."""
    known = {name: METHODS[str(name)] for name in names if str(name) in METHODS}
    found = {name: MethodStyle(method.color, method.marker, method.line) for name, method in known.items()}
    taken = {to_rgb(style.color) for style in found.values()}
    free = [k for k in range(4 * len(AGENT_COLORS)) if to_rgb(agent_color(k)) not in taken]
    for i, name in enumerate(name for name in names if name not in known):
        found[name] = MethodStyle(agent_color(free[i % len(free)]), agent_marker(i))
    return {name: found[name] for name in names}


STYLE: dict[str, object] = {
    **dict.fromkeys(("axes.labelcolor", "text.color", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), MUTED),
    **dict.fromkeys(("axes.labelsize", "font.size"), 12),
    **dict.fromkeys(("legend.fontsize", "xtick.labelsize", "ytick.labelsize"), 11),
    **dict.fromkeys(("axes.spines.right", "axes.spines.top", "legend.frameon"), False),
    **dict.fromkeys(("axes.axisbelow", "axes.grid"), True),
    **dict.fromkeys(("figure.dpi", "savefig.dpi"), DPI),
    "axes.titlelocation": "left", "axes.titlesize": 12.5,
    "figure.facecolor": FACE, "figure.figsize": (WIDTH, 4.5), "figure.titlesize": 14,
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "mathtext.fontset": "dejavusans",
    "grid.color": GRID, "grid.linewidth": 0.8, "lines.linewidth": 2.0, "lines.markersize": 7,
    "svg.hashsalt": "l2d_utils",
}  # fmt: skip


def use_style() -> None:
    """Set the book's style for everything drawn afterwards; inside Jupyter also make figures show as plain
    PNG at their true size. Safe without a display and outside Jupyter."""
    mpl.rcParams.update(STYLE)
    ipython = sys.modules.get("IPython")  # whoever runs inside Jupyter has it loaded
    shell = ipython and ipython.get_ipython()
    if not hasattr(shell, "kernel"):
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


def new_figure(height: float, title: str | None = None) -> Figure:
    """An empty figure, `height` inches high, that fits its contents, with `title` at the top left."""
    fig = Figure(figsize=(WIDTH, round(height, 2)), dpi=DPI, layout="constrained")
    fig.get_layout_engine().set(w_pad=0.09, h_pad=0.07)
    FigureCanvasAgg(fig)
    if title:
        fig.suptitle(title, x=0.01, ha="left")
    return fig


def key(style: MethodStyle, label: str, *, marker: bool = True) -> Line2D:
    """The entry of a legend for a line drawn in `style`."""
    shape = style.marker if marker else ""
    return Line2D([], [], color=style.color, marker=shape, linestyle=style.linestyle, label=label)


def legend(fig: Figure, handles: Sequence[Line2D], *, beside: bool = False, title: str | None = None) -> None:
    """Below the axes, in as many columns as fit; or beside them, if no name is so long that it would squeeze them."""
    longest = max(len(handle.get_label()) for handle in handles)
    if beside and longest <= 24:
        fig.legend(handles=handles, loc="outside right center", title=title, alignment="left")
    else:
        columns = int((WIDTH - 0.4) / (0.65 + 0.085 * longest))  # inches: of a key, and of a character
        fig.legend(handles=handles, loc="outside lower center", title=title, ncols=max(1, min(4, columns)))


def note(ax: Axes, text: str, at: tuple, shift: tuple[float, float], **look: object) -> Annotation:
    """Text shifted by so many points from `at` (data, unless xycoords says other), even outside the axes."""
    look = {"textcoords": "offset points", "annotation_clip": False, "fontsize": 11, "color": MUTED, **look}
    return ax.annotate(text, at, xytext=shift, **look)


def as_percent(axis) -> None:
    """Show the fractions of an axis in per cent."""
    axis.set_major_formatter(lambda value, _: f"{number_text(100 * value)}%")
