"""Nyström attention, Xiong et al. 2021, https://arxiv.org/abs/2102.03902, eq. 15.

Landmarks are means over runs of the bag's order, so that its order counts. The convolution
of the values, which TransMIL adds, is left out.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from mil.heads._mixers.base import MixOptions, Places, Rows, Shape
from mil.heads._pseudo_inverse import pseudo_inverse
from mil.kernels.bag_attn import bag_attn


class Options(MixOptions):
    """Options of `attention: nystrom`."""

    attention: Literal["nystrom"]
    landmarks: int = Field(256, gt=0, le=4096, description="Largest number of landmarks of a bag.")


class Mixer(nn.Module):
    """softmax(q k̃ᵀ) · softmax(q̃ k̃ᵀ)⁺ · softmax(q̃ kᵀ) · v."""

    ordered = True

    def __init__(self, options: Options, shape: Shape) -> None:
        super().__init__()
        self.landmarks = options.landmarks
        self.per_key_head = shape.query_heads // shape.key_heads
        self.scale = shape.width**-0.5

    def forward(self, rows: Rows, places: Places) -> Tensor:
        """Mixed rows [tiles, query heads, value width]."""
        sizes = places.sizes()
        of_bags = zip(*(row.split(sizes) for row in rows[:3]), strict=True)
        return torch.cat([self._mixed(Rows(*of_bag)) for of_bag in of_bags])

    def _mixed(self, rows: Rows) -> Tensor:
        """Mixed rows of one bag."""
        count = len(rows.queries)
        keys = rows.keys.repeat_interleave(self.per_key_head, 1)
        values = rows.values.repeat_interleave(self.per_key_head, 1)
        marks = min(self.landmarks, count)
        query_marks = run_means(rows.queries, marks)
        key_marks = run_means(keys, marks)
        tiles = torch.tensor([0, count], device=keys.device)
        few = torch.tensor([0, marks], device=keys.device)
        summary, _ = bag_attn(query_marks, keys, values, few, tiles)
        scores = torch.einsum("qhw,khw->hqk", query_marks, key_marks) * self.scale
        inverse = pseudo_inverse(scores.softmax(-1)[None])[0]
        summary = torch.einsum("hqk,khw->qhw", inverse.to(summary.dtype), summary)
        mixed, _ = bag_attn(rows.queries, key_marks, summary, tiles, few)
        return mixed


def run_means(
    rows: Float[Tensor, "rows heads width"], runs: int
) -> Float[Tensor, "runs heads width"]:
    """Means over consecutive runs, as equal in length as can be."""
    run_of = torch.arange(len(rows), device=rows.device) * runs // len(rows)
    sums = rows.new_zeros(runs, *rows.shape[1:]).index_add(0, run_of, rows)
    return sums / run_of.bincount(minlength=runs)[:, None, None]
