"""Attention over the neighbours of each tile (GATv2), for several heads at once."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from mil.kernels.backend import Backend, choose
from mil.kernels.neighbour_attn.cpu import ChunkedNeighbourAttn
from mil.kernels.neighbour_attn.reference import neighbour_attn_reference

WHOLE = 16  # numbers of a row by Triton, padded: rows that begin anywhere are read number by number


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
    """Each tile takes up its neighbours' keys, weighted by how much it attends to them.

    The score of an edge from j to i is ``vector · LeakyReLU(queries[i] + keys[j])``;
    the softmax is over the edges into i. Brody et al. 2022,
    https://arxiv.org/abs/2105.14491, eq. 7.

    Args:
        queries: of the tile that looks.
        keys: of the tile that is looked at.
        vector: of each head.
        sources: of the edges, rows of `keys`.
        targets: of the edges, rows of `queries`, sorted; a tile without edges gets
            zeros.
        slope: of the LeakyReLU below 0.
        backend: see `mil.kernels.backend.choose`; all but the reference never hold all
            edges with all their numbers, and Triton reckons in float32 whatever it is
            given.

    Returns:
        What each tile took up, and the attention of each edge, mean over the heads:
        both carry gradients.
    """
    chosen = choose(backend, queries, keys)
    if chosen == "reference":
        return neighbour_attn_reference(queries, keys, vector, sources, targets, slope)
    how: type[Function] = ChunkedNeighbourAttn
    width = queries.shape[-1]
    spare = 0
    if chosen == "triton":
        from mil.kernels.neighbour_attn.kernel import (
            NeighbourAttn,
        )  # Triton is needed only on this path

        how = NeighbourAttn
        spare = -width % WHOLE
    if spare:
        queries, keys, vector = (
            functional.pad(tensor, (0, spare)) for tensor in (queries, keys, vector)
        )
    with torch.cuda.device_of(queries):  # where Triton launches
        messages, attention = how.apply(queries, keys, vector, sources, targets, slope)
    return messages[..., :width] if spare else messages, attention
