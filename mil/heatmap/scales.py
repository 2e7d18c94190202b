"""Values of tiles on the scale that they are coloured by, and the words for it."""

from math import floor, log10
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from mil.heatmap.colours import DIVERGING, INFERNO
from mil.statistics.discrimination import percentiles_within
from mil.statistics.text import column_title
from mil.trained.tile_maps import TITLES, TileMap

Scale = Literal["percentile", "relative", "raw"]

# Opacity of the colours, 0 to 255.
OPACITY = 140
# Multiples of uniform attention where the colours end.
RELATIVE_TOP = 10.0
# Colours of signed values end here among the absolute values: one tile of many that is
# far from all others would leave those white.
SIGNED_QUANTILE = 0.99
# Least and largest values that ticks show without a power of ten.
FEW_DIGITS = (0.01, 10_000)
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Shading(NamedTuple):
    """Values as they are coloured.

    Attributes:
        values: Value of each tile.
        low: Value at the bottom of the colours.
        high: Value at their top; values beyond have the end's colour.
        colours: Colours from bottom to top.
        label: Kind of the values, with scale and unit.
    """

    values: Float[np.ndarray, " tiles"]
    low: float
    high: float
    colours: UInt8[np.ndarray, "colours 3"]
    label: str

    def shares(self, values: np.ndarray) -> np.ndarray:
        """Values as shares of the way from the bottom to the top of the colours."""
        return (values - self.low) / (self.high - self.low)

    @property
    def exponent(self) -> int:
        """Power of ten that the ticks are divided by; 0 for values of few digits."""
        most = max(abs(self.low), abs(self.high))
        return 0 if FEW_DIGITS[0] <= most < FEW_DIGITS[1] or most == 0 else floor(log10(most))

    @property
    def caption(self) -> str:
        """The label, with the power of ten of the ticks."""
        if not self.exponent:
            return self.label
        return f"{self.label} × 10{str(self.exponent).translate(SUPERSCRIPTS)}"

    def tick(self, share: float) -> str:
        """Text of a tick at a share of the way from the bottom to the top."""
        value = self.low + share * (self.high - self.low)
        sign = "+" if self.low < 0 < value else ""
        return f"{sign}{value / 10**self.exponent:.3g}".replace("-", "−")


def scaled(attention: Float[np.ndarray, " tiles"], scale: Scale) -> Float[np.ndarray, " tiles"]:
    """Attention as it is drawn.

    Args:
        attention: Attention of each tile; sums to 1 over the slide.
        scale: `percentile`: rank within the slide, 0..100, ties share the mean;
            `relative`: times the number of tiles, so that uniform attention is 1;
            `raw`: as it is.
    """
    if scale == "raw":
        return attention
    if scale == "relative":
        return attention * len(attention)
    return percentiles_within(attention)


def shading_of(tile_map: TileMap, scale: Scale) -> Shading:
    """Colours and label of a map of tiles.

    Args:
        tile_map: Map of a slide's tiles.
        scale: Scale of attention. Signed maps keep their unit, and their colours are
            symmetric about 0.
    """
    if tile_map.is_signed:
        return _signed(tile_map)
    values = scaled(tile_map.values, scale)
    top, label = _top(values, scale, TITLES[tile_map.kind])
    return Shading(values, 0.0, top, INFERNO, label)


def _top(values: Float[np.ndarray, " tiles"], scale: Scale, name: str) -> tuple[float, str]:
    """Value at the top of the colours of a map without sign, and the label."""
    if scale == "percentile":
        return 100.0, f"percentile of {name} within this slide"
    if scale == "relative":
        return RELATIVE_TOP, f"{name}, times uniform (relative)"
    return float(values.max()), f"{name}, share of the slide (raw)"


def _signed(tile_map: TileMap) -> Shading:
    known = np.abs(tile_map.values[np.isfinite(tile_map.values)])
    # Of all that is 0, any end will do.
    end = _end_of(known) or 1.0
    of = column_title(tile_map.column)
    unit = "" if tile_map.unit == of else f", {tile_map.unit}"
    words = {"alone": "evidence of the tile alone for", "effect": "effect of the tile on"}
    label = f"{words[tile_map.kind]} {of}{unit}"
    return Shading(tile_map.values, -end, end, DIVERGING, label)


def _end_of(known: Float[np.ndarray, " tiles"]) -> float:
    if not known.size:
        return 0.0
    most = float(np.quantile(known, SIGNED_QUANTILE, method="higher"))
    return most or float(known.max())
