"""Every picture of the book: one style, one function per kind of figure.

Functions take tidy frames or arrays whose numbers are already computed, leave them as they are, and return a
`matplotlib.figure.Figure`. A frame without rows or a needed column, with a missing name, a number that is not finite
(an optional one may be NaN), or two rows for one place of the figure raises ValueError, which names what it found; so
does every argument that is not what the function's docstring asks for (shape, range, one of a few words). A column
`method` holds keys of the table in `l2d_utils.methods`, which gives labels, colours and markers. Figures are not
registered with pyplot: end a notebook cell with the figure, or with `results.show_figure`, to show it once.
"""

from l2d_utils.plots.functions import curves, frontier, lines
from l2d_utils.plots.maps import heatmap, plane_regions, router_diagram, simplex_regions
from l2d_utils.plots.rankings import density_bars, intervals, outcomes, paired_differences, shares
from l2d_utils.plots.style import method_label, method_styles, use_style

__all__ = [
    "curves", "density_bars", "frontier", "heatmap", "intervals", "lines", "method_label", "method_styles", "outcomes",
    "paired_differences", "plane_regions", "router_diagram", "shares", "simplex_regions", "use_style",
]  # fmt: skip
