"""Nyström attention, Xiong et al. 2021, https://arxiv.org/abs/2102.03902, eq. 15.

Landmarks are means over runs of the bag's order, so that its order counts. The convolution
of the values, which TransMIL adds, is left out. Where every tile would be a landmark, the product
of the three maps is full attention, and is computed as that.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from mil.heads._mixers.base import MixOptions, Places, Rows, Shape, segment_means
from mil.heads._mixers.small_bags import mix_by_size
from mil.heads._pseudo_inverse import pseudo_inverse
from mil.kernels.bag_attn import bag_attn


class Options(MixOptions):
    """Options of `attention: nystrom`."""

    attention: Literal["nystrom"]
    landmarks: int = Field(
        256,
        gt=0,
        le=4096,
        description="Number of landmarks of a bag; in a bag of no more tiles all attend to all.",
    )


class Marks(NamedTuple):
    """Landmarks of all bags: mean queries and keys of runs of their tiles."""

    queries: Float[Tensor, "marks query_heads width"]
    keys: Float[Tensor, "marks key_heads width"]
    offsets: Int[Tensor, " bags_plus_1"]


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
        return mix_by_size(rows, places, self.landmarks, self._by_marks)

    def _by_marks(self, rows: Rows, places: Places) -> Tensor:
        """Mixed rows of bags of more tiles than landmarks."""
        marks = self._marks(rows, places)
        summary, _ = bag_attn(marks.queries, rows.keys, rows.values, marks.offsets, places.offsets)
        key_marks = marks.keys.repeat_interleave(self.per_key_head, 1)
        summary = self._solved(marks.queries, key_marks, summary)
        mixed, _ = bag_attn(rows.queries, key_marks, summary, places.offsets, marks.offsets)
        return mixed

    def _marks(self, rows: Rows, places: Places) -> Marks:
        sizes = places.offsets.diff()
        offsets = self.landmarks * torch.arange(len(places.offsets), device=sizes.device)
        bag_of = places.bag_of()
        number = torch.arange(len(bag_of), device=bag_of.device) - places.offsets[bag_of]
        # Runs of a bag, as equal in length as can be.
        run_of = offsets[bag_of] + number * self.landmarks // sizes[bag_of]
        lengths = run_of.bincount(minlength=self.landmarks * len(sizes))
        return Marks(
            segment_means(rows.queries, run_of, lengths),
            segment_means(rows.keys, run_of, lengths),
            offsets,
        )

    def _solved(self, queries: Tensor, keys: Tensor, summary: Tensor) -> Tensor:
        """``softmax(q̃ k̃ᵀ)⁺`` times the summary, for the landmarks of each bag."""
        by_bag = (rows.split(self.landmarks) for rows in (queries, keys, summary))
        return torch.cat([self._solved_bag(*own) for own in zip(*by_bag, strict=True)])

    def _solved_bag(self, queries: Tensor, keys: Tensor, summary: Tensor) -> Tensor:
        scores = torch.einsum("qhw,khw->hqk", queries, keys) * self.scale
        (inverse,) = pseudo_inverse(scores.softmax(-1)[None])
        return torch.einsum("hqk,khw->qhw", inverse.to(summary.dtype), summary)
