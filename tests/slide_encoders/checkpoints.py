"""Random checkpoints in the shapes of published ones."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def random_checkpoint(shapes: Mapping[str, tuple[int, ...]], seed: int = 1) -> dict[str, Tensor]:
    """Tensors of the given shapes, so large that no part of a model can go unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) / math.sqrt(shape[-1])
        for name, shape in shapes.items()
    }


def linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a linear layer."""
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a layer norm."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def numbers(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Number of parameters of a checkpoint."""
    return sum(math.prod(shape) for shape in shapes.values())
