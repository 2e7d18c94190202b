"""Reducing, scoring and pooling on a CPU.

A chunk of rows at a time, so that what lies between the matrix products stays in the
caches; no gradient of hidden rows is ever whole, and of large bags not even the hidden
rows are. A chunk holds as many small bags as it has room for, since a product of few
rows takes longer a row.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mil.kernels.gated_attn_pool.reference import Mask, Weights
from mil.kernels.gated_scores.common import GateSums, add_product, chunks
from mil.kernels.gated_scores.cpu import Gates

CHUNK_BYTES = (
    4 << 20
)  # hidden rows of a chunk: small enough for the caches, large enough for the matrix products
KEPT_BYTES = (
    128 << 20
)  # hidden rows and gates that are kept for the gradient, whatever the bag; of larger bags
KEPT_SHARE = 0.4  # of the features' bytes. What is not kept is computed again
_Rows = tuple[int, slice]  # a bag's number, and its rows of a chunk
aten = torch.ops.aten


class _Trunk:
    """Hidden rows and gates, chunk by chunk: kept if there is room, else computed whenever they are asked for."""

    def __init__(self, features: Tensor, weights: Weights, kept: tuple[Tensor, Tensor]) -> None:
        self.features = features
        self.kept = kept
        self.chunk = max(1, CHUNK_BYTES // (features.itemsize * len(weights.reducer)))  # rows
        self.reducer = weights.reducer.to(features.dtype)
        self.gates = Gates(weights.gates, features.dtype)

    def hidden(self, part: slice, *, known: bool = True) -> Tensor:
        """Hidden rows of a chunk; `known`: they have been computed before."""
        kept = self.kept[0][part] if part.stop <= len(self.kept[0]) else None
        if known and kept is not None:
            return kept
        return torch.mm(self.features[part], self.reducer.T, out=kept).relu_()

    def gated(self, part: slice, hidden: Tensor, *, known: bool = True) -> Tensor:
        """``[tanh, sigmoid]`` of a chunk; `known`: they have been computed before."""
        kept = self.kept[1][part] if part.stop <= len(self.kept[1]) else None
        if known and kept is not None:
            return kept
        return self.gates.gated(hidden, out=kept)


class _Found(NamedTuple):
    """What the gradient needs of the way forward."""

    pooled: Tensor  # [bags, branches, hidden]
    attention: Tensor  # [tiles, branches], float32
    totals: Tensor  # [bags, branches, 1], of the attention as rounded for the products
    masked: Tensor | None  # [tiles, branches], scores that the mask has changed


def room_for(features: Tensor, weights: Weights, learning: bool) -> tuple[Tensor, Tensor]:
    """Memory for hidden rows, as many as may be kept, and for gates, if there is room for all."""
    room = max(KEPT_BYTES, int(KEPT_SHARE * features.nbytes)) // features.itemsize
    tiles = len(features)
    hidden = len(weights.reducer)
    gates = len(weights.value) * (1 if weights.gate is None else 2)
    gated = tiles if learning and tiles * (hidden + gates) <= room else 0
    return features.new_empty(min(tiles, room // hidden), hidden), features.new_empty(gated, gates)


def gated_attn_pool_forward(
    trunk: _Trunk, score_bias: Tensor, offsets: Tensor, mask: Mask | None
) -> tuple[Tensor, _Found]:
    """Scores, and what they pool."""
    dtype = trunk.features.dtype
    scores = torch.empty(len(trunk.features), len(score_bias))
    for part in chunks(len(scores), trunk.chunk):
        scores[part] = trunk.gates.scores(
            trunk.gated(part, trunk.hidden(part, known=False), known=False)
        )
    raw = scores.add_(score_bias)
    scores = raw if mask is None else mask(raw)
    attention = torch.cat([bag.softmax(0) for bag in scores.split(offsets.diff().tolist())])
    pooled = torch.zeros(len(offsets) - 1, scores.shape[1], len(trunk.reducer))
    totals = torch.zeros(*pooled.shape[:2], 1)
    ends = offsets.tolist()
    for part in chunks(len(scores), trunk.chunk):
        weights = attention[part].to(dtype)
        hidden = trunk.hidden(part)
        for bag, rows in _bags_in(part, ends):
            totals[bag, :, 0] += weights[rows].sum(0, dtype=torch.float32)
            pooled[bag] += torch.mm(weights[rows].T, hidden[rows])
    pooled /= totals  # rounded weights do not sum to 1
    return scores, _Found(pooled, attention, totals, None if mask is None else scores != raw)


def gated_attn_pool_backward(
    trunk: _Trunk,
    offsets: Tensor,
    found: _Found,
    d_pooled: Tensor,
    d_scores: Tensor,
    d_features: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Gradients of reducer and of what scores, in float32; of the features in place."""
    d_reducer = torch.zeros(trunk.reducer.shape)
    sums = GateSums.zeros(trunk.gates.weights, trunk.gates.score)
    back = _Back(trunk, found, d_pooled)
    ends = offsets.tolist()
    for part in chunks(len(d_scores), trunk.chunk):
        bags = list(_bags_in(part, ends))
        hidden = trunk.hidden(part)
        back.gates(
            back.scores(bags, part, hidden, d_scores[part]), trunk.gated(part, hidden), hidden, sums
        )
        of_hidden = back.hidden(bags, part, hidden)
        add_product(d_reducer, of_hidden.T, trunk.features[part])
        if d_features is not None:
            torch.mm(of_hidden, trunk.reducer, out=d_features[part])
    return d_reducer, *sums.named()


