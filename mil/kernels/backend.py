"""Who computes an operation: one rule for all of them."""

from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

Backend = Literal["auto", "reference", "cpu", "triton"]
Chosen = Literal["reference", "cpu", "triton"]
FAST = (torch.float32, torch.bfloat16, torch.float16)


def choose(backend: Backend, *tensors: Tensor | None) -> Chosen:
    """What `auto` stands for with these tensors: Triton on a CUDA device, tiled torch on a CPU, else the reference.

    Doubles are left to the reference, whose every step is in double.

    Args:
        backend: anything but `auto` is taken as it is.
        tensors: that the operation reads; the first says on which device.
    """
    if backend != "auto":
        return backend
    given = [tensor for tensor in tensors if tensor is not None]
    if any(tensor.is_floating_point() and tensor.dtype not in FAST for tensor in given):
        return "reference"
    device = given[0].device.type
    if device == "cuda" and find_spec("triton") is not None:
        return "triton"
    return "cpu" if device == "cpu" else "reference"
