"""Exact nearest neighbours in the features."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import Graph
from mil.graph.directions import Directions, plain_float32
from mil.graph.edges import from_neighbours

MAX_COSINES = 2**25  # held in memory at a time: 128 MiB of float32
GROUP = 64  # cosines whose maximum is looked at first


def knn_graph(
    features: Float[Tensor, "tiles dim"],
    neighbours: int = 8,
    centre: Float[Tensor, " dim"] | None = None,
) -> Graph:
    """Graph in which every tile attends to the tiles of largest cosine to it.

    Time grows with the square of the tiles; memory is one float32 copy of the features
    and 128 MiB.

    Args:
        features: features of one bag.
        neighbours: number of neighbours of a tile, besides itself; fewer in a smaller
            bag.
        centre: mean of the training tiles, subtracted first; None: the bag's own mean.
    """
    with plain_float32(features.device):
        blocks = Directions(features, centre).blocks()
        directions = torch.cat(list(blocks))
        tiles = torch.arange(len(directions), device=features.device)
        rows = max(1, MAX_COSINES // len(directions))
        batches = tiles.split(rows)
        chunks = [nearest(directions, queries, neighbours) for queries in batches]
        return from_neighbours(torch.cat(chunks))


def nearest(
    directions: Float[Tensor, "tiles dim"],
    queries: Int[Tensor, " queries"],
    neighbours: int,
) -> Int[Tensor, "queries width"]:
    """Tiles of largest cosine to each query, a tile of the bag, without the query itself.

    Args:
        directions: unit vectors of all tiles.
        queries: rows of `directions`.
        neighbours: number of tiles for each query; fewer in a smaller bag.
    """
    tiles = len(directions)
    groups = -(-tiles // GROUP)
    padded = groups * GROUP
    shape = (len(queries), padded)
    cosines = directions.new_full(shape, -torch.inf)
    filled = cosines[:, :tiles]
    torch.mm(directions[queries], directions.T, out=filled)
    cosines.scatter_(1, queries[:, None], -torch.inf)
    return _largest(cosines, min(neighbours, tiles - 1))


def _largest(values: Float[Tensor, "rows padded"], count: int) -> Int[Tensor, "rows count"]:
    """As `topk`, but several times as fast in long rows.

    The `count` largest values are in the `count` groups of largest maximum.
    """
    groups = values.unflatten(1, (-1, GROUP))
    if groups.shape[1] <= count:
        return values.topk(count).indices
    best = groups.amax(2).topk(count, sorted=False).indices
    index = best[:, :, None]
    index = index.expand(-1, -1, GROUP)
    within = groups.gather(1, index).flatten(1)
    top = within.topk(count).indices
    group = best.gather(1, top // GROUP)
    return group * GROUP + top % GROUP
