"""Cells of the grid that the tiles of a bag lie on."""

import torch
from jaxtyping import Int
from torch import Tensor

from mil.graph.spatial import grid_steps
from mil.heads._mixers.base import Places


def cells_of(coords: Int[Tensor, "tiles 2"], places: Places) -> Int[Tensor, "tiles 2"]:
    """Column and row of each tile, in steps of its bag's grid from the corner of the bag.

    Args:
        coords: Top left corners of the tiles, level-0 pixels.
        places: The bags.
    """
    steps = coords.new_tensor(grid_steps(coords, places.offsets), dtype=torch.float64)
    corners = torch.stack([of_bag.amin(0) for of_bag in coords.split(places.sizes())])
    bag_of = places.bag_of()
    from_corner = (coords - corners[bag_of]).double()
    return (from_corner / steps[bag_of][:, None]).round().long()
