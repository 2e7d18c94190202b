"""Reducing, scoring and pooling on a GPU, a chunk of rows at a time: of no bag are all hidden rows needed at once.

Within a chunk, what follows a matrix product goes over fewer rows, which are still in
the chip's cache.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mil.kernels.attn_pool.kernel import Gradients, Sums, attn_pool_backward, attn_pool_forward
from mil.kernels.gated_attn_pool.reference import Mask, Weights
from mil.kernels.gated_scores.common import GateSums, add_product, chunks, even_rows
from mil.kernels.gated_scores.kernel import Gates, gated_scores_backward, gated_scores_forward

# Bytes of hidden rows; not tuned on a GPU yet.
CHUNK_BYTES = 128 << 20  # pooled at once: so many that launching takes less time than computing
CACHED_BYTES = (
    16 << 20
)  # they, their gradient and that of their gates are in the cache, 50 MB on an H100
KEPT_BYTES = (
    512 << 20
)  # kept for the gradient, or until the scores are masked; the others are computed again
aten = torch.ops.aten


class _Trunk:
    """Hidden rows, chunk by chunk: kept if there is room, else computed whenever they are asked for."""

    def __init__(self, features: Tensor, weights: Weights, kept: Tensor) -> None:
        self.features = features
        self.kept = kept
        self.reducer = weights.reducer.to(features.dtype)
        self.gates = Gates.of(weights.gates, features.dtype)
        rows = chunk_rows(features, weights)
        self.parts = list(chunks(len(features), rows))
        self.cached = even_rows(
            min(rows, len(features)), CACHED_BYTES // (features.itemsize * len(self.reducer))
        )
        self.work = features.new_empty(
            0 if len(kept) == len(features) else min(rows, len(features)), len(self.reducer)
        )

    def hidden(self, part: slice, *, known: bool = True) -> Tensor:
        """Hidden rows of a chunk, until those of the next are asked for; `known`: they have been computed before."""
        kept = part.stop <= len(self.kept)
        hidden = self.kept[part] if kept else self.work[: part.stop - part.start]
        if not (kept and known):
            features = self.features[part]
            for rows in chunks(len(hidden), self.cached):
                torch.mm(features[rows], self.reducer.T, out=hidden[rows]).relu_()
        return hidden


class _Found(NamedTuple):
    """What the gradient needs of the way forward."""

    scores: Tensor  # [tiles, branches]
    masked: Tensor | None  # [tiles, branches], scores that the mask has changed
    sums: Sums


def chunk_rows(features: Tensor, weights: Weights) -> int:
    """Rows of a chunk."""
    return even_rows(len(features), CHUNK_BYTES // (features.itemsize * len(weights.reducer)))


def room_for(features: Tensor, weights: Weights, needed: bool) -> Tensor:
    """Memory for hidden rows that are kept: all, or as many whole chunks as may be; `needed`: after a chunk's turn."""
    rows = KEPT_BYTES // (features.itemsize * len(weights.reducer))
    if rows < len(features):
        rows -= rows % chunk_rows(features, weights)
    return features.new_empty(min(rows, len(features)) if needed else 0, len(weights.reducer))


def gated_attn_pool_forward(trunk: _Trunk, offsets: Tensor, mask: Mask | None) -> _Found:
    """Scores, and sums of what they pool; without a mask in one pass."""
    scores = trunk.features.new_empty(
        len(trunk.features), len(trunk.gates.score), dtype=torch.float32
    )

    def scored() -> Iterator[tuple[slice, Tensor]]:
        for part in trunk.parts:
            hidden = trunk.hidden(part, known=False)
            gated_scores_forward(hidden, trunk.gates, scores[part])
            yield part, hidden

    if mask is None:
        return _Found(scores, None, _pooled(scored(), scores, offsets))
    for _ in scored():
        pass
    masked = mask(scores).contiguous()
    again = ((part, trunk.hidden(part)) for part in trunk.parts)
    return _Found(masked, masked != scores, _pooled(again, masked, offsets))


