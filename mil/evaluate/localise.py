"""How well attention finds annotated regions, and how far it is spread."""

import numpy as np
import shapely
from jaxtyping import Float, Int
from shapely import MultiPolygon

from mil.statistics.discrimination import auroc


def share_annotated(
    coords: Int[np.ndarray, "tiles 2"], side_px: float, regions: MultiPolygon
) -> Float[np.ndarray, " tiles"]:
    """Share of each tile's area inside annotated regions, 0..1.

    Args:
        coords: Top left corners, level-0 pixels.
        side_px: Side of a tile, level-0 pixels.
        regions: Annotated regions, level-0 pixels.
    """
    x = coords[:, 0].astype(float)
    y = coords[:, 1].astype(float)
    boxes = shapely.box(x, y, x + side_px, y + side_px)
    # Most tiles touch no region, and areas of intersections are slow.
    shapely.prepare(regions)
    share = np.zeros(len(boxes))
    touched = shapely.intersects(regions, boxes)
    share[touched] = shapely.area(shapely.intersection(boxes[touched], regions)) / side_px**2
    return share


def tile_auroc(
    attention: Float[np.ndarray, " tiles"], share: Float[np.ndarray, " tiles"]
) -> float | None:
    """AUROC of attention for annotated tiles against other tissue.

    Annotated: at least half of a tile inside a region; other tissue: nothing of it
    inside. Tiles on a border are neither. None when a slide has only one of the two.

    Args:
        attention: Attention of each tile.
        share: Annotated share of each tile, 0..1.
    """
    # Attention rises on border tiles, and whether they count decides the figure for
    # small lesions (docs/explain/decisions.md).
    known = (share >= 0.5) | (share == 0)
    return auroc((share[known] >= 0.5).astype(int), attention[known])


def entropy_share(attention: Float[np.ndarray, " tiles"]) -> float | None:
    """Entropy of attention over the entropy of uniform attention, 0..1; None for one tile."""
    if len(attention) < 2:
        return None
    # 0 log 0 is 0.
    known = attention[attention > 0]
    # Relative, because bags differ in size and the largest possible entropy grows with
    # it.
    return float(-(known * np.log(known)).sum() / np.log(len(attention)))
