"""Bags in memory, the output of heads, and the softmax over each bag.

Heads, losses and training exchange these.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

# Score of a tile that is left out of the softmax, as published. Not minus infinity: a
# bag of such tiles alone has uniform attention, not NaN.
MASKED = -1e9


class Graph(NamedTuple):
    """Directed edges source -> target between rows of `Bags.features`.

    A tile attends to the sources of its edges. Sorted by target, then source; no pair
    twice; every tile has the edge to itself.
    """

    sources: Int[Tensor, " edges"]
    targets: Int[Tensor, " edges"]
    # Sum of the reasons for an edge: 1 itself, 2 neighbours in space, 4 similar
    # features.
    kinds: Int[Tensor, " edges"]


class Bags(NamedTuple):
    """Several bags laid end to end: no padding, no mask.

    Bag b is rows ``offsets[b]:offsets[b + 1]`` of ``features`` and ``coords`` (level-0
    pixels, top left, x and y).
    """

    features: Float[Tensor, "tiles dim"]
    offsets: Int[Tensor, " bags_plus_1"]
    coords: Int[Tensor, "tiles 2"] | None = None
    graph: Graph | None = None  # built beforehand; no edge leaves its bag


class Instances(NamedTuple):
    """Tiles that a head classifies one by one: those a class attends to most and least."""

    logits: Float[Tensor, "instances 2"]  # not of the class, of the class
    bag: Int[Tensor, " instances"]  # number of the tile's bag
    of_class: Int[Tensor, " instances"]  # class that attends to the tile
    highest: Bool[Tensor, " instances"]  # among the most attended, else among the least


class AttentionStats(NamedTuple):
    """Statistics of the attention over each bag (the softmax of its scores) for losses.

    They take the place of the attention map, which would be as large as the scores.
    `products` is the branches' Gram matrix: the sum over the tiles of the attention of
    one branch times that of the other.
    """

    log_total: Float[Tensor, "bags branches"]  # log-sum-exp of the scores
    entropy: Float[Tensor, "bags branches"]  # nats
    products: Float[Tensor, "bags branches branches"]


class HeadOutput(NamedTuple):
    """Output of every head, in training and outside.

    `scores` is attention before the softmax over a bag. Its columns are branches; with
    `attention_heads` above 1 column ``branch * attention_heads + head``; with
    `per_class` column c is the attention of class c.
    """

    logits: Float[Tensor, "bags classes"]  # their softmax is the prediction
    scores: Float[Tensor, "tiles branches"]
    # Logits of each branch, trained for the same label.
    branch_logits: Float[Tensor, "bags branches classes"] | None = None
    # Part of each branch in `logits`, of heads whose logits are a sum over branches and
    # a bias; outside training.
    branch_parts: Float[Tensor, "bags branches classes"] | None = None
    attention_heads: int = 1
    per_class: bool = False

    # Heads that classify single tiles (CLAM).
    instances: Instances | None = None

    # Heads that select tiles: those that `logits` come from, and the logits of all
    # tiles.
    selected: Bool[Tensor, " tiles"] | None = None
    full_logits: Float[Tensor, "bags classes"] | None = None

    # Heads with a teacher: rows of the same bag by the student and by its teacher.
    embedding: Float[Tensor, "bags hidden"] | None = None
    teacher_embedding: Float[Tensor, "bags hidden"] | None = None

    # Heads whose layers route tiles to attention heads: 1 where all are used alike.
    head_balance: Float[Tensor, " bags"] | None = None

    # Statistics of the columns of `scores`, where pooling computed them on the way.
    attention_stats: AttentionStats | None = None


def join(
    features: Sequence[Float[Tensor, "_ dim"]],
    coords: Sequence[Int[Tensor, "_ 2"]] | None = None,
    graphs: Sequence[Graph] | None = None,
) -> Bags:
    """Lay bags end to end, and their graphs; a single bag is not copied.

    Args:
        features: features of each bag.
        coords: top left corners in level-0 pixels of each bag.
        graphs: graph of each bag, whose rows count from the bag's first.

    Raises:
        ValueError: there is no bag, or one has no tiles.
    """
    sizes = [len(bag) for bag in features]
    if not sizes:
        raise ValueError("no bags to join")
    for number, size in enumerate(sizes, start=1):
        if size == 0:
            raise ValueError(f"bag {number} of {len(sizes)} has no tiles")
    offsets = torch.tensor([0, *sizes]).cumsum(0).to(features[0].device)
    graph = join_graphs(graphs, sizes) if graphs else None
    whole = torch.cat(list(features)) if len(features) > 1 else features[0]
    return Bags(whole, offsets, torch.cat(list(coords)) if coords else None, graph)


def join_graphs(graphs: Sequence[Graph], sizes: Sequence[int]) -> Graph:
    """Graph of bags laid end to end.

    Args:
        graphs: graph of each bag.
        sizes: number of tiles of each bag.
    """
    sources = []
    targets = []
    first = 0
    for graph, size in zip(graphs, sizes, strict=True):
        sources.append(graph.sources + first)
        targets.append(graph.targets + first)
        first += size
    kinds = torch.cat([graph.kinds for graph in graphs])
    return Graph(torch.cat(sources), torch.cat(targets), kinds)


def log_attention(
    scores: Float[Tensor, "tiles branches"], offsets: Int[Tensor, " bags_plus_1"]
) -> Float[Tensor, "tiles branches"]:
    """Logarithm of the attention: log-softmax of the scores over each bag, per branch."""
    return torch.cat([bag.log_softmax(0) for bag in per_bag(scores, offsets)])


def per_bag(
    rows: Shaped[Tensor, "tiles ..."], offsets: Int[Tensor, " bags_plus_1"]
) -> tuple[Tensor, ...]:
    """Rows of each bag."""
    # The gradient of a split is a copy, even of a single part.
    if len(offsets) == 2:
        return (rows,)
    return rows.split(offsets.diff().tolist())


def attention(out: HeadOutput, bags: Bags, of_class: int | None) -> Float[Tensor, " tiles"]:
    """Attention of each tile, which sums to 1 over a bag.

    Args:
        out: output of a head.
        bags: the bags it is of.
        of_class: class whose attention is wanted, if classes have their own; else, and
            for None, the attention is the branches' mean.
    """
    scores = out.scores[:, of_class, None] if out.per_class and of_class is not None else out.scores
    return log_attention(scores, bags.offsets).exp().mean(1)
