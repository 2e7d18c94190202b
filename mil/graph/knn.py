"""Exact nearest neighbours in the features."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import Graph
from mil.graph.directions import Directions, plain_float32
from mil.graph.edges import from_neighbours

CELLS = 2**25  # cosines held at a time
GROUP = 64  # of them looked at as one


def knn_graph(
    features: Float[Tensor, "tiles dim"],
    neighbours: int = 8,
    centre: Float[Tensor, " dim"] | None = None,
) -> Graph:
    """Every tile looks at the tiles of largest cosine to it.

    Time grows with the square of the tiles; memory is one float32 copy of the features
    and 128 MiB.

    Args:
        features: of one bag.
        neighbours: how many a tile looks at, besides itself; fewer in a smaller bag.
        centre: mean of the training tiles, taken off before; None: the bag's own mean.
    """
    with plain_float32(features.device):
        directions = torch.cat(list(Directions(features, centre).blocks()))
        queries = torch.arange(len(directions), device=features.device).split(
            max(1, CELLS // len(directions))
        )
        return from_neighbours(
            torch.cat([nearest(directions, rows, neighbours) for rows in queries])
        )


def nearest(
    directions: Float[Tensor, "tiles dim"], queries: Int[Tensor, " queries"], neighbours: int
) -> Int[Tensor, "queries most"]:
    """The tiles of largest cosine to some of them, themselves left out."""
    width = -(-len(directions) // GROUP) * GROUP
    cosines = directions.new_full((len(queries), width), -torch.inf)
    torch.mm(directions[queries], directions.T, out=cosines[:, : len(directions)])
    cosines.scatter_(1, queries[:, None], -torch.inf)
    return _largest(cosines, min(neighbours, len(directions) - 1))


def _largest(values: Float[Tensor, "rows padded"], count: int) -> Int[Tensor, "rows count"]:
    """As `topk`, but several times as fast in long rows: the largest values are in the groups of largest maximum."""
    groups = values.unflatten(1, (-1, GROUP))
    if groups.shape[1] <= count:
        return values.topk(count).indices
    best = groups.amax(2).topk(count, sorted=False).indices
    within = groups.gather(1, best[:, :, None].expand(-1, -1, GROUP)).flatten(1)
    top = within.topk(count).indices
    return best.gather(1, top // GROUP) * GROUP + top % GROUP
