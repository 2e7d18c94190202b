"""How well a map of one slide, of attention or evidence, finds its annotated regions."""

import numpy as np
import shapely
from jaxtyping import Bool, Float, Int
from shapely import MultiPolygon

from mil.statistics.discrimination import auprc, auroc

ANNOTATED = 0.5  # share of a tile's area inside a region from which it is annotated


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
    inside = shapely.covers(regions, boxes)
    share[inside] = 1.0
    border = touched & ~inside
    share[border] = shapely.area(shapely.intersection(boxes[border], regions)) / side_px**2
    return share


def off_border(share: Float[np.ndarray, " tiles"]) -> Bool[np.ndarray, " tiles"]:
    """Tiles that are annotated or other tissue; the others lie on a border of a region.

    Args:
        share: Annotated share of each tile, 0..1.
    """
    return (share >= ANNOTATED) | (share == 0)


def tile_auroc(
    attention: Float[np.ndarray, " tiles"], share: Float[np.ndarray, " tiles"]
) -> float | None:
    """AUROC of attention for annotated tiles against other tissue; 0.5 is chance.

    Annotated: at least half of a tile inside a region; other tissue: nothing of it
    inside. Tiles on a border are neither. None when a slide has only one of the two.

    Args:
        attention: Attention of each tile.
        share: Annotated share of each tile, 0..1.
    """
    # Attention rises on border tiles, and whether they count decides the figure for
    # small lesions (docs/explain/decisions.md).
    known = off_border(share)
    return auroc((share[known] >= ANNOTATED).astype(int), attention[known])


def hottest_tile_hit(
    attention: Float[np.ndarray, " tiles"], share: Float[np.ndarray, " tiles"]
) -> float:
    """1 where the tile of most attention is annotated, else 0.

    Of several tiles that tie for the most, the share that is annotated: what drawing
    one of them would give on average, whatever their order in the bag.

    Args:
        attention: Attention of each tile.
        share: Annotated share of each tile, 0..1.
    """
    hottest = attention == attention.max()
    return float((share[hottest] >= ANNOTATED).mean())


def hit_by_chance(share: Float[np.ndarray, " tiles"]) -> float:
    """Probability that a tile drawn at random is annotated, 0..1."""
    return float((share >= ANNOTATED).mean())


def average_precision(
    values: Float[np.ndarray, " tiles"], share: Float[np.ndarray, " tiles"]
) -> float | None:
    """Average precision of a map for annotated tiles; see `tile_auroc` for which count.

    By chance it is `annotated_share`.

    Args:
        values: Value of each tile.
        share: Annotated share of each tile, 0..1.
    """
    known = off_border(share)
    return auprc((share[known] >= ANNOTATED).astype(int), values[known])


def annotated_share(share: Float[np.ndarray, " tiles"]) -> float:
    """Share of annotated tiles among those that are annotated or other tissue, 0..1."""
    known = off_border(share)
    return float((share[known] >= ANNOTATED).mean())


def top_hit(
    values: Float[np.ndarray, " tiles"], share: Float[np.ndarray, " tiles"], k: int
) -> float:
    """1 where one of the k highest tiles is annotated, else 0.

    Where the last of them tie with others: the probability that drawing among these
    gives one.

    Args:
        values: Value of each tile.
        share: Annotated share of each tile, 0..1.
        k: Number of tiles.
    """
    annotated = share >= ANNOTATED
    if k >= len(values):
        return float(annotated.any())
    last = np.partition(values, -k)[-k]
    above = values > last
    if annotated[above].any():
        return 1.0
    ties = annotated[values == last]
    return hit_of_drawn(len(ties), int(ties.sum()), k - int(above.sum()))


def hit_of_drawn(tiles: int, annotated: int, k: int) -> float:
    """Probability that one of k tiles, drawn without replacement, is annotated.

    Args:
        tiles: Number of tiles.
        annotated: Number of them that are annotated.
        k: Number drawn.
    """
    drawn = np.arange(min(k, tiles))
    others = np.clip(tiles - annotated - drawn, 0, None)
    return float(1 - np.prod(others / (tiles - drawn)))
