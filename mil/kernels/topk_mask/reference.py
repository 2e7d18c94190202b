"""Definition of masking random ones of the highest scores (STKIM), in plain torch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def num_ranked(tiles: int, top: int, max_share: float) -> int:
    """Number of a bag's scores that may be masked: `top`, but at most that share of its tiles."""
    return min(top, int(tiles * max_share))


def topk_mask_reference(
    scores: Float[Tensor, "tiles branches"],
    offsets: Int[Tensor, " bags_plus_1"],
    draws: Float[Tensor, "bags branches top"],
    share: float,
    fill: float,
    max_share: float,
) -> Float[Tensor, "tiles branches"]:
    """Of each bag: rank the k highest scores, mask the ranks with the smallest draws."""
    masked = []
    for bag, bag_draws in zip(scores.split(offsets.diff().tolist()), draws, strict=True):
        k = num_ranked(len(bag), draws.shape[-1], max_share)
        num_masked = int(k * share)
        # Of a small bag nothing may be masked, and ranking takes time.
        if not num_masked:
            masked.append(bag)
            continue
        highest = bag.topk(k, dim=0).indices  # [k, branches]
        ranks = bag_draws[:, :k].argsort(dim=-1, stable=True)[:, :num_masked].T
        masked.append(bag.scatter(0, highest.gather(0, ranks), fill))
    return torch.cat(masked)
