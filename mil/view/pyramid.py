"""Addresses of image tiles: zoom, column and row in a pyramid over a slide."""

import math
from typing import NamedTuple

# Side of an image tile, pixels. The page lays it on 256 units of its own, so that it is
# never enlarged on the screen.
TILE_PX = 512


class Box(NamedTuple):
    """Rectangle of the frame's units: left and top edge, width and height."""

    left: float
    top: float
    width: float
    height: float


class Frame(NamedTuple):
    """Rectangle that is shown, and its unit of length.

    The unit is a level-0 pixel of the slide; of bags that count in micrometres it is a
    micrometre.

    Attributes:
        left: Left edge; of a slide with `openslide.bounds-x` not 0.
        top: Top edge.
        width: Width.
        height: Height.
        unit_um: Micrometres per unit; 0: not known.
    """

    left: float
    top: float
    width: float
    height: float
    unit_um: float

    @property
    def max_zoom(self) -> int:
        """Zoom at which a pixel of an image tile is one unit; at zoom 0 one tile holds all."""
        return max(0, math.ceil(math.log2(max(self.width, self.height, 1.0) / TILE_PX)))

    def scale(self, zoom: int) -> float:
        """Units per pixel of an image tile."""
        return float(2 ** (self.max_zoom - zoom))

    def holds(self, zoom: int, column: int, row: int) -> bool:
        """Whether an image tile shows any of the frame."""
        if not 0 <= zoom <= self.max_zoom:
            return False
        extent = self.scale(zoom) * TILE_PX
        return 0 <= column * extent < self.width and 0 <= row * extent < self.height

    def box(self, zoom: int, column: int, row: int) -> Box:
        """Rectangle that an image tile covers; it may reach beyond the frame."""
        extent = self.scale(zoom) * TILE_PX
        return Box(self.left + column * extent, self.top + row * extent, extent, extent)
