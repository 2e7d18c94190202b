"""Bags in memory: what crosses the borders between heads, losses and training, and the softmax over each bag."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

# The published fill for a tile left out of the softmax: it makes it zero, and a bag of
# such tiles uniform, not NaN.
MASKED = -1e9


class Graph(NamedTuple):
    """Which tiles look at which: directed edges source -> target, rows of `Bags.features`.

    Sorted by target, then source; no pair twice; every tile has the edge to itself.
    """

    sources: Int[Tensor, " edges"]
    targets: Int[Tensor, " edges"]
    kinds: Int[
        Tensor, " edges"
    ]  # sum of what made the edge: 1 itself, 2 neighbours in space, 4 similar features


class Bags(NamedTuple):
    """Several bags laid end to end: no padding, no mask.

    Bag b is rows ``offsets[b]:offsets[b + 1]`` of ``features`` and ``coords`` (level-0
    pixels, top left, x and y).
    """

    features: Float[Tensor, "tiles dim"]
    offsets: Int[Tensor, " bags_plus_1"]
    coords: Int[Tensor, "tiles 2"] | None = None
    graph: Graph | None = None  # made beforehand; no edge leaves its bag


class Instances(NamedTuple):
    """Tiles that a head judges one by one: those a class attends to most and least."""

    logits: Float[Tensor, "instances 2"]  # not of the class, of the class
    bag: Int[Tensor, " instances"]
    of_class: Int[Tensor, " instances"]
    highest: Bool[Tensor, " instances"]  # among the most attended, else among the least


class AttentionStats(NamedTuple):
    """What the losses need to know of the attention over each bag (the softmax of its scores), in place of a map of it.

    `products` are the branches' Gram matrix: the sum over the tiles of the attention of
    one times that of the other.
    """

    log_total: Float[Tensor, "bags branches"]  # log-sum-exp of the scores
    entropy: Float[Tensor, "bags branches"]  # nats
    products: Float[Tensor, "bags branches branches"]


class HeadOutput(NamedTuple):
    """What every head returns, in every mode.

    `scores` is attention before the softmax over a bag. Its columns are branches; with
    `attention_heads` above 1 column ``branch * attention_heads + head``; with
    `per_class` column c is what class c attends to.
    """

    logits: Float[Tensor, "bags classes"]  # their softmax is what the head predicts
    scores: Float[Tensor, "tiles branches"]
    branch_logits: Float[Tensor, "bags branches classes"] | None = (
        None  # more answers for the bag's label
    )
    attention_heads: int = 1
    per_class: bool = False
    instances: Instances | None = None
    selected: Bool[Tensor, " tiles"] | None = None  # the tiles that `logits` come from, if not all
    full_logits: Float[Tensor, "bags classes"] | None = (
        None  # what all tiles would give, where some are selected
    )
    embedding: Float[Tensor, "bags hidden"] | None = None  # of a student,
    teacher_embedding: Float[Tensor, "bags hidden"] | None = (
        None  # and what its teacher makes of the same bag
    )
    attention_stats: AttentionStats | None = (
        None  # of the columns of `scores`, where pooling gave them on the way
    )


def join(
    features: Sequence[Float[Tensor, "_ dim"]],
    coords: Sequence[Int[Tensor, "_ 2"]] | None = None,
    graphs: Sequence[Graph] | None = None,
) -> Bags:
    """Lay bags end to end, and their graphs, whose rows count from their own bag's first; one bag is not copied.

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
    """One graph of bags of those sizes, laid end to end."""
    firsts = [sum(sizes[:number]) for number in range(len(sizes))]
    return Graph(
        torch.cat([graph.sources + first for graph, first in zip(graphs, firsts, strict=True)]),
        torch.cat([graph.targets + first for graph, first in zip(graphs, firsts, strict=True)]),
        torch.cat([graph.kinds for graph in graphs]),
    )


def log_attention(
    scores: Float[Tensor, "tiles branches"], offsets: Int[Tensor, " bags_plus_1"]
) -> Float[Tensor, "tiles branches"]:
    """Logarithm of the attention: log-softmax of the scores over each bag, per branch."""
    return torch.cat([bag.log_softmax(0) for bag in per_bag(scores, offsets)])


def per_bag(
    rows: Shaped[Tensor, "tiles ..."], offsets: Int[Tensor, " bags_plus_1"]
) -> tuple[Tensor, ...]:
    """The rows of each bag."""
    return rows.split(offsets.diff().tolist())


def attention(out: HeadOutput, bags: Bags, of_class: int | None) -> Float[Tensor, " tiles"]:
    """Attention of each tile, sums to 1 over a bag: of a class if classes attend apart, else the branches' mean."""
    scores = out.scores[:, of_class, None] if out.per_class and of_class is not None else out.scores
    return log_attention(scores, bags.offsets).exp().mean(1)
