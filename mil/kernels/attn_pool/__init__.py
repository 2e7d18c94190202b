"""Attention pooling: softmax over each bag and weighted sum, for several branches at once."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import AttentionStats
from mil.kernels.attn_pool.reference import attn_pool_reference, attn_pool_with_stats_reference
from mil.kernels.backend import FAST, Backend, choose

MOST_BRANCHES = 64  # of the fast form


def attn_pool(
    scores: Float[Tensor, "tiles branches"],
    features: Float[Tensor, "tiles dim"],
    offsets: Int[Tensor, " bags_plus_1"],
    backend: Backend = "auto",
) -> Float[Tensor, "bags branches dim"]:
    """Pool each bag's features by its attention.

    Args:
        scores: attention before the softmax; masked tiles hold a very negative number,
            not minus infinity.
        features: what is averaged, in any floating type; sums are kept in float32.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``; no bag is empty.
        backend: see `mil.kernels.backend.choose`; on a CPU the reference is all there
            is.

    Raises:
        ValueError: Triton is asked for, and the features are doubles, or there are more
            than 64 branches.
    """
    if not by_triton(scores, features, backend):
        return attn_pool_reference(scores, features, offsets)
    from mil.kernels.attn_pool.kernel import AttnPool  # Triton is needed only on this path

    with torch.cuda.device_of(features):  # where Triton launches
        return AttnPool.apply(scores.float(), features, offsets, False)[0]


def attn_pool_with_stats(
    scores: Float[Tensor, "tiles branches"],
    features: Float[Tensor, "tiles dim"],
    offsets: Int[Tensor, " bags_plus_1"],
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "bags branches dim"], AttentionStats]:
    """`attn_pool`, and statistics of the attention that it pooled by, all with a gradient.

    They cost next to nothing by Triton; the reference lays attention maps out.
    """
    if not by_triton(scores, features, backend):
        return attn_pool_with_stats_reference(scores, features, offsets)
    from mil.kernels.attn_pool.kernel import AttnPool

    with torch.cuda.device_of(features):
        pooled, *stats = AttnPool.apply(scores.float(), features, offsets, True)
    return pooled, AttentionStats(*stats)


def by_triton(scores: Tensor, features: Tensor, backend: Backend = "auto") -> bool:
    """Whether Triton pools these."""
    if choose(backend, features, scores) != "triton":
        return False
    suits = scores.shape[1] <= MOST_BRANCHES and features.dtype in FAST
    if backend == "triton" and not suits:
        raise ValueError(
            f"attn_pool by Triton takes {MOST_BRANCHES} branches of halves or float32, not "
            f"{scores.shape[1]} "
            f"of {features.dtype}"
        )
    return suits
