"""Bags in memory: joined end to end, and the softmax over each of them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.types import Bags, HeadOutput


def join(features: Sequence[Float[Tensor, "_ dim"]], coords: Sequence[Int[Tensor, "_ 2"]] | None = None) -> Bags:
    """Lay bags end to end.

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
    return Bags(torch.cat(list(features)), offsets, torch.cat(list(coords)) if coords else None)


def log_attention(
    scores: Float[Tensor, "tiles branches"], offsets: Int[Tensor, " bags_plus_1"]
) -> Float[Tensor, "tiles branches"]:
    """Logarithm of the attention: log-softmax of the scores over each bag, per branch."""
    return torch.cat([bag.log_softmax(0) for bag in per_bag(scores, offsets)])


def per_bag(rows: Float[Tensor, "tiles _"], offsets: Int[Tensor, " bags_plus_1"]) -> tuple[Tensor, ...]:
    """The rows of each bag."""
    return rows.split(offsets.diff().tolist())


def attention(out: HeadOutput, bags: Bags) -> Float[Tensor, " tiles"]:
    """Attention of each tile, mean over branches; sums to 1 over a bag."""
    return log_attention(out.scores, bags.offsets).exp().mean(1)
