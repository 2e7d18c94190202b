"""Softmax attention of every tile to all tiles of its bag: the control of every approximation."""

from typing import Literal

from torch import Tensor, nn

from mil.heads._mixers.base import MixOptions, Places, Rows, Shape
from mil.kernels.bag_attn import bag_attn


class Options(MixOptions):
    """Options of `attention: full`."""

    attention: Literal["full"]


class Mixer(nn.Module):
    """Quadratic in the tiles of a bag, in time; not in memory."""

    ordered = False

    def __init__(self, options: Options, shape: Shape) -> None:
        super().__init__()

    def forward(self, rows: Rows, places: Places) -> Tensor:
        """Mixed rows [tiles, query heads, value width]."""
        mixed, _ = bag_attn(*rows[:3], places.offsets, places.offsets)
        return mixed
