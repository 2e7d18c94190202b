"""Graphs from lists of edges, and operations on whole graphs."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from mil.bags import Graph

# Kinds of edges are bits: an edge that several builders found has the sum of their
# kinds.
SELF = 1
SPATIAL = 2
SIMILAR = 4
KINDS = (SELF, SPATIAL, SIMILAR)
NO_TILE = -1  # fills the row of a tile that has fewer neighbours than others


def from_pairs(
    sources: Int[Tensor, " pairs"],
    targets: Int[Tensor, " pairs"],
    kind: int,
    tiles: int,
) -> Graph:
    """Graph of the given edges, and of an edge from every tile to itself.

    Args:
        sources: source of each edge, in any order and with repetitions.
        targets: target of each edge.
        kind: kind of all these edges.
        tiles: number of tiles.
    """
    all_tiles = torch.arange(tiles, device=sources.device)
    given_kinds = torch.full_like(sources, kind)
    self_kinds = torch.full_like(all_tiles, SELF)
    kinds = torch.cat([given_kinds, self_kinds])
    sources = torch.cat([sources, all_tiles])
    targets = torch.cat([targets, all_tiles])
    return _deduplicated(sources, targets, kinds, tiles)


def from_neighbours(neighbours: Int[Tensor, "tiles width"]) -> Graph:
    """Graph of edges from each tile's neighbours to it, and from every tile to itself.

    Args:
        neighbours: similar tiles of each tile, or `NO_TILE`; no tile twice, and not the
            tile itself.
    """
    tiles = torch.arange(len(neighbours), device=neighbours.device)
    own = tiles[:, None]
    with_self = torch.cat([neighbours, own], dim=1)
    rows = with_self.sort(dim=1).values
    present = rows != NO_TILE
    sources = rows[present]
    degrees = present.sum(1)
    targets = tiles.repeat_interleave(degrees)
    kinds = torch.where(sources == targets, SELF, SIMILAR)
    return Graph(sources, targets, kinds)


def union(graphs: Sequence[Graph]) -> Graph:
    """Graph with the edges of several graphs of one bag; a shared edge has all kinds.

    Raises:
        ValueError: there is no graph, or they are not of one bag.
    """
    tiles = {num_tiles(graph) for graph in graphs}
    if len(tiles) != 1:
        raise ValueError(f"a union takes graphs of one bag; these have {sorted(tiles)} tiles")
    sources = torch.cat([graph.sources for graph in graphs])
    targets = torch.cat([graph.targets for graph in graphs])
    kinds = torch.cat([graph.kinds for graph in graphs])
    return _deduplicated(sources, targets, kinds, tiles.pop())


def drop_edges(graph: Graph, share: float, generator: torch.Generator | None = None) -> Graph:
    """Graph without a random share of its edges; no tile loses the edge to itself.

    Args:
        graph: graph to thin out; it is not changed.
        share: probability that an edge is dropped, 0 to 1.
        generator: source of random numbers; None: torch's own, as for dropout.
    """
    if share <= 0:
        return graph
    device = graph.sources.device
    draws = uniform(len(graph.sources), generator, device)
    is_self = graph.sources == graph.targets
    keep = (draws >= share) | is_self
    # One wait for the device here, instead of one for each of the three below.
    kept = keep.nonzero()[:, 0]
    return Graph(
        sources=graph.sources[kept],
        targets=graph.targets[kept],
        kinds=graph.kinds[kept],
    )


def uniform(count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Uniform random numbers on a device, drawn on the generator's.

    Args:
        count: number of draws.
        generator: source of random numbers; None: torch's own on `device`.
        device: device of the result.
    """
    drawn_on = device if generator is None else generator.device
    return torch.rand(count, generator=generator, device=drawn_on).to(device)


def num_tiles(graph: Graph) -> int:
    """Number of tiles of a graph's bag: the last tile, too, has an edge to itself."""
    return int(graph.targets[-1]) + 1


def _deduplicated(sources: Tensor, targets: Tensor, kinds: Tensor, tiles: int) -> Graph:
    """Each edge once, sorted by target, then source, with the kinds of all its copies."""
    numbers = targets * tiles + sources
    pairs, inverse = torch.unique(numbers, return_inverse=True)
    joined = torch.zeros_like(pairs)
    for kind in KINDS:
        has_kind = torch.zeros_like(pairs, dtype=torch.bool)
        of_kind = (kinds & kind) > 0
        has_kind[inverse[of_kind]] = True
        joined += kind * has_kind
    return Graph(pairs % tiles, pairs // tiles, joined)
