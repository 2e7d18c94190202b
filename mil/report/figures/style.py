"""Figures of the report: inline SVG by matplotlib, one look, the same bytes for the same data."""

import io
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from mil.report.figures.blocks import Figure, Key

# Okabe and Ito's colours, which people with any colour vision can tell apart, but for
# yellow, which is too light for a line on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
GREY = "#b3b8bf"
QUIET = "#5b6470"
# With at most as many heads all curves and their bands stand in one panel.
OVERLAID = 4
PANELS = 8  # heads, or classes, that get a panel of their own
ACROSS = 4  # panels in a row of a page 1180 px wide
BAND = 0.16  # opacity
DASH = 3  # length of the dashes of curves that lie on each other, line widths
WIDTH = 1.5  # of a line, points
TITLE = 30  # most letters above a panel
END = 9  # of these at the end of a name, which tells the encoder

RASTERS = (400, 200, 100, 60, 40, 25, 16)  # cells of a panel in each direction
# A figure stays below 100 kB: vertices of all its lines, and of one line.
VERTICES = 3000
FEWEST_VERTICES, MOST_VERTICES = 30, 250
FIRST = 12  # vertices of a line that are always kept
RESAMPLES = 300  # of patients, for a band: its ends vary by 4 % of its width

Values = Float[np.ndarray, " n"]

STYLE: dict[Any, Any] = {
    # Ids in the SVG are hashes; with a fixed salt the same figure gives the same bytes.
    "svg.hashsalt": "mil",
    # Text as text: half the size, found by a search, read by a screen reader.
    "svg.fonttype": "none",
    # Names of others may hold a dollar sign, which would start mathematics.
    "text.parse_math": False,
    "font.family": "sans-serif",
    # By whose widths room is measured. The page's style puts its own font in its place.
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": "#1b1f24",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": WIDTH,
    "lines.solid_capstyle": "butt",
    "lines.dash_capstyle": "butt",
}
# Functions that draw stand under it: artists take their look from it when they are made.
styled = rc_context(STYLE)

# Margins in inches, wide enough for tick labels and names of axes in any font.
LEFT, RIGHT, TOP, BOTTOM = 0.55, 0.12, 0.3, 0.48
GAP, ROW_GAP, FULL_ROW_GAP = 0.28, 0.8, 0.42


