"""Reducing, scoring and pooling on a GPU, a chunk of rows at a time.

It has no kernels of its own: it launches those of `attn_pool` and `gated_scores`. The
hidden rows of a bag are never needed all at once. Within a chunk, the operations after
a matrix product go over fewer rows, which are still in the chip's cache.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mil.kernels.attn_pool.sums import BagGradients, SoftmaxSums
from mil.kernels.attn_pool.triton_backward import attn_pool_backward
from mil.kernels.attn_pool.triton_forward import attn_pool_forward
from mil.kernels.chunks import add_product, chunks, even_rows
from mil.kernels.gated_attn_pool.reference import Mask, TrunkWeights
from mil.kernels.gated_scores.sums import WeightGradients
from mil.kernels.gated_scores.triton import GpuGates, gated_scores_backward, gated_scores_forward

# Bytes of hidden rows; not tuned on a GPU yet.
# Pooled at once: so many that a launch takes less time than its work.
CHUNK_BYTES = 128 << 20
# They, their gradient and that of their gates fit into the cache, 50 MB on an H100.
CACHED_BYTES = 16 << 20
# Kept for the gradient, or until the scores are masked; the others are computed again.
KEPT_BYTES = 512 << 20
aten = torch.ops.aten


class GpuTrunk:
    """Hidden rows, chunk by chunk: kept if there is room, else computed each time."""

    def __init__(self, features: Tensor, weights: TrunkWeights, kept: Tensor) -> None:
        self.features = features
        self.kept = kept
        self.reducer = weights.reducer.to(features.dtype)
        bias = weights.reducer_bias
        self.reducer_bias = None if bias is None else bias.to(features.dtype)
        self.gates = GpuGates.of(weights.gates, features.dtype)
        rows = chunk_rows(features, weights)
        self.parts = list(chunks(len(features), rows))
        rows = min(rows, len(features))
        width = len(self.reducer)
        self.cached_rows = even_rows(rows, CACHED_BYTES // (features.itemsize * width))
        # Memory of one chunk, for all that are not kept.
        all_kept = len(kept) == len(features)
        self.work = features.new_empty(0 if all_kept else rows, width)

    def hidden(self, part: slice, *, computed: bool = True) -> Tensor:
        """Hidden rows of a chunk, valid until those of the next are asked for.

        Args:
            part: rows of the chunk.
            computed: kept rows have been filled before.
        """
        kept = part.stop <= len(self.kept)
        tiles = part.stop - part.start
        hidden = self.kept[part] if kept else self.work[:tiles]
        if not (kept and computed):
            features = self.features[part]
            for rows in chunks(len(hidden), self.cached_rows):
                self._reduce(features[rows], hidden[rows])
        return hidden

    def _reduce(self, features: Tensor, out: Tensor) -> None:
        if self.reducer_bias is None:
            torch.mm(features, self.reducer.T, out=out)
        else:
            torch.addmm(self.reducer_bias, features, self.reducer.T, out=out)
        out.relu_()


class GpuForward(NamedTuple):
    """Results of the forward pass that the gradient needs."""

    scores: Tensor  # [tiles, branches], as pooled by
    masked: Tensor | None  # [tiles, branches], true for scores that the mask has changed
    sums: SoftmaxSums


def chunk_rows(features: Tensor, weights: TrunkWeights) -> int:
    """Rows of a chunk."""
    row_bytes = features.itemsize * len(weights.reducer)
    return even_rows(len(features), CHUNK_BYTES // row_bytes)


def room_for(features: Tensor, weights: TrunkWeights, needed: bool) -> Tensor:
    """Memory for hidden rows that are kept: all, or as many whole chunks as have room.

    Args:
        features: [tiles, dim].
        weights: parameters.
        needed: hidden rows are needed again after their chunk's turn; else none is
            kept.
    """
    tiles = len(features)
    width = len(weights.reducer)
    rows = KEPT_BYTES // (features.itemsize * width)
    if rows < tiles:
        rows -= rows % chunk_rows(features, weights)
    return features.new_empty(min(rows, tiles) if needed else 0, width)


def gated_attn_pool_forward(trunk: GpuTrunk, offsets: Tensor, mask: Mask | None) -> GpuForward:
    """Scores, and sums of what they pool; without a mask in one pass over the features."""
    shape = (len(trunk.features), len(trunk.gates.score))
    scores = trunk.features.new_empty(shape, dtype=torch.float32)
    if mask is None:
        return GpuForward(scores, None, _pool(_scored(trunk, scores), scores, offsets))
    for _ in _scored(trunk, scores):
        pass
    masked_scores = mask(scores).contiguous()
    hidden = ((part, trunk.hidden(part)) for part in trunk.parts)
    sums = _pool(hidden, masked_scores, offsets)
    return GpuForward(masked_scores, masked_scores != scores, sums)


def _scored(trunk: GpuTrunk, scores: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Each chunk and its hidden rows, once its scores are written."""
    for part in trunk.parts:
        hidden = trunk.hidden(part, computed=False)
        gated_scores_forward(hidden, trunk.gates, scores[part])
        yield part, hidden


