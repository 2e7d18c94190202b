"""Stochastic top-K instance masking (STKIM), Zhang et al. 2024, https://arxiv.org/abs/2311.07125, eq. 9."""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mil.bags import MASKED, per_bag
from mil.config import Section


class StkimConfig(Section):
    """Options of heads that mask their highest scores in training."""

    mask_top: int = Field(10, ge=0, description="STKIM: how many of the highest scores may be masked (K)")
    mask_share: float = Field(0.6, ge=0, le=1, description="STKIM: share of those that is masked at each step (p)")
    mask_most: float = Field(
        1.0, ge=0, le=1, description="STKIM: largest share of a bag's tiles that K may be; published: any (1)"
    )


def mask_top(
    scores: Float[Tensor, "tiles branches"],
    offsets: Int[Tensor, " bags_plus_1"],
    top: int,
    share: float,
    most: float = 1.0,
) -> Float[Tensor, "tiles branches"]:
    """Mask exactly ``floor(k * share)`` of each bag's k highest scores, per branch; k is ``min(top, tiles * most)``.

    Which of them is drawn without replacement: one ``torch.rand(branches, k)`` a bag, in the bags' order, whose
    ascending order names the masked ones (the published code's draw).
    """
    masked = []
    for bag in per_bag(scores, offsets):
        k = min(top, int(len(bag) * most))
        highest = bag.topk(k, dim=0).indices  # [k, branches]
        draw = torch.rand(bag.shape[1], k, device=bag.device).argsort(-1)[:, : int(k * share)].T
        masked.append(bag.scatter(0, highest.gather(0, draw), MASKED))
    return torch.cat(masked)
