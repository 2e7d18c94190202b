"""Similar tiles within random blocks: another graph at every draw."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import Graph
from mil.graph.directions import Directions, plain_float32
from mil.graph.edges import NO_TILE, from_neighbours
from mil.graph.hashing import by_code, default_bits, hashes
from mil.graph.knn import nearest

BLOCKS_PER_STRATUM = 4  # about, where strata are not given


def minibatch_graph(
    features: Float[Tensor, "tiles dim"],
    neighbours: int = 8,
    centre: Float[Tensor, " dim"] | None = None,
    *,
    block: int = 1024,
    generator: torch.Generator | None = None,
    strata: Int[Tensor, " tiles"] | None = None,
) -> Graph:
    """Graph in which every tile attends to the most similar tiles of its random block.

    Blocks are drawn within strata. UserMasks at every step of a training, the graph works
    as a dropout of edges. A bag of no more tiles than a block is searched exactly.

    Args:
        features: features of one bag; in float16 no copy of them is made.
        neighbours: most neighbours of a tile, besides itself.
        centre: mean of the training tiles, subtracted first; None: the bag's own mean.
        block: most tiles that are compared with one another.
        generator: source of random numbers; None: torch's own, as for dropout.
        strata: label of each tile; a block has tiles of one label. None: tiles on the
            same
            sides of a few random planes are one stratum.

    Raises:
        ValueError: `block` is below 1.
    """
    if block < 1:
        raise ValueError(f"a block must hold at least 1 tile, not {block}")
    with plain_float32(features.device):
        directions = Directions(features, centre)
        labels = _strata(directions, block, generator) if strata is None else strata
        tiles = len(directions)
        similar = torch.full((tiles, neighbours), NO_TILE, device=features.device)
        for rows in _blocks(labels, block, generator):
            queries = torch.arange(len(rows), device=rows.device)
            within = nearest(directions[rows], queries, neighbours)
            similar[rows, : within.shape[1]] = rows[within]
        return from_neighbours(similar)


def _strata(
    directions: Directions, block: int, generator: torch.Generator | None
) -> Int[Tensor, " tiles"]:
    tiles = len(directions)
    if tiles <= block:
        return torch.zeros(tiles, dtype=torch.int32, device=directions.features.device)
    bits = default_bits(tiles, BLOCKS_PER_STRATUM * block)
    codes, _ = hashes(directions, 1, bits, generator)
    return codes[0]


def _blocks(
    labels: Int[Tensor, " tiles"], block: int, generator: torch.Generator | None
) -> list[Tensor]:
    """Random blocks of tiles with one label: as few as possible, and equal to one tile."""
    drawn_on = None if generator is None else generator.device
    draws = torch.rand(len(labels), generator=generator, device=drawn_on)
    order = by_code(labels, draws.to(labels.device))
    sizes = torch.unique_consecutive(labels[order], return_counts=True)[1].tolist()
    blocks: list[Tensor] = []
    for stratum in order.split(sizes):
        count = -(-len(stratum) // block)
        blocks += stratum.tensor_split(count)
    return blocks
