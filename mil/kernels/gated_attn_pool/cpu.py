"""Reducing, scoring and pooling on a CPU, a chunk of rows at a time.

What lies between the matrix products stays in the caches: no gradient of hidden rows is
ever whole, and of large bags not even the hidden rows are. A chunk holds as many small
bags as it has room for, since a product of few rows takes longer per row.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mil.kernels.chunks import add_product, chunks
from mil.kernels.gated_attn_pool.reference import Mask, TrunkKeep, TrunkWeights
from mil.kernels.gated_scores.cpu import CpuGates
from mil.kernels.gated_scores.sums import WeightGradients

# Bytes of a chunk's hidden rows: small enough for the caches, large enough for the
# matrix products.
CHUNK_BYTES = 4 << 20
# Bytes of hidden rows and gates that may be kept for the gradient: the larger of this,
# and this share of the features' bytes. The rest is computed again.
KEPT_BYTES = 128 << 20
KEPT_SHARE = 0.4
aten = torch.ops.aten


class BagRows(NamedTuple):
    """Rows of a chunk that belong to one bag."""

    bag: int
    rows: slice  # counted from the chunk's first row


class CpuKept(NamedTuple):
    """Rows kept for the gradient: those of the first chunks, as many as there is room for."""

    hidden: Tensor  # [kept tiles, hidden]
    gated: Tensor  # [kept tiles, gates]; all tiles or none


class CpuForward(NamedTuple):
    """Results of the forward pass that the gradient needs."""

    pooled: Tensor  # [bags, branches, hidden]
    attention: Tensor  # [tiles, branches], float32
    # [bags, branches, 1], sum of the attention as rounded for the products.
    l: Tensor  # noqa: E741
    masked: Tensor | None  # [tiles, branches], true for scores that the mask has changed


class CpuTrunk:
    """Hidden rows and gates, chunk by chunk: kept if there is room, else computed each time."""

    def __init__(
        self,
        features: Tensor,
        weights: TrunkWeights,
        kept: CpuKept,
        keep: TrunkKeep,
    ) -> None:
        self.features = features
        self.kept = kept
        self.keep = keep
        # Rows of a chunk.
        self.chunk = max(1, CHUNK_BYTES // (features.itemsize * len(weights.reducer)))
        self.reducer = weights.reducer.to(features.dtype)
        bias = weights.reducer_bias
        self.reducer_bias = None if bias is None else bias.to(features.dtype)
        self.gates = CpuGates(weights.gates, features.dtype)

    def hidden(self, part: slice, *, computed: bool = True) -> Tensor:
        """Hidden rows of a chunk; `computed`: kept rows have been filled before."""
        kept = _kept(self.kept.hidden, part)
        if computed and kept is not None:
            return kept
        features = self.features[part]
        if self.reducer_bias is None:
            hidden = torch.mm(features, self.reducer.T, out=kept)
        else:
            hidden = torch.addmm(self.reducer_bias, features, self.reducer.T, out=kept)
        hidden.relu_()
        return hidden if self.keep.hidden is None else hidden.mul_(self.keep.hidden[part])

    def gated(self, part: slice, hidden: Tensor, *, computed: bool = True) -> Tensor:
        """``[tanh, sigmoid]`` of a chunk; `computed`: kept rows have been filled before."""
        kept = _kept(self.kept.gated, part)
        if computed and kept is not None:
            return kept
        gated = self.gates.gated(hidden, out=kept)
        # What is dropped of either gate is dropped of their product: tanh is enough.
        if self.keep.values is not None:
            gated[:, : self.gates.attention].mul_(self.keep.values[part])
        return gated


def _kept(rows: Tensor, part: slice) -> Tensor | None:
    """Memory of a chunk, if it is kept."""
    return rows[part] if part.stop <= len(rows) else None


def room_for(features: Tensor, weights: TrunkWeights, learning: bool) -> CpuKept:
    """Memory for hidden rows, as many as may be kept, and for gates, if all have room.

    Args:
        features: [tiles, dim].
        weights: parameters.
        learning: a gradient can be asked for; else gates are not kept.
    """
    room = max(KEPT_BYTES, int(KEPT_SHARE * features.nbytes)) // features.itemsize
    tiles = len(features)
    hidden = len(weights.reducer)
    gates = len(weights.value) * (1 if weights.gate is None else 2)
    gated_tiles = tiles if learning and tiles * (hidden + gates) <= room else 0
    hidden_tiles = min(tiles, room // hidden)
    return CpuKept(
        hidden=features.new_empty(hidden_tiles, hidden),
        gated=features.new_empty(gated_tiles, gates),
    )


def gated_attn_pool_forward(
    trunk: CpuTrunk, score_bias: Tensor, offsets: Tensor, mask: Mask | None
) -> tuple[Tensor, CpuForward]:
    """Scores [tiles, branches], and the results that the gradient needs."""
    dtype = trunk.features.dtype
    scores = torch.empty(len(trunk.features), len(score_bias))
    for part in chunks(len(scores), trunk.chunk):
        hidden = trunk.hidden(part, computed=False)
        scores[part] = trunk.gates.scores(trunk.gated(part, hidden, computed=False))
    raw = scores.add_(score_bias)
    scores = raw if mask is None else mask(raw)
    sizes = offsets.diff().tolist()
    attention = torch.cat([bag.softmax(0) for bag in scores.split(sizes)])
    pooled = torch.zeros(len(sizes), scores.shape[1], len(trunk.reducer))
    l = torch.zeros(*pooled.shape[:2], 1)  # noqa: E741
    ends = offsets.tolist()
    for part in chunks(len(scores), trunk.chunk):
        weights = attention[part].to(dtype)
        hidden = trunk.hidden(part)
        for bag, rows in _bags_in(part, ends):
            l[bag, :, 0] += weights[rows].sum(0, dtype=torch.float32)
            pooled[bag] += torch.mm(weights[rows].T, hidden[rows])
    pooled /= l  # rounded weights do not sum to 1
    masked = None if mask is None else scores != raw
    return scores, CpuForward(pooled, attention, l, masked)


def gated_attn_pool_backward(
    trunk: CpuTrunk,
    offsets: Tensor,
    forward: CpuForward,
    d_pooled: Tensor,
    d_scores: Tensor,
    d_features: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Gradients of the parameters in float32, in the order of `TrunkWeights`.

    Args:
        trunk: hidden rows and gates of the forward pass.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``.
        forward: results of the forward pass.
        d_pooled: [bags, branches, hidden].
        d_scores: [tiles, branches], gradient that reaches the scores from the losses.
        d_features: memory of the shape of the features, for their gradient; None: not
            needed.
    """
    d_reducer = torch.zeros_like(trunk.reducer, dtype=torch.float32)
    sums = WeightGradients.zeros(trunk.gates.weights, trunk.gates.score)
    backward = _ChunkBackward(trunk, forward, d_pooled)
    bias = trunk.reducer_bias
    d_reducer_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
    ends = offsets.tolist()
    for part in chunks(len(d_scores), trunk.chunk):
        bags = list(_bags_in(part, ends))
        hidden = trunk.hidden(part)
        ds = backward.scores(bags, part, hidden, d_scores[part])
        backward.gates(ds, part, hidden, sums)
        d_hidden = backward.hidden(bags, part, hidden)
        add_product(d_reducer, d_hidden.T, trunk.features[part])
        if d_reducer_bias is not None:
            d_reducer_bias += d_hidden.sum(0, dtype=torch.float32)
        if d_features is not None:
            torch.mm(d_hidden, trunk.reducer, out=d_features[part])
    return d_reducer, *sums.by_parameter(), d_reducer_bias


