"""Parameters and tiles of the golden numbers of published modules."""

import math

import torch
from torch import Tensor


def wave(number: int, *shape: int) -> Tensor:
    """Parameter: 0.5 sin(1 + flat index + 10 number)."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    return (0.5 * torch.sin(1 + index + 10 * number)).view(shape)


def cosines(tiles: int, dim: int) -> Tensor:
    """Tiles: cos(n dim + k)."""
    return torch.cos(torch.arange(tiles * dim, dtype=torch.float64)).view(tiles, dim)


def assert_rows(tensor: Tensor, rows: list) -> None:
    """The numbers, which are printed to 12 decimals."""
    torch.testing.assert_close(tensor, torch.tensor(rows, dtype=torch.float64), rtol=0, atol=1e-11)
