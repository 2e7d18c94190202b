"""Definition of attention pooling, in plain torch."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import AttentionStats, per_bag


def attn_pool_reference(
    scores: Float[Tensor, "tiles branches"],
    features: Float[Tensor, "tiles dim"],
    offsets: Int[Tensor, " bags_plus_1"],
) -> Float[Tensor, "bags branches dim"]:
    """``o = softmax(s)ᵀ x`` over the tiles of each bag, for each branch."""
    return _pooled(per_bag(scores, offsets), per_bag(features, offsets))


def attn_pool_with_stats_reference(
    scores: Float[Tensor, "tiles branches"],
    features: Float[Tensor, "tiles dim"],
    offsets: Int[Tensor, " bags_plus_1"],
) -> tuple[Float[Tensor, "bags branches dim"], AttentionStats]:
    """`attn_pool_reference`, with log-sum-exp, entropy and Gram matrix of the attention."""
    bags = per_bag(scores, offsets)
    log_p = [bag.log_softmax(0) for bag in bags]
    lse = [bag.logsumexp(0) for bag in bags]
    entropies = [-(bag.exp() * bag).sum(0) for bag in log_p]
    grams = [bag.exp().mT @ bag.exp() for bag in log_p]
    stats = AttentionStats(
        log_total=torch.stack(lse),
        entropy=torch.stack(entropies),
        products=torch.stack(grams),
    )
    return _pooled(bags, per_bag(features, offsets)), stats


def _pooled(scores: Iterable[Tensor], features: Iterable[Tensor]) -> Tensor:
    pooled = []
    for s, x in zip(scores, features, strict=True):
        p = s.softmax(0).to(x.dtype)
        pooled.append(p.mT @ x)
    return torch.stack(pooled)