def panels(
    number: int,
    *,
    width: float = 2.15,
    height: float = 2.15,
    across: int = ACROSS,
    share: Literal["all", "none"] = "all",
    bottom: float = BOTTOM,
) -> tuple[Canvas, list[Axes]]:
    """A figure of equal panels in rows, those without use left out.

    Args:
        number: Number of panels, at least 1.
        width: Width of a panel, inches.
        height: Height of a panel, inches.
        across: Most panels in a row.
        share: `all`: panels have the same axes, numbered at the left and at the bottom.
        bottom: Room below each panel, inches.
    """
    columns = min(number, across)
    rows = -(-number // columns)
    gap = GAP if share == "all" else LEFT + 0.05
    # Panels of the last row but one without one below them have names of their own.
    row_gap = (FULL_ROW_GAP if share == "all" and number % columns == 0 else ROW_GAP) + (
        bottom - BOTTOM
    )
    wide = LEFT + columns * width + (columns - 1) * gap + RIGHT
    high = TOP + rows * height + (rows - 1) * row_gap + bottom
    # Not pyplot, which keeps every figure in global state and may look for a display.
    # Margins are known: to measure them would double the time.
    canvas = Canvas(figsize=(wide, high))
    axes = []
    for place in range(number):
        row, column = divmod(place, columns)
        left = LEFT + column * (width + gap)
        low = bottom + (rows - 1 - row) * (height + row_gap)
        one = canvas.add_axes((left / wide, low / high, width / wide, height / high))
        if share == "all":
            one.tick_params(
                labelleft=column == 0, labelbottom=place + columns >= number or row == rows - 1
            )
        axes.append(one)
    return canvas, axes


def name_axes(axes: Sequence[Axes], x: str, y: str, *, across: int = ACROSS) -> None:
    """Name the axes of panels that share them: at the left and at the bottom."""
    columns = min(len(axes), across)
    for place, one in enumerate(axes):
        if place % columns == 0:
            one.set_ylabel(y)
        if place + columns >= len(axes):
            one.set_xlabel(x)


def unit_square(axes: Axes, *, diagonal: bool) -> None:
    """Both axes 0 to 1 with a little room, and the diagonal."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ticks = (0, 0.25, 0.5, 0.75, 1)
    axes.set_xticks(ticks, ("0", "", "0.5", "", "1"))
    axes.set_yticks(ticks, ("0", "", "0.5", "", "1"))
    if diagonal:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")


def shorten(name: str, most: int = TITLE) -> str:
    """Name with its middle left out where it is too long for a panel."""
    return name if len(name) <= most else f"{name[: most - 1 - END]}…{name[-END:]}"


def thinned(x: Values, y: Values, most: int) -> tuple[Values, Values]:
    """Points of which no two lie in one cell of a raster: the others would not be seen.

    The raster is the finest of `RASTERS` that leaves at most so many points.
    """
    if len(x) <= most:
        return x, y
    kept = np.arange(len(x))
    for cells in RASTERS:
        columns = np.floor(cells * (x - x.min()) / (np.ptp(x) or 1))
        rows = np.floor(cells * (y - y.min()) / (np.ptp(y) or 1))
        _, kept = np.unique(columns * (cells + 1) + rows, return_index=True)
        if len(kept) <= most:
            break
    kept = np.sort(kept)
    return x[kept], y[kept]


def vertices(lines: int) -> int:
    """Most vertices of each of so many lines of a figure."""
    return min(MOST_VERTICES, max(FEWEST_VERTICES, VERTICES // lines))


def coarse(x: Values, y: Values, most: int) -> tuple[Values, Values]:
    """A line whose x never falls, of at most one vertex in each of `most` parts of its width.

    The last vertex of each part is kept, and the first ones, which lie far apart in y.
    """
    if len(x) <= most:
        return x, y
    part = np.floor(most * (x - x[0]) / (x[-1] - x[0] or 1))
    last = np.append(np.diff(part) > 0, True)
    last[:FIRST] = True
    return x[last], y[last]


def points(axes: Axes, x: Values, y: Values, colour: str) -> None:
    """Scatter of dots: one path, a tenth of the bytes of a mark for each."""
    # A line without length and with round ends is a dot.
    twice = np.repeat(np.stack([x, y], 1), 2, axis=0)
    path = Path(twice, np.tile([Path.MOVETO, Path.LINETO], len(x)))
    path.should_simplify = False
    axes.add_patch(
        PathPatch(path, fill=False, edgecolor=colour, alpha=0.55, linewidth=3, capstyle="round")
    )
    axes.autoscale_view()


class Turns:
    """Dashes in turn for curves that lie on each other, or the last would hide the others."""

    def __init__(self, curves: Sequence[np.ndarray]) -> None:
        self._number = Counter(curve.tobytes() for curve in curves)
        self._drawn: Counter[bytes] = Counter()

    def dashes(self, curve: np.ndarray) -> tuple[float, tuple[float, ...]] | str:
        """Line style of the next curve with these points."""
        key = curve.tobytes()
        turn = DASH * self._drawn[key]
        self._drawn[key] += 1
        if self._number[key] == 1:
            return "-"
        return turn, (DASH, DASH * (self._number[key] - 1))


def figure(canvas: Canvas, caption: str, keys: Sequence[Key] = ()) -> Figure:
    """The figure as inline SVG with its caption and its keys."""
    text = io.StringIO()
    # Without a date, for the same reason as the salt.
    canvas.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    svg = text.getvalue()
    # An XML declaration, a doctype and metadata may not stand inside an HTML page.
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    # Names of groups such as axes_1 would stand on the page once for each figure;
    # nothing refers to them.
    svg = re.sub(r'<g id="[A-Za-z0-9.]+_\d+"', "<g", svg)
    svg = re.sub(r' d="[^"]*"', lambda path: _short(path[0]), svg)
    svg = re.sub(r">\s+<", "><", svg)
    svg = svg.replace("<svg ", '<svg role="img" ', 1)
    return Figure(svg, caption, list(keys))


def _short(path: str) -> str:
    """A path with tenths of a point: more cannot be seen, and half of the file is digits."""
    path = re.sub(r"(\.\d)\d+", r"\1", path)
    return path.replace(" \n", "").replace("L ", "L").replace("M ", "M")
