"""What a picture says beside its images: title, colour bar and scale bar."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mil.heatmap.page import DOTS_PER_INCH, Page, Panel, Place, pixels, points
from mil.heatmap.scales import OPACITY, Shading

# Letters of a title that fit the width of a picture, even if most are capitals.
TITLE_LETTERS = 120
LETTERS_PER_INCH = 10
# Height of a line of a title, and its size in points.
LINE_INCHES = 0.19
TITLE_POINTS = 10.0
# Edges of the page, inches.
EDGE_INCHES = 0.1
# The colour bar: distance from the images and width, inches; lower end and length as
# shares of the page's height; parts between its ticks, where they have room and not.
BAR_GAP_INCHES = 0.4
BAR_INCHES = 0.15
BAR_BOTTOM = 0.15
BAR_SHARE = 0.6
TICKS = 5
SIGNED_TICKS = 4  # so that one of them is 0
FEW_TICKS = 2
# Letters and lines, points.
TICK_POINTS = 3.5
THIN_POINTS = 0.8
SCALE_BAR_POINTS = 3.0
SCALE_BAR_LABEL_POINTS = 8.0
# Lengths that a scale bar may have, micrometres.
BAR_LENGTHS_UM = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


def write_lines(page: Page, lines: Sequence[str], top_inches: float, colour: str) -> None:
    """Write lines of text from the left, this far below the top of a page."""
    for number, line in enumerate(lines):
        at = pixels(EDGE_INCHES), pixels(top_inches + LINE_INCHES * number)
        page.write(at, line, TITLE_POINTS, colour=colour)


def draw_colour_bar(page: Page, shading: Shading, left_inches: float) -> None:
    """Draw the colours with their values, right of images that end here."""
    x = left_inches + BAR_GAP_INCHES
    place = Place(
        x, page.height * (1 - BAR_BOTTOM - BAR_SHARE), BAR_INCHES, page.height * BAR_SHARE
    )
    # As they look on white, under the opacity that they are laid on tissue with.
    page.bar(place, on_white(shading.colours))
    right = pixels(place.x + place.width)
    most = SIGNED_TICKS if shading.low < 0 else TICKS
    parts = most if place.height >= (most + 1) * LINE_INCHES else FEW_TICKS
    beyond = 0.0
    for number in range(parts + 1):
        y = (place.y + place.height * (1 - number / parts)) * DOTS_PER_INCH
        tick = right + points(TICK_POINTS)
        page.line((right, y), (tick, y), THIN_POINTS)
        at = tick + points(TICK_POINTS), y
        written = page.write(at, shading.tick(number / parts), TITLE_POINTS, anchor="lm")
        beyond = max(beyond, written[2])
    # The label runs along the bar, and a wide slide leaves little height for it.
    label = fill(shading.caption, max(12, int(LETTERS_PER_INCH * page.height)))
    middle = (place.y + place.height / 2) * DOTS_PER_INCH
    page.write_upwards(beyond + points(TICK_POINTS), middle, label, TITLE_POINTS)


def round_length(longest_um: float) -> tuple[int, str]:
    """Longest round length that fits a scale bar, micrometres, and its label.

    Args:
        longest_um: greatest length that fits, micrometres.
    """
    fitting = [length for length in BAR_LENGTHS_UM if length <= longest_um]
    length = max(fitting, default=BAR_LENGTHS_UM[0])
    return length, f"{length / 1000:g} mm" if length >= 1000 else f"{length} µm"


def draw_scale_bar(page: Page, panel: Panel, image: Image.Image, um_per_px: float) -> None:
    """Draw a bar of a round length, the longest that takes a fifth of the width."""
    if um_per_px <= 0:
        return
    length, label = round_length(image.width * um_per_px / 5)
    left, top, right, bottom = panel.box
    x = left + 0.03 * (right - left)
    y = top + 0.97 * (bottom - top)
    page.line((x, y), (x + length / um_per_px * panel.scale, y), SCALE_BAR_POINTS)
    above = max(0.012 * (bottom - top), points(SCALE_BAR_POINTS))
    page.write((x, y - above), label, SCALE_BAR_LABEL_POINTS, anchor="ls")


def on_white(colours: UInt8[np.ndarray, "colours 3"]) -> UInt8[np.ndarray, "colours 3"]:
    """Colours as they look on white, under the opacity of maps."""
    return (255 + (colours.astype(float) - 255) * OPACITY / 255).round().astype(np.uint8)
