"""What attention over neighbours means."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def neighbour_attn_reference(
    queries: Float[Tensor, "tiles heads width"],
    keys: Float[Tensor, "tiles heads width"],
    vector: Float[Tensor, "heads width"],
    sources: Int[Tensor, " edges"],
    targets: Int[Tensor, " edges"],
    slope: float,
) -> tuple[Float[Tensor, "tiles heads width"], Float[Tensor, " edges"]]:
    """Score each edge, softmax over the edges into a tile, sum the keys of its neighbours; once for each head.

    Every edge is in memory with all its numbers.
    """
    scores = (functional.leaky_relu(queries[targets] + keys[sources], slope) * vector).sum(-1)
    attention = edge_softmax(scores, targets, len(queries))
    messages = torch.zeros_like(queries).index_add(
        0, targets, attention.to(keys.dtype)[..., None] * keys[sources]
    )
    return messages, attention.mean(-1)


def edge_softmax(
    scores: Float[Tensor, "edges heads"], targets: Int[Tensor, " edges"], tiles: int
) -> Float[Tensor, "edges heads"]:
    """Softmax over the edges into each tile, in float32 at least."""
    scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    index = targets[:, None].expand_as(scores)
    none = scores.new_full((tiles, scores.shape[1]), -torch.inf)
    top = none.scatter_reduce(0, index, scores.detach(), "amax")
    weights = (scores - top.index_select(0, targets)).exp()
    return weights / torch.zeros_like(none).index_add(0, targets, weights).index_select(0, targets)
