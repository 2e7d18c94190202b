"""Dynamic mask attention, Shi et al. 2025, https://arxiv.org/abs/2508.02124.

Each key head chooses the tiles that give context, by their values. Published for text, where
a token reads earlier ones; without that order the choice is the same for all tiles of a bag.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mil.heads._mixers.base import MixOptions, Places, Rows, Shape
from mil.kernels.bag_attn import bag_attn
from mil.kernels.dispatch import at_least_float32


class Options(MixOptions):
    """Options of `attention: dynamic_mask`."""

    attention: Literal["dynamic_mask"]
    keep: int = Field(256, gt=0, description="Largest number of tiles that give context.")


class Mixer(nn.Module):
    """Attention to the tiles of largest `A softplus(W v)`, which is added to their scores."""

    ordered = False

    def __init__(self, options: Options, shape: Shape) -> None:
        super().__init__()
        self.keep = options.keep
        self.step = nn.Linear(shape.key_heads * shape.width, shape.key_heads, bias=False)
        # Published: 0, by which at first any tiles are kept and the layer has no gradient.
        self.gain = nn.Parameter(torch.ones(shape.key_heads))

    def forward(self, rows: Rows, places: Places) -> Tensor:
        """Mixed rows [tiles, query heads, value width]."""
        bias = self.bias(rows.values if rows.content is None else rows.content)
        kept, ends = self._kept(bias, places)
        keys = _of_heads(rows.keys, kept)
        values = _of_heads(rows.values, kept)
        kept_bias = bias.gather(0, kept)
        mixed, _ = bag_attn(rows.queries, keys, values, places.offsets, ends, kept_bias)
        return mixed

    def bias(
        self, values: Float[Tensor, "tiles key_heads width"]
    ) -> Float[Tensor, "tiles key_heads"]:
        """What gives context: added to the score of a tile, for each key head."""
        return self.gain * functional.softplus(at_least_float32(self.step(values.flatten(1))))

    def _kept(self, bias: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        """Tiles that each key head keeps [kept, key heads], and their offsets."""
        # A stable sort: of equal tiles the first ones.
        order = bias.detach().sort(dim=0, descending=True, stable=True).indices
        sizes = places.offsets.diff()
        if len(sizes) > 1:
            of_bag = places.bag_of()[order]
            order = order.gather(0, of_bag.argsort(dim=0, stable=True))
        kept = sizes.clamp(max=self.keep)
        ends = torch.cat([kept.new_zeros(1), kept.cumsum(0)])
        # The first tiles of each bag, which are its largest.
        skipped = torch.repeat_interleave(places.offsets[:-1] - ends[:-1], kept)
        return order[skipped + torch.arange(len(skipped), device=skipped.device)], ends


def _of_heads(
    rows: Float[Tensor, "tiles heads width"], tiles: Int[Tensor, "kept heads"]
) -> Float[Tensor, "kept heads width"]:
    """Each head's own tiles."""
    return rows.gather(0, tiles[..., None].expand(-1, -1, rows.shape[2]))
