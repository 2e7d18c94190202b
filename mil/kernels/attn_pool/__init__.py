"""Attention pooling: softmax over each bag and weighted sum, for several branches at once."""

from jaxtyping import Float, Int
from torch import Tensor

from mil.kernels.attn_pool.reference import attn_pool_reference
from mil.kernels.backend import Backend, choose


def attn_pool(
    scores: Float[Tensor, "tiles branches"],
    features: Float[Tensor, "tiles dim"],
    offsets: Int[Tensor, " bags_plus_1"],
    backend: Backend = "auto",
) -> Float[Tensor, "bags branches dim"]:
    """Pool each bag's features by its attention.

    Args:
        scores: attention before the softmax; masked tiles hold a very negative number, not minus infinity.
        features: what is averaged, in any floating type; sums are kept in float32.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``; no bag is empty.
        backend: see `mil.kernels.backend.choose`; on a CPU the reference is all there is.
    """
    if choose(backend, features, scores) != "triton":
        return attn_pool_reference(scores, features, offsets)
    from mil.kernels.attn_pool.kernel import AttnPool  # Triton is needed only on this path

    return AttnPool.apply(scores, features, offsets)
