"""Control: every tile gets the mean of its bag's values, whatever the queries and keys."""

from typing import Literal

import torch
from torch import Tensor, nn

from mil.bags import per_bag
from mil.heads._mixers.base import MixOptions, Places, Rows, Shape


class Options(MixOptions):
    """Options of `attention: uniform`."""

    attention: Literal["uniform"]


class Mixer(nn.Module):
    """One context for all tiles of a bag: a mixer that does not beat it used no tile's content."""

    ordered = False

    def __init__(self, options: Options, shape: Shape) -> None:
        super().__init__()
        self.per_key_head = shape.query_heads // shape.key_heads

    def forward(self, rows: Rows, places: Places) -> Tensor:
        """Mixed rows [tiles, query heads, value width]."""
        values = rows.values.repeat_interleave(self.per_key_head, 1)
        means = [of_bag.mean(0).expand_as(of_bag) for of_bag in per_bag(values, places.offsets)]
        return torch.cat(means)
