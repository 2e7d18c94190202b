"""Nyström attention, Xiong et al. 2021, https://arxiv.org/abs/2102.03902, eq. 15.

Landmarks are means over runs of the bag's order, so that its order counts. The convolution
of the values, which TransMIL adds, is left out.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from mil.heads._mixers.base import MixOptions, Places, Rows, Shape, segment_means
from mil.heads._pseudo_inverse import pseudo_inverse
from mil.kernels.bag_attn import bag_attn
from mil.kernels.padding import in_order, padded_pairs


class Options(MixOptions):
    """Options of `attention: nystrom`."""

    attention: Literal["nystrom"]
    landmarks: int = Field(256, gt=0, le=4096, description="Largest number of landmarks of a bag.")


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
        marks = self._marks(rows, places)
        summary, _ = bag_attn(marks.queries, rows.keys, rows.values, marks.offsets, places.offsets)
        key_marks = marks.keys.repeat_interleave(self.per_key_head, 1)
        summary = self._solved(marks.queries, key_marks, summary, marks.offsets)
        mixed, _ = bag_attn(rows.queries, key_marks, summary, places.offsets, marks.offsets)
        return mixed

    def _marks(self, rows: Rows, places: Places) -> Marks:
        sizes = places.offsets.diff()
        if max(places.sizes()) <= self.landmarks:
            return Marks(rows.queries, rows.keys, places.offsets)
        counts = sizes.clamp(max=self.landmarks)
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        bag_of = places.bag_of()
        number = torch.arange(len(bag_of), device=bag_of.device) - places.offsets[bag_of]
        # Runs of a bag, as equal in length as can be.
        run_of = offsets[bag_of] + number * counts[bag_of] // sizes[bag_of]
        lengths = run_of.bincount(minlength=int(offsets[-1]))
        return Marks(
            segment_means(rows.queries, run_of, lengths),
            segment_means(rows.keys, run_of, lengths),
            offsets,
        )

    def _solved(self, queries: Tensor, keys: Tensor, summary: Tensor, offsets: Tensor) -> Tensor:
        """``softmax(q̃ k̃ᵀ)⁺`` times the summary, for the landmarks of each bag."""
        solved = []
        paddings = []
        for padding, *_ in padded_pairs(offsets, offsets):
            ended = None if padding.slots is None else padding.slots.ended
            block = self._solved_block(
                padding.fill(queries), padding.fill(keys), padding.fill(summary), ended
            )
            solved.append(padding.take(block))
            paddings.append(padding)
        return in_order(solved, paddings)

    def _solved_block(
        self, queries: Tensor, keys: Tensor, summary: Tensor, ended: Tensor | None
    ) -> Tensor:
        scores = torch.einsum("bqhw,bkhw->bhqk", queries, keys) * self.scale
        if ended is None:
            shares = scores.softmax(-1)
        else:
            # Rows and columns of zeros stay so, and change no others.
            of_keys, of_queries = ended[:, None, None], ended[:, None, :, None]
            shares = scores.masked_fill(of_keys, -torch.inf).softmax(-1)
            shares = shares.masked_fill(of_queries, 0.0)
        inverse = pseudo_inverse(shares)
        return torch.einsum("bhqk,bkhw->bqhw", inverse.to(summary.dtype), summary)
