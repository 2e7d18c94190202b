"""Tiles of each bag in the order of a number that is computed from their rows."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import per_bag
from mil.heads._mixers.base import Places


def centred_projections(
    rows: Float[Tensor, "tiles dim"], directions: Float[Tensor, "dim count"], places: Places
) -> Float[Tensor, "tiles count"]:
    """Projections of rows less the mean of their bag.

    Features share a large mean, which would put most tiles on one side of a direction.
    """
    projected = rows.detach().to(directions.dtype) @ directions
    centred = [of_bag - of_bag.mean(0) for of_bag in per_bag(projected, places.offsets)]
    return torch.cat(centred)


def ordered_by(values: Tensor, places: Places) -> Int[Tensor, " tiles"]:
    """Tiles sorted by bag, then by value; equal values stay in order."""
    firsts = places.offsets[:-1].tolist()
    of_bags = values.split(places.sizes())
    orders = [
        of_bag.argsort(stable=True) + first for of_bag, first in zip(of_bags, firsts, strict=True)
    ]
    return torch.cat(orders)
