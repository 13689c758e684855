"""Every picture of the book: one style, one function per kind of figure.

Functions take tidy frames or arrays whose numbers are already computed, leave them as they are, and return
a `matplotlib.figure.Figure`. Figures are not registered with pyplot: end a notebook cell with the figure
(or `display(fig)`) to show it once.
"""

from l2d_utils.plots.functions import curves, frontier, lines, loglog
from l2d_utils.plots.maps import heatmap, plane_regions, simplex_regions
from l2d_utils.plots.outcomes import OUTCOME_STYLE, outcomes
from l2d_utils.plots.pictures import density_bars, image_grid, router_diagram
from l2d_utils.plots.rankings import intervals, paired_differences, shares
from l2d_utils.plots.style import (
    AGENT_COLORS,
    STYLE,
    method_label,
    method_styles,
    use_style,
)

__all__ = [
    "AGENT_COLORS",
    "OUTCOME_STYLE",
    "STYLE",
    "curves",
    "density_bars",
    "frontier",
    "heatmap",
    "image_grid",
    "intervals",
    "lines",
    "loglog",
    "method_label",
    "method_styles",
    "outcomes",
    "paired_differences",
    "plane_regions",
    "router_diagram",
    "shares",
    "simplex_regions",
    "use_style",
]