class _ChunkBackward:
    """Gradient of a chunk, from its scores back to its hidden rows."""

    def __init__(self, trunk: CpuTrunk, forward: CpuForward, d_pooled: Tensor) -> None:
        self.trunk = trunk
        self.forward = forward
        dtype = trunk.features.dtype
        gates = trunk.gates.weights
        self.width = len(gates)
        self.do = d_pooled.to(dtype)
        self.do_over_l = (d_pooled / forward.l).to(dtype)
        self.delta = (self.do * forward.pooled).sum(-1)  # [bags, branches]
        rows = min(trunk.chunk, len(trunk.features))
        branches = forward.attention.shape[1]
        # Beside the gradient of the gates stands the attention: one product with
        # [gates' weights, gradient of the pooled rows] then gives the whole gradient of
        # the hidden rows.
        self.d_gates = trunk.features.new_empty(rows, self.width + branches)
        room = gates.new_empty(branches, gates.shape[1])
        self.weights = torch.cat([gates, room])
        self.d_hidden = trunk.features.new_empty(rows, len(trunk.reducer))

    def scores(
        self, bags: Sequence[BagRows], part: slice, hidden: Tensor, d_scores: Tensor
    ) -> Tensor:
        """``ds = p (dp - delta)`` plus the losses' own gradient; float32, [rows, branches]."""
        centred = []
        for bag, rows in bags:
            dp = torch.mm(hidden[rows], self.do[bag].T)
            centred.append(dp - self.delta[bag])
        ds = torch.addcmul(d_scores, torch.cat(centred), self.forward.attention[part])
        if self.forward.masked is None:
            return ds
        return ds.masked_fill_(self.forward.masked[part], 0.0)

    def gates(self, ds: Tensor, part: slice, hidden: Tensor, sums: WeightGradients) -> None:
        """Gradient of the gates, left for `hidden`; those of the parameters go into `sums`."""
        trunk = self.trunk
        gated = trunk.gated(part, hidden)
        out = self.d_gates[: len(gated), : self.width]
        values_keep = trunk.keep.values
        keep = None if values_keep is None else values_keep[part]
        trunk.gates.backward(ds, gated, hidden, sums, out, keep)

    def hidden(self, bags: Sequence[BagRows], part: slice, hidden: Tensor) -> Tensor:
        """Gradient of the hidden rows before the ReLU; call it after `gates`.

        A dropped number is 0, as one that the ReLU cut off is: neither has a gradient.
        """
        tiles = len(hidden)
        self.d_gates[:tiles, self.width :] = self.forward.attention[part]
        d_hidden = self.d_hidden[:tiles]
        for bag, rows in bags:
            self.weights[self.width :] = self.do_over_l[bag]
            torch.mm(self.d_gates[rows], self.weights, out=d_hidden[rows])
        aten.threshold_backward.grad_input(d_hidden, hidden, 0, grad_input=d_hidden)
        return d_hidden


def _bags_in(part: slice, ends: Sequence[int]) -> Iterator[BagRows]:
    """Bags that have rows in a chunk, and those rows."""
    first = bisect_right(ends, part.start) - 1
    for bag in range(first, len(ends) - 1):
        if ends[bag] >= part.stop:
            return
        start = max(ends[bag], part.start)
        stop = min(ends[bag + 1], part.stop)
        yield BagRows(bag, slice(start - part.start, stop - part.start))