def _pool(
    hidden_chunks: Iterator[tuple[slice, Tensor]], scores: Tensor, offsets: Tensor
) -> SoftmaxSums:
    """Sums over all chunks, merged in their order."""
    sums: SoftmaxSums | None = None
    for part, hidden in hidden_chunks:
        chunk_sums = attn_pool_forward(scores[part], hidden, _within(part, offsets))
        sums = chunk_sums if sums is None else sums.merge(chunk_sums)
    assert sums is not None, "there are no tiles"
    return sums


def _within(part: slice, offsets: Tensor) -> Tensor:
    """Offsets of the bags inside a chunk; bags outside it are empty."""
    return offsets.clamp(part.start, part.stop) - part.start


def gated_attn_pool_backward(
    trunk: GpuTrunk,
    offsets: Tensor,
    forward: GpuForward,
    shared: BagGradients,
    d_scores: Tensor | None,
    d_features: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Gradients of the parameters in float32, in the order of `TrunkWeights`.

    Args:
        trunk: hidden rows of the forward pass.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``.
        forward: results of the forward pass.
        shared: gradients that a bag's tiles share.
        d_scores: [tiles, branches], gradient that reaches the scores from the losses.
        d_features: memory of the shape of the features, for their gradient; None: not
            needed.
    """
    d_reducer = torch.zeros_like(trunk.reducer, dtype=torch.float32)
    bias = trunk.reducer_bias
    d_reducer_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
    sums = WeightGradients.zeros(trunk.gates.weights, trunk.gates.score)
    max_rows = max(part.stop - part.start for part in trunk.parts)
    work = trunk.features.new_empty(max_rows, len(trunk.reducer))
    for part in trunk.parts:
        hidden = trunk.hidden(part)
        features = trunk.features[part]
        d_hidden = work[: part.stop - part.start]
        bounds = _within(part, offsets)
        ds = attn_pool_backward(forward.scores[part], hidden, bounds, shared, d_hidden)
        if d_scores is not None:
            ds += d_scores[part]
        if forward.masked is not None:
            ds.masked_fill_(forward.masked[part], 0.0)
        for rows in chunks(len(hidden), trunk.cached_rows):
            d_rows = d_hidden[rows]
            gated_scores_backward(hidden[rows], trunk.gates, ds[rows], d_rows, sums, add=True)
            # The ReLU's gradient: 0 where the hidden number is 0.
            aten.threshold_backward.grad_input(d_rows, hidden[rows], 0, grad_input=d_rows)
            add_product(d_reducer, d_rows.T, features[rows])
            if d_reducer_bias is not None:
                d_reducer_bias += d_rows.sum(0, dtype=torch.float32)
            if d_features is not None:
                torch.mm(d_rows, trunk.reducer, out=d_features[part][rows])
    return d_reducer, *sums.by_parameter(), d_reducer_bias
