"""Attention over the neighbours of each tile (GATv2), for several heads at once."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from mil.kernels.dispatch import Backend, choose_backend
from mil.kernels.neighbour_attn.function import CpuNeighbourAttn, NeighbourAttnFunction
from mil.kernels.neighbour_attn.reference import neighbour_attn_reference

# Widths are padded to a multiple of this for Triton, which reads rows that begin at
# other addresses number by number.
WIDTH_MULTIPLE = 16


def neighbour_attn(
    queries: Float[Tensor, "tiles heads width"],
    keys: Float[Tensor, "tiles heads width"],
    vector: Float[Tensor, "heads width"],
    sources: Int[Tensor, " edges"],
    targets: Int[Tensor, " edges"],
    *,
    slope: float = 0.2,
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "tiles heads width"], Float[Tensor, " edges"]]:
    """Sum of each tile's neighbours' keys, weighted by its attention to them.

    The score of an edge from j to i is ``vector · LeakyReLU(queries[i] + keys[j])``;
    the softmax is over the edges into i. Brody et al. 2022,
    https://arxiv.org/abs/2105.14491, eq. 7.

    Args:
        queries: rows of the attending tiles.
        keys: rows of the attended tiles, and what is summed.
        vector: score vector of each head.
        sources: row in `keys` of each edge.
        targets: row in `queries` of each edge, sorted; a tile without edges gets zeros.
        slope: slope of the LeakyReLU below 0.
        backend: see `mil.kernels.dispatch.choose_backend`; the reference alone holds
            all
            edges with all their features, and Triton computes in float32 whatever the
            inputs' type.

    Returns:
        Messages, one row for each tile and head, and the attention of each edge, mean
        over the heads. Both are differentiable.
    """
    chosen = choose_backend(backend, queries, keys)
    if chosen == "reference":
        return neighbour_attn_reference(queries, keys, vector, sources, targets, slope)
    function: type[Function] = CpuNeighbourAttn
    width = queries.shape[-1]
    padding = 0
    if chosen == "triton":
        function = NeighbourAttnFunction
        padding = -width % WIDTH_MULTIPLE
    if padding:
        queries = functional.pad(queries, (0, padding))
        keys = functional.pad(keys, (0, padding))
        vector = functional.pad(vector, (0, padding))
    # Triton launches on the current device, which need not be the tensors'.
    with torch.cuda.device_of(queries):
        messages, attention = function.apply(queries, keys, vector, sources, targets, slope)
    return messages[..., :width] if padding else messages, attention
