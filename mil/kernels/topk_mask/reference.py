"""What masking some of the highest scores means."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def ranked(tiles: int, top: int, most: float) -> int:
    """How many of a bag's scores may be masked: `top`, but no more than that share of its tiles."""
    return min(top, int(tiles * most))


def topk_mask_reference(
    scores: Float[Tensor, "tiles branches"],
    offsets: Int[Tensor, " bags_plus_1"],
    draws: Float[Tensor, "bags branches top"],
    share: float,
    fill: float,
    most: float,
) -> Float[Tensor, "tiles branches"]:
    """Bag after bag: rank, let the smallest draws name ranks, mask those."""
    masked = []
    for bag, drawn in zip(scores.split(offsets.diff().tolist()), draws, strict=True):
        k = ranked(len(bag), draws.shape[-1], most)
        highest = bag.topk(k, dim=0).indices  # [k, branches]
        ranks = drawn[:, :k].argsort(dim=-1, stable=True)[:, : int(k * share)].T
        masked.append(bag.scatter(0, highest.gather(0, ranks), fill))
    return torch.cat(masked)
