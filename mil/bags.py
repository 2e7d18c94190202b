"""Bags in memory: joined end to end, and the softmax over each of them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from mil.types import Bags, Graph, HeadOutput

# The published fill for a tile left out of the softmax: it makes it zero, and a bag of such tiles uniform, not NaN.
MASKED = -1e9


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


def per_bag(rows: Shaped[Tensor, "tiles ..."], offsets: Int[Tensor, " bags_plus_1"]) -> tuple[Tensor, ...]:
    """The rows of each bag."""
    return rows.split(offsets.diff().tolist())


def attention(out: HeadOutput, bags: Bags, of_class: int | None) -> Float[Tensor, " tiles"]:
    """Attention of each tile, sums to 1 over a bag: of a class if classes attend apart, else the branches' mean."""
    scores = out.scores[:, of_class, None] if out.per_class and of_class is not None else out.scores
    return log_attention(scores, bags.offsets).exp().mean(1)
