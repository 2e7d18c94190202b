"""Similar tiles within random blocks: another graph at every draw."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import Graph
from mil.graph.directions import Directions, plain_float32
from mil.graph.edges import NOBODY, from_neighbours
from mil.graph.hashing import by_code, default_bits, hashes
from mil.graph.knn import nearest

BLOCKS = 4  # in a stratum, about


def minibatch_graph(
    features: Float[Tensor, "tiles dim"],
    neighbours: int = 8,
    centre: Float[Tensor, " dim"] | None = None,
    *,
    block: int = 1024,
    generator: torch.Generator | None = None,
    strata: Int[Tensor, " tiles"] | None = None,
) -> Graph:
    """Every tile looks at the most similar tiles of its block; blocks are drawn at random within strata.

    Drawn anew at every step of a training it works as a dropout of edges. A bag of no
    more tiles than a block is searched exactly.

    Args:
        features: of one bag; in float16 no copy of them is made.
        neighbours: how many a tile looks at besides itself, at most.
        centre: mean of the training tiles, taken off before; None: the bag's own mean.
        block: tiles compared with one another, at most.
        generator: where chance comes from; None: torch's own, as for dropout.
        strata: a label for each tile; no block holds two. None: tiles on the same sides
            of a few random planes are of one stratum.

    Raises:
        ValueError: a block would hold no tile.
    """
    if block < 1:
        raise ValueError(f"a block must hold at least 1 tile, not {block}")
    with plain_float32(features.device):
        directions = Directions(features, centre)
        labels = _strata(directions, block, generator) if strata is None else strata
        found = torch.full((len(directions), neighbours), NOBODY, device=features.device)
        for rows in _blocks(labels, block, generator):
            within = nearest(
                directions[rows], torch.arange(len(rows), device=rows.device), neighbours
            )
            found[rows, : within.shape[1]] = rows[within]
        return from_neighbours(found)


def _strata(
    directions: Directions, block: int, generator: torch.Generator | None
) -> Int[Tensor, " tiles"]:
    if len(directions) <= block:
        return torch.zeros(len(directions), dtype=torch.int32, device=directions.features.device)
    codes, _ = hashes(directions, 1, default_bits(len(directions), BLOCKS * block), generator)
    return codes[0]


def _blocks(
    labels: Int[Tensor, " tiles"], block: int, generator: torch.Generator | None
) -> list[Tensor]:
    """Random blocks of tiles with the same label, as few as can be and of equal size, give or take one."""
    chance = torch.rand(
        len(labels), generator=generator, device=generator.device if generator else None
    )
    order = by_code(labels, chance.to(labels.device))
    sizes = torch.unique_consecutive(labels[order], return_counts=True)[1].tolist()
    return [
        part
        for stratum in order.split(sizes)
        for part in stratum.tensor_split(-(-len(stratum) // block))
    ]
