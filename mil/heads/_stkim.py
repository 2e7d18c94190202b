"""Stochastic top-K instance masking (STKIM), Zhang et al. 2024, https://arxiv.org/abs/2311.07125, eq. 9."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import MASKED, per_bag


def mask_top(
    scores: Float[Tensor, "tiles branches"], offsets: Int[Tensor, " bags_plus_1"], top: int, share: float
) -> Float[Tensor, "tiles branches"]:
    """Mask exactly ``floor(min(top, tiles) * share)`` of each bag's highest scores, per branch.

    Which of them is drawn without replacement: one ``torch.rand(branches, k)`` a bag, in the bags' order, whose
    ascending order names the masked ones (the published code's draw).
    """
    masked = []
    for bag in per_bag(scores, offsets):
        k = min(top, len(bag))
        highest = bag.topk(k, dim=0).indices  # [k, branches]
        draw = torch.rand(bag.shape[1], k, device=bag.device).argsort(-1)[:, : int(k * share)].T
        masked.append(bag.scatter(0, highest.gather(0, draw), MASKED))
    return torch.cat(masked)
