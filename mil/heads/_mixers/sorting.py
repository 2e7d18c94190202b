"""Tiles of each bag in the order of a number that is computed from their rows."""

from jaxtyping import Float, Int
from torch import Tensor

from mil.heads._mixers.base import Places, bag_means, for_tiles


def centred_projections(
    rows: Float[Tensor, "tiles dim"], directions: Float[Tensor, "dim count"], places: Places
) -> Float[Tensor, "tiles count"]:
    """Projections of rows less the mean of their bag.

    Features share a large mean, which would put most tiles on one side of a direction.
    """
    projected = rows.detach().to(directions.dtype) @ directions
    return projected - for_tiles(bag_means(projected, places), places)


def ordered_by(values: Tensor, places: Places) -> Int[Tensor, " tiles"]:
    """Tiles sorted by bag, then by value; equal values stay in order."""
    order = values.argsort(stable=True)
    if len(places.offsets) == 2:
        return order
    return order[places.bag_of()[order].argsort(stable=True)]
