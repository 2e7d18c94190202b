"""Packed bags for the tests of kernels."""

import torch
from torch import Tensor

from mil.bags import join


def make(
    sizes, dim, branches, dtype=torch.float32, device="cpu", spread=3.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores [tiles, branches] of a standard deviation, features [tiles, dim], offsets."""
    draw = torch.Generator().manual_seed(sum(sizes) + dim)
    bags = join([torch.randn(n, dim, generator=draw) for n in sizes])
    scores = spread * torch.randn(sum(sizes), branches, generator=draw)
    return scores.to(device), bags.features.to(device, dtype), bags.offsets.to(device)