def _pooled(hidden: Iterator[tuple[slice, Tensor]], scores: Tensor, offsets: Tensor) -> Sums:
    """Sums over all chunks, in their order."""
    sums: Sums | None = None
    for part, rows in hidden:
        of_part = attn_pool_forward(scores[part], rows, _within(part, offsets))
        sums = of_part if sums is None else sums.merge(of_part)
    assert sums is not None, "there are no tiles"
    return sums


def _within(part: slice, offsets: Tensor) -> Tensor:
    """Where bags begin and end in a chunk; those that are not in it are empty."""
    return offsets.clamp(part.start, part.stop) - part.start


def gated_attn_pool_backward(
    trunk: _Trunk,
    offsets: Tensor,
    found: _Found,
    of: Gradients,
    d_scores: Tensor | None,
    d_features: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Gradients of reducer and of what scores, in float32; of the features in place."""
    d_reducer = torch.zeros_like(trunk.reducer, dtype=torch.float32)
    sums = GateSums.zeros(trunk.gates.weights, trunk.gates.score)
    d_work = trunk.features.new_empty(
        max(part.stop - part.start for part in trunk.parts), len(trunk.reducer)
    )
    for part in trunk.parts:
        hidden = trunk.hidden(part)
        features = trunk.features[part]
        d_hidden = d_work[: part.stop - part.start]
        of_scores = attn_pool_backward(
            found.scores[part], hidden, _within(part, offsets), of, d_hidden
        )
        if d_scores is not None:
            of_scores += d_scores[part]
        if found.masked is not None:
            of_scores.masked_fill_(found.masked[part], 0.0)
        for rows in chunks(len(hidden), trunk.cached):
            d_rows = d_hidden[rows]
            gated_scores_backward(
                hidden[rows], trunk.gates, of_scores[rows], d_rows, sums, add=True
            )
            aten.threshold_backward.grad_input(d_rows, hidden[rows], 0, grad_input=d_rows)
            add_product(d_reducer, d_rows.T, features[rows])
            if d_features is not None:
                torch.mm(d_rows, trunk.reducer, out=d_features[part][rows])
    return d_reducer, *sums.named()


class GatedAttnPool(torch.autograd.Function):
    """Reducing, scoring and pooling with their gradient; see `mil.kernels.gated_attn_pool.gated_attn_pool`."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, *given: Any) -> tuple[Tensor, ...]:
        """Pooled rows, scores, and the three of `AttentionStats`; keeps what the gradient needs."""
        features, weights, (offsets, mask, learning) = (
            features.contiguous(),
            Weights(*given[:7]),
            given[7:],
        )
        needed = mask is not None or (learning and any(ctx.needs_input_grad))
        kept = room_for(features, weights, needed)
        found = gated_attn_pool_forward(_Trunk(features, weights, kept), offsets, mask)
        ctx.save_for_backward(
            features, *weights, offsets, kept, found.scores, found.masked, *found.sums
        )
        ctx.set_materialize_grads(False)
        return found.sums.pooled(), found.scores, *found.sums.stats()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of features and weights, each of its own type."""
        features, *rest = ctx.saved_tensors
        weights = Weights(*rest[:7])
        offsets = rest[7]
        kept = rest[8]
        found = _Found(rest[9], rest[10], Sums(*rest[11:]))
        d_features = torch.empty_like(features) if ctx.needs_input_grad[0] else None
        d_pooled, d_scores, *d_stats = grads
        with torch.autocast(features.device.type, enabled=False):
            of = Gradients.of(found.sums, d_pooled, *d_stats)
            of_weights = gated_attn_pool_backward(
                _Trunk(features, weights, kept), offsets, found, of, d_scores, d_features
            )
        cast = (
            None if d is None else d.to(w.dtype) for d, w in zip(of_weights, weights, strict=True)
        )
        return d_features, *cast, None, None, None
