"""Masking random ones of each bag's highest scores (STKIM), per branch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.kernels.dispatch import Backend, choose_backend
from mil.kernels.topk_mask.reference import topk_mask_reference


def topk_mask(
    scores: Float[Tensor, "tiles branches"],
    offsets: Int[Tensor, " bags_plus_1"],
    draws: Float[Tensor, "bags branches top"],
    *,
    share: float,
    fill: float,
    max_share: float = 1.0,
    backend: Backend = "auto",
) -> Float[Tensor, "tiles branches"]:
    """Mask ``floor(k * share)`` of each bag's k highest scores, per branch.

    k is ``min(top, floor(tiles * max_share))``. The masked ranks are those with the
    smallest of the first k draws; of equal draws, the first. Zhang et al. 2024,
    https://arxiv.org/abs/2311.07125, eq. 9.

    Args:
        scores: attention scores, ranked within each bag and branch. Of equal scores,
            Triton ranks the first tile first; the reference ranks as `torch.topk` does.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``.
        draws: uniform random numbers; those from k on are not read.
        share: share of the k scores to mask, 0 to 1.
        fill: value of a masked score.
        max_share: largest share of a bag's tiles that may be ranked, 0 to 1.
        backend: see `mil.kernels.dispatch.choose_backend`; Triton ranks scores as
            float32 and never waits for the device.

    Returns:
        The scores; masked ones get no gradient.
    """
    if not draws.shape[-1]:
        return scores
    if choose_backend(backend, scores) != "triton":
        return topk_mask_reference(scores, offsets, draws, share, fill, max_share)
    # Imported here: Triton exists on Linux alone.
    from mil.kernels.topk_mask.function import TopkMaskFunction

    # Triton launches on the current device, which need not be the tensors'.
    with torch.cuda.device_of(scores):
        masked: Tensor = TopkMaskFunction.apply(scores, offsets, draws, share, fill, max_share)
    return masked
