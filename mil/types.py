"""What crosses the borders between heads, losses and training."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor


class Graph(NamedTuple):
    """Which tiles look at which: directed edges source -> target, rows of `Bags.features`.

    Sorted by target, then source; no pair twice; every tile has the edge to itself.
    """

    sources: Int[Tensor, " edges"]
    targets: Int[Tensor, " edges"]
    kinds: Int[Tensor, " edges"]  # sum of what made the edge: 1 itself, 2 neighbours in space, 4 similar features


class Bags(NamedTuple):
    """Several bags laid end to end: no padding, no mask.

    Bag b is rows ``offsets[b]:offsets[b + 1]`` of ``features`` and ``coords`` (level-0 pixels, top left, x and y).
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

    `products` are the branches' Gram matrix: the sum over the tiles of the attention of one times that of the other.
    """

    log_total: Float[Tensor, "bags branches"]  # log-sum-exp of the scores
    entropy: Float[Tensor, "bags branches"]  # nats
    products: Float[Tensor, "bags branches branches"]


class HeadOutput(NamedTuple):
    """What every head returns, in every mode.

    `scores` is attention before the softmax over a bag. Its columns are branches; with `attention_heads` above 1 column
    ``branch * attention_heads + head``; with `per_class` column c is what class c attends to.
    """

    logits: Float[Tensor, "bags classes"]  # their softmax is what the head predicts
    scores: Float[Tensor, "tiles branches"]
    branch_logits: Float[Tensor, "bags branches classes"] | None = None  # more answers for the bag's label
    attention_heads: int = 1
    per_class: bool = False
    instances: Instances | None = None
    selected: Bool[Tensor, " tiles"] | None = None  # the tiles that `logits` come from, if not all
    full_logits: Float[Tensor, "bags classes"] | None = None  # what all tiles would give, where some are selected
    embedding: Float[Tensor, "bags hidden"] | None = None  # of a student,
    teacher_embedding: Float[Tensor, "bags hidden"] | None = None  # and what its teacher makes of the same bag
    attention_stats: AttentionStats | None = None  # of the columns of `scores`, where pooling gave them on the way
