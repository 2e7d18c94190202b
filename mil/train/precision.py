"""Training in half precision.

Matrix products are in 16 bits; parameters, scores, losses and optimiser in float32.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mil.bags import Bags, HeadOutput, Instances
from mil.device import has_fast_bf16
from mil.errors import ConfigError

HALF = (torch.bfloat16, torch.float16)


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Dtype of the features in training, which is that of the matrix products.

    Args:
        precision: `fp32`, `bf16`, `fp16`, or `auto`: bf16 where the device has
            instructions for it, else fp32.
        device: Device of the training.

    Raises:
        ConfigError: `fp16` without a GPU.
    """
    if precision == "fp16":
        if device.type != "cuda":
            raise ConfigError(
                "train.precision: fp16 needs a GPU, and this training runs on "
                f"{device.type}; set bf16, auto or fp32"
            )
        return torch.float16
    if precision == "bf16" or (precision == "auto" and has_fast_bf16(device)):
        return torch.bfloat16
    return torch.float32


def forward_autocast(head: Callable[[Bags], HeadOutput], bags: Bags) -> HeadOutput:
    """Forward pass with matrix products in the dtype of the features.

    Args:
        head: Head, or a function of its kind, with float32 parameters.
        bags: Bags whose features have the dtype of `choose_dtype`.

    Returns:
        Output of the head, each tensor at least float32.
    """
    dtype = bags.features.dtype
    half = dtype in HALF
    device_type = bags.features.device.type
    # To enter autocast takes as long as a small layer.
    if not half and not torch.is_autocast_enabled(device_type):
        return HeadOutput(*map(_at_least_float32, head(bags)))
    # Autocast knows 16-bit types alone: for float32 it gets one of them, not enabled.
    with torch.autocast(device_type, dtype if half else torch.bfloat16, enabled=half):
        output = head(bags)
    return HeadOutput(*map(_at_least_float32, output))


def _at_least_float32(value: Any) -> Any:
    if isinstance(value, Instances):
        return Instances(*map(_at_least_float32, value))
    # Float64 stays: tests compare gradients in it.
    if isinstance(value, Tensor) and value.dtype in HALF:
        return value.float()
    return value
