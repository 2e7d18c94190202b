"""Stochastic top-K instance masking (STKIM), Zhang et al. 2024, https://arxiv.org/abs/2311.07125, eq. 9."""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mil.bags import MASKED
from mil.config import Section
from mil.kernels.topk_mask import topk_mask
from mil.kernels.topk_mask.reference import ranked


class StkimConfig(Section):
    """Options of heads that mask their highest scores in training."""

    mask_top: int = Field(
        10, ge=0, description="STKIM: number of highest scores that may be masked (K)."
    )
    mask_share: float = Field(
        0.6,
        ge=0,
        le=1,
        description="STKIM: fraction of the K highest scores masked at each step (p), 0 to 1.",
    )
    mask_most: float = Field(
        1.0,
        ge=0,
        le=1,
        description="STKIM: largest fraction of a bag's tiles that K may be; 1, as published: no limit.",
    )


def mask_top(
    scores: Float[Tensor, "tiles branches"],
    offsets: Int[Tensor, " bags_plus_1"],
    top: int,
    share: float,
    most: float = 1.0,
) -> Float[Tensor, "tiles branches"]:
    """Mask exactly ``floor(k * share)`` of each bag's k highest scores, per branch; k is ``min(top, tiles * most)``.

    Which of them is drawn without replacement, by uniform draws whose ascending order
    names the masked ones.
    """
    draws = drawn(offsets, scores.shape[1], top, most)
    return topk_mask(scores, offsets, draws, share=share, fill=MASKED, most=most)


def drawn(
    offsets: Int[Tensor, " bags_plus_1"], branches: int, top: int, most: float
) -> Float[Tensor, "bags branches top"]:
    """A draw for each rank that may be masked, on the offsets' device.

    On a CPU one ``torch.rand(branches, k)`` a bag, in the bags' order (the published
    code's draw); on a GPU all at once, since each k is known on the device alone.
    """
    if offsets.device.type != "cpu":
        return torch.rand(len(offsets) - 1, branches, top, device=offsets.device)
    counts = [ranked(tiles, top, most) for tiles in offsets.diff().tolist()]
    return torch.stack([_padded(torch.rand(branches, k), top) for k in counts])


def _padded(draws: Tensor, top: int) -> Tensor:
    return torch.nn.functional.pad(draws, (0, top - draws.shape[1]), value=torch.inf)
