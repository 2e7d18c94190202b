"""Some of each bag's highest scores masked by chance (STKIM), per branch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.kernels.backend import Backend, choose
from mil.kernels.topk_mask.reference import topk_mask_reference


def topk_mask(
    scores: Float[Tensor, "tiles branches"],
    offsets: Int[Tensor, " bags_plus_1"],
    draws: Float[Tensor, "bags branches top"],
    *,
    share: float,
    fill: float,
    most: float = 1.0,
    backend: Backend = "auto",
) -> Float[Tensor, "tiles branches"]:
    """Mask ``floor(k * share)`` of each bag's k highest scores, per branch; k is ``min(top, floor(tiles * most))``.

    Which ranks are masked the draws say: those whose draws are the smallest of the
    first k, of equal draws those that come first. Zhang et al. 2024,
    https://arxiv.org/abs/2311.07125, eq. 9.

    Args:
        scores: a branch's scores are ranked within each bag. Of equal scores the tile
            that comes first ranks first in Triton; the reference ranks them as
            `torch.topk` does.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``.
        draws: uniform numbers; of a bag that ranks k scores those from k on are not
            looked at.
        share: of the k scores that is masked, 0 to 1.
        fill: what a masked score becomes.
        most: largest share of a bag's tiles that may be ranked, 0 to 1.
        backend: see `mil.kernels.backend.choose`; Triton does not wait for the device,
            and ranks scores as float32.

    Returns:
        The scores; those that are masked have no gradient.
    """
    if not draws.shape[-1]:
        return scores
    if choose(backend, scores) != "triton":
        return topk_mask_reference(scores, offsets, draws, share, fill, most)
    from mil.kernels.topk_mask.kernel import TopkMask  # Triton is needed only on this path

    with torch.cuda.device_of(scores):  # where Triton launches
        masked: Tensor = TopkMask.apply(scores, offsets, draws, share, fill, most)
    return masked
