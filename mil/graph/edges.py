"""Graphs from lists of edges, and what is done with whole graphs."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from mil.bags import Graph

# kinds of edges; an edge's kind is the sum of those it is
ITSELF = 1
SPATIAL = 2
SIMILAR = 4
KINDS = (ITSELF, SPATIAL, SIMILAR)
NOBODY = -1  # stands where a tile has fewer neighbours than others


def from_pairs(
    sources: Int[Tensor, " pairs"], targets: Int[Tensor, " pairs"], kind: int, tiles: int
) -> Graph:
    """Graph of those edges, in any order and any number of times, and of every tile to itself."""
    itself = torch.arange(tiles, device=sources.device)
    kinds = torch.cat([torch.full_like(sources, kind), torch.full_like(itself, ITSELF)])
    return _deduplicated(torch.cat([sources, itself]), torch.cat([targets, itself]), kinds, tiles)


def from_neighbours(neighbours: Int[Tensor, "tiles most"]) -> Graph:
    """Graph in which every tile looks at its similar ones and at itself.

    Args:
        neighbours: of each tile, no tile twice and not itself, or `NOBODY`.
    """
    itself = torch.arange(len(neighbours), device=neighbours.device)
    rows = torch.cat([neighbours, itself[:, None]], dim=1).sort(dim=1).values
    there = rows != NOBODY
    sources = rows[there]
    targets = itself.repeat_interleave(there.sum(1))
    return Graph(sources, targets, torch.where(sources == targets, ITSELF, SIMILAR))


def union(graphs: Sequence[Graph]) -> Graph:
    """Graph with the edges of all those graphs of one bag; an edge of several is of all their kinds.

    Raises:
        ValueError: there is no graph, or they are not of one bag.
    """
    tiles = {num_tiles(graph) for graph in graphs}
    if len(tiles) != 1:
        raise ValueError(f"a union takes graphs of one bag; these have {sorted(tiles)} tiles")
    sources, targets, kinds = (torch.cat(part) for part in zip(*graphs, strict=True))
    return _deduplicated(sources, targets, kinds, tiles.pop())


def drop_edges(graph: Graph, share: float, generator: torch.Generator | None = None) -> Graph:
    """Graph without a random share of its edges; no tile loses the edge to itself.

    Args:
        graph: not changed.
        share: chance of an edge to go, 0..1.
        generator: where chance comes from; None: torch's own, as for dropout.
    """
    if share <= 0:
        return graph
    device = graph.sources.device
    chance = torch.rand(
        len(graph.sources), generator=generator, device=generator.device if generator else device
    )
    kept = ((chance.to(device) >= share) | (graph.sources == graph.targets)).nonzero()[
        :, 0
    ]  # the device is asked once
    return Graph(graph.sources[kept], graph.targets[kept], graph.kinds[kept])


def num_tiles(graph: Graph) -> int:
    """Tiles of a graph's bag: all have the edge to themselves, the last one too."""
    return int(graph.targets[-1]) + 1


def _deduplicated(sources: Tensor, targets: Tensor, kinds: Tensor, tiles: int) -> Graph:
    pairs, which = torch.unique(targets * tiles + sources, return_inverse=True)
    joined = torch.zeros_like(pairs)
    for kind in KINDS:
        of_kind = torch.zeros_like(pairs, dtype=torch.bool)
        of_kind[which[(kinds & kind) > 0]] = True
        joined += kind * of_kind
    return Graph(pairs % tiles, pairs // tiles, joined)