class _Back:
    """The gradient of a chunk, from its scores back to its hidden rows."""

    def __init__(self, trunk: _Trunk, found: _Found, d_pooled: Tensor) -> None:
        self.trunk = trunk
        self.found = found
        dtype = trunk.features.dtype
        gates = trunk.gates.weights
        self.width = len(gates)
        self.d_pooled = d_pooled.to(dtype)
        self.d_rows = (d_pooled / found.totals).to(dtype)
        self.mean = (self.d_pooled * found.pooled).sum(-1)  # [bags, branches]
        rows = min(trunk.chunk, len(trunk.features))
        branches = found.attention.shape[1]
        # Beside the gradient of the gates stands the attention: one product with
        # [gates' weights, gradient of the pooled rows] then gives that of the hidden
        # rows, whole.
        self.of_gates = trunk.features.new_empty(rows, self.width + branches)
        self.weights = torch.cat([gates, gates.new_empty(branches, gates.shape[1])])
        self.of_hidden = trunk.features.new_empty(rows, len(trunk.reducer))

    def scores(self, bags: Sequence[_Rows], part: slice, hidden: Tensor, given: Tensor) -> Tensor:
        """Gradient of the scores, in float32: that of the softmax and what comes from the losses."""
        felt = [torch.mm(hidden[rows], self.d_pooled[bag].T) - self.mean[bag] for bag, rows in bags]
        found = torch.addcmul(given, torch.cat(felt), self.found.attention[part])
        return (
            found if self.found.masked is None else found.masked_fill_(self.found.masked[part], 0.0)
        )

    def gates(self, d_scores: Tensor, gated: Tensor, hidden: Tensor, sums: GateSums) -> None:
        """Gradient of the gates before tanh and sigmoid, kept for `hidden`, and of the parameters."""
        self.trunk.gates.back(
            d_scores, gated, hidden, sums, self.of_gates[: len(gated), : self.width]
        )

    def hidden(self, bags: Sequence[_Rows], part: slice, hidden: Tensor) -> Tensor:
        """Gradient of the hidden rows before the ReLU, from gates and pooled rows; after `gates`."""
        self.of_gates[: len(hidden), self.width :] = self.found.attention[part]
        found = self.of_hidden[: len(hidden)]
        for bag, rows in bags:
            self.weights[self.width :] = self.d_rows[bag]
            torch.mm(self.of_gates[rows], self.weights, out=found[rows])
        aten.threshold_backward.grad_input(found, hidden, 0, grad_input=found)
        return found


def _bags_in(part: slice, ends: Sequence[int]) -> Iterator[_Rows]:
    """The bags that have rows in a chunk, and which rows of it they are."""
    first = bisect_right(ends, part.start) - 1
    for bag in range(first, len(ends) - 1):
        if ends[bag] >= part.stop:
            return
        yield (
            bag,
            slice(
                max(ends[bag], part.start) - part.start, min(ends[bag + 1], part.stop) - part.start
            ),
        )


class ChunkedGatedAttnPool(torch.autograd.Function):
    """Reducing, scoring and pooling with their gradient; see `mil.kernels.gated_attn_pool.gated_attn_pool`."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
        """Pool, and keep what the gradient needs."""
        weights, (offsets, mask, learning) = Weights(*given[:7]), given[7:]
        kept = room_for(features, weights, learning=learning and any(ctx.needs_input_grad))
        with torch.autocast("cpu", enabled=False):
            scores, found = gated_attn_pool_forward(
                _Trunk(features, weights, kept), weights.score_bias, offsets, mask
            )
        ctx.save_for_backward(features, *weights, offsets, *kept, *found)
        return found.pooled, scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of features and weights."""
        features, *rest = ctx.saved_tensors
        weights = Weights(*rest[:7])
        offsets = rest[7]
        kept = rest[8:10]
        found = _Found(*rest[10:])
        d_features = torch.empty_like(features) if ctx.needs_input_grad[0] else None
        with torch.autocast("cpu", enabled=False):
            trunk = _Trunk(features, weights, kept)
            of_weights = gated_attn_pool_backward(
                trunk, offsets, found, grads[0], grads[1], d_features
            )
        return d_features, *of_weights, None, None, None
