"""Training in half precision: matrix products in 16 bits; parameters, scores, losses and optimiser in float32."""

from typing import Any

import torch
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput, Instances
from mil.device import has_fast_bf16
from mil.errors import ConfigError

HALF = (torch.bfloat16, torch.float16)


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """Type of the features in training, which is that of the matrix products.

    Args:
        wanted: `fp32`, `bf16`, `fp16`, or `auto`: bf16 where the device has
            instructions for it.
        device: where it computes.

    Raises:
        ConfigError: fp16 is asked for without a GPU.
    """
    if wanted == "fp16":
        if device.type != "cuda":
            raise ConfigError(
                "train.precision: fp16 is for GPUs, and there is none in use; set bf16, auto or "
                "fp32"
            )
        return torch.float16
    half = wanted == "bf16" or (wanted == "auto" and has_fast_bf16(device))
    return torch.bfloat16 if half else torch.float32


def answer(head: nn.Module, bags: Bags) -> HeadOutput:
    """What a head says of bags, in float32 at least; its matrix products are of the features' type."""
    dtype = bags.features.dtype
    half = dtype in HALF
    with torch.autocast(bags.features.device.type, dtype if half else torch.bfloat16, enabled=half):
        out = head(bags)
    return HeadOutput(*map(_in_full, out))


def _in_full(value: Any) -> Any:
    if isinstance(value, Instances):
        return Instances(*map(_in_full, value))
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF else value
