"""What attention pooling means."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import AttentionStats


def attn_pool_reference(
    scores: Float[Tensor, "tiles branches"],
    features: Float[Tensor, "tiles dim"],
    offsets: Int[Tensor, " bags_plus_1"],
) -> Float[Tensor, "bags branches dim"]:
    """Softmax the scores within each bag, then average that bag's features with them, once for each branch."""
    return _pooled(scores, features, offsets.diff().tolist())


def attn_pool_with_stats_reference(
    scores: Float[Tensor, "tiles branches"],
    features: Float[Tensor, "tiles dim"],
    offsets: Int[Tensor, " bags_plus_1"],
) -> tuple[Float[Tensor, "bags branches dim"], AttentionStats]:
    """The same, with what the losses need of the attention."""
    sizes = offsets.diff().tolist()
    log_a = [bag.log_softmax(0) for bag in scores.split(sizes)]
    log_totals = torch.stack([bag.logsumexp(0) for bag in scores.split(sizes)])
    entropies = torch.stack([-(bag.exp() * bag).sum(0) for bag in log_a])
    products = torch.stack([bag.exp().mT @ bag.exp() for bag in log_a])
    return _pooled(scores, features, sizes), AttentionStats(log_totals, entropies, products)


def _pooled(scores: Tensor, features: Tensor, sizes: list[int]) -> Tensor:
    bags = zip(scores.split(sizes), features.split(sizes), strict=True)
    return torch.stack([s.softmax(0).to(f.dtype).mT @ f for s, f in bags])
