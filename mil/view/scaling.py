"""Scales of a score layer: what the ends of its colours mean."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mil.errors import ConfigError
from mil.statistics.discrimination import percentiles_within
from mil.trained.tile_maps import TITLES, TileMap

SCALES = ("percentile", "relative", "raw")
# Multiples at which the colours of `relative` end.
RELATIVE_TOP = 10.0


class Scaled(NamedTuple):
    """Values of tiles on the scale of a layer.

    Attributes:
        shares: Place of each tile in the colours, 0 (bottom) to 1 (top).
        low: Value at the bottom of the colours.
        high: Value at the top.
        label: What the values are, with their unit.
    """

    shares: Float[np.ndarray, " tiles"]
    low: float
    high: float
    label: str


def scaled(tile_map: TileMap, scale: str) -> Scaled:
    """Place of each tile in the colours.

    Args:
        tile_map: Map of the slide's tiles. Colours of a signed map are symmetric about 0.
        scale: `percentile`: rank within the slide, 0 to 100, of a signed map the rank of the
            magnitude with the sign of the value; `relative`: multiples of uniform attention,
            of a signed map of the mean magnitude; `raw`: the values.

    Raises:
        ConfigError: There is no such scale.
    """
    if scale not in SCALES:
        raise ConfigError(f"no scale is called {scale[:40]!r}; choose of {', '.join(SCALES)}")
    return _signed(tile_map, scale) if tile_map.is_signed else _unsigned(tile_map, scale)


def _unsigned(tile_map: TileMap, scale: str) -> Scaled:
    values = tile_map.values
    name = TITLES[tile_map.kind]
    if scale == "percentile":
        ranks = percentiles_within(values)
        return Scaled(ranks / 100, 0.0, 100.0, f"{name}, percentile within the slide")
    if scale == "relative":
        multiples = values * len(values)
        shares = np.clip(multiples / RELATIVE_TOP, 0, 1)
        return Scaled(shares, 0.0, RELATIVE_TOP, f"{name}, times uniform")
    top = float(values.max()) or 1.0
    return Scaled(values / top, 0.0, top, f"{name}, {tile_map.unit}")


def _signed(tile_map: TileMap, scale: str) -> Scaled:
    values = tile_map.values
    magnitudes = np.abs(values)
    name = TITLES[tile_map.kind]
    if scale == "percentile":
        signed = np.sign(values) * percentiles_within(magnitudes)
        return Scaled((signed + 100) / 200, -100.0, 100.0, f"{name}, signed percentile")
    if scale == "relative":
        multiples = values / (float(magnitudes.mean()) or 1.0)
        shares = np.clip((multiples / RELATIVE_TOP + 1) / 2, 0, 1)
        return Scaled(shares, -RELATIVE_TOP, RELATIVE_TOP, f"{name}, times the mean magnitude")
    top = float(magnitudes.max()) or 1.0
    return Scaled((values / top + 1) / 2, -top, top, f"{name}, {tile_map.unit}")
