"""Reduce, score, pool: the trunk of the heads with gated attention, in one operation."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.kernels.gated_pool.cpu import GatedPool
from mil.kernels.gated_pool.reference import Mask, Weights, gated_pool_reference

__all__ = ["Backend", "Mask", "Weights", "gated_pool"]

Backend = Literal["auto", "reference", "cpu"]


def gated_pool(
    features: Float[Tensor, "tiles dim"],
    weights: Weights,
    offsets: Int[Tensor, " bags_plus_1"],
    mask: Mask | None = None,
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "bags branches hidden"], Float[Tensor, "tiles branches"]]:
    """Pool each bag's reduced tiles by gated attention.

    Args:
        features: their type is that of the matrix products; sums are kept in float32 at least.
        weights: of the reducer, ``relu(W x)``, and of the scores, ``w · (tanh(V h + b) ⊙ sigmoid(U h + c)) + d``.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``; no bag is empty.
        mask: given the scores, gives them with other numbers in the place of some, which get no gradient.
        backend: `auto` takes `cpu` for float32 and bfloat16 on a CPU with weights in float32, else the reference.

    Returns:
        One row a bag and branch, and the scores that they were pooled by; float32, or float64 of float64 features.
    """
    if backend == "reference" or (backend == "auto" and not _fast(features, weights)):
        return gated_pool_reference(features, weights, offsets, mask)
    pooled, scores = GatedPool.apply(features, *weights, offsets, mask)
    return pooled, scores


def _fast(features: Tensor, weights: Weights) -> bool:
    return (
        features.dtype in (torch.float32, torch.bfloat16)
        and all(tensor is None or (tensor.device.type == "cpu" and tensor.dtype == torch.float32) for tensor in weights)
        and features.device.type == "cpu"
    )
