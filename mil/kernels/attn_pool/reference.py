"""What attention pooling means."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def attn_pool_reference(
    scores: Float[Tensor, "tiles branches"],
    features: Float[Tensor, "tiles dim"],
    offsets: Int[Tensor, " bags_plus_1"],
) -> Float[Tensor, "bags branches dim"]:
    """Softmax the scores within each bag, then average that bag's features with them, once for each branch."""
    sizes = offsets.diff().tolist()
    bags = zip(scores.split(sizes), features.split(sizes), strict=True)
    return torch.stack([s.softmax(0).to(f.dtype).mT @ f for s, f in bags])
