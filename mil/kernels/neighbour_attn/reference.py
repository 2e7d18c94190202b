"""Definition of attention over neighbours (GATv2), in plain torch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mil.kernels.dispatch import at_least_float32


def neighbour_attn_reference(
    queries: Float[Tensor, "tiles heads width"],
    keys: Float[Tensor, "tiles heads width"],
    vector: Float[Tensor, "heads width"],
    sources: Int[Tensor, " edges"],
    targets: Int[Tensor, " edges"],
    slope: float,
) -> tuple[Float[Tensor, "tiles heads width"], Float[Tensor, " edges"]]:
    """``s_ij = w · LeakyReLU(q_i + k_j)``, ``p_i = softmax_j(s_ij)``, ``o_i = sum_j p_ij k_j``.

    Every edge is in memory with all its features.
    """
    neighbours = keys[sources]
    activations = functional.leaky_relu(queries[targets] + neighbours, slope)
    scores = (activations * vector).sum(-1)
    attention = edge_softmax(scores, targets, len(queries))
    weighted = attention.to(keys.dtype)[..., None] * neighbours
    messages = torch.zeros_like(queries).index_add(0, targets, weighted)
    return messages, attention.mean(-1)


def edge_softmax(
    scores: Float[Tensor, "edges heads"], targets: Int[Tensor, " edges"], tiles: int
) -> Float[Tensor, "edges heads"]:
    """Softmax over the edges into each tile, at least float32."""
    scores = at_least_float32(scores)
    index = targets[:, None].expand_as(scores)
    no_edges = scores.new_full((tiles, scores.shape[1]), -torch.inf)
    m = no_edges.scatter_reduce(0, index, scores.detach(), "amax")
    p = (scores - m.index_select(0, targets)).exp()
    l = torch.zeros_like(no_edges).index_add(0, targets, p)  # noqa: E741
    return p / l.index_select(0, targets)
