"""Training in half precision: matrix products in bfloat16; parameters, scores, losses and optimiser in float32."""

from typing import Any

import torch
from torch import Tensor, nn

from mil.device import has_fast_bf16
from mil.types import Bags, HeadOutput, Instances


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """Type of the features in training, which is that of the matrix products.

    Args:
        wanted: `fp32`, `bf16`, or `auto`: bf16 where the device has instructions for it.
        device: where it computes.
    """
    half = wanted == "bf16" or (wanted == "auto" and has_fast_bf16(device))
    return torch.bfloat16 if half else torch.float32


def answer(head: nn.Module, bags: Bags) -> HeadOutput:
    """What a head says of bags, in float32 at least; features in bfloat16 make its matrix products bfloat16."""
    half = bags.features.dtype == torch.bfloat16
    with torch.autocast(bags.features.device.type, torch.bfloat16, enabled=half):
        out = head(bags)
    return HeadOutput(*map(_in_full, out))


def _in_full(value: Any) -> Any:
    if isinstance(value, Instances):
        return Instances(*map(_in_full, value))
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value
