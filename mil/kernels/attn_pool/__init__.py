"""Attention pooling: softmax over each bag and weighted sum, for several branches at once."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import AttentionStats
from mil.kernels.attn_pool.reference import attn_pool_reference, attn_pool_with_stats_reference
from mil.kernels.dispatch import FAST, Backend, choose_backend

# Most branches that Triton's form holds in registers without spilling; see config()
# there.
MAX_BRANCHES = 64


def attn_pool(
    scores: Float[Tensor, "tiles branches"],
    features: Float[Tensor, "tiles dim"],
    offsets: Int[Tensor, " bags_plus_1"],
    backend: Backend = "auto",
) -> Float[Tensor, "bags branches dim"]:
    """Average each bag's features by its attention: ``o = softmax(s)ᵀ x``.

    Args:
        scores: attention scores before the softmax; a masked tile has a very negative
            number (`mil.bags.MASKED`), not minus infinity.
        features: features to average, in any floating type; sums are kept in float32.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``; no bag is empty.
        backend: see `mil.kernels.dispatch.choose_backend`; there is no tiled form for a
            CPU, which gets the reference.

    Returns:
        Pooled rows in the type of the features.

    Raises:
        ValueError: `backend` is "triton", and the features are float64 or there are
            more
            than 64 branches.
    """
    if not uses_triton(scores, features, backend):
        return attn_pool_reference(scores, features, offsets)
    # Imported here: Triton exists on Linux alone.
    from mil.kernels.attn_pool.function import AttnPoolFunction

    # Triton launches on the current device, which need not be the tensors'.
    with torch.cuda.device_of(features):
        return AttnPoolFunction.apply(scores.float(), features, offsets, False)[0]


def attn_pool_with_stats(
    scores: Float[Tensor, "tiles branches"],
    features: Float[Tensor, "tiles dim"],
    offsets: Int[Tensor, " bags_plus_1"],
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "bags branches dim"], AttentionStats]:
    """`attn_pool`, and statistics of the attention, all differentiable.

    By Triton the statistics cost next to nothing; the reference writes attention maps
    to memory.
    """
    if not uses_triton(scores, features, backend):
        return attn_pool_with_stats_reference(scores, features, offsets)
    from mil.kernels.attn_pool.function import AttnPoolFunction

    with torch.cuda.device_of(features):
        pooled, *stats = AttnPoolFunction.apply(scores.float(), features, offsets, True)
    return pooled, AttentionStats(*stats)


def uses_triton(scores: Tensor, features: Tensor, backend: Backend = "auto") -> bool:
    """Whether Triton pools these.

    Raises:
        ValueError: `backend` is "triton", and it does not support these tensors.
    """
    if choose_backend(backend, features, scores) != "triton":
        return False
    branches = scores.shape[1]
    supported = branches <= MAX_BRANCHES and features.dtype in FAST
    if backend == "triton" and not supported:
        raise ValueError(
            f"attn_pool by Triton supports at most {MAX_BRANCHES} branches in fp16, bf16 or fp32; "
            f"got {branches} branches of {features.dtype}"
        )
    return supported
