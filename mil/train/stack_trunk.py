"""Gated attention pooling of several heads at once: reduce, score, pool.

Within `torch.func.vmap` each of some forty operations is transformed by itself, which
takes longer than the products of small heads. Here they are called with the stacked
tensors; the definition is `mil.kernels.gated_attn_pool.reference`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mil.kernels.dispatch import at_least_float32
from mil.kernels.gated_attn_pool import TrunkDropout, TrunkWeights


def reduced_and_scored(
    dropout: TrunkDropout,
    features: Float[Tensor, "heads tiles dim"],
    keep_hidden: Tensor | None,
    keep_values: Tensor | None,
    *weights: Any,
) -> tuple[Float[Tensor, "heads tiles hidden"], Float[Tensor, "heads tiles branches"]]:
    """Hidden rows of each head, and scores, float32 at least.

    Args:
        dropout: dropout, of which only the scales are used: its masks are those of a
            single head.
        features: features of the tiles, which may be expanded.
        keep_hidden: what dropout keeps of hidden rows, [heads, tiles, hidden]; None: all.
        keep_values: the same of the product of the gates, [heads, tiles, attention].
        weights: fields of `TrunkWeights`, with the heads as their first dimension.
    """
    w = dropout.scaled(TrunkWeights(*weights))
    hidden = _linear(features, w.reducer, w.reducer_bias).relu()
    if keep_hidden is not None:
        hidden = hidden * keep_hidden
    if w.gate is None or w.gate_bias is None:
        values = torch.tanh(_linear(hidden, w.value, w.value_bias))
    else:
        # One product for both gates.
        gates = torch.cat([w.value, w.gate], 1)
        biases = torch.cat([w.value_bias, w.gate_bias], 1)
        value, gate = _linear(hidden, gates, biases).chunk(2, -1)
        values = torch.tanh(value) * torch.sigmoid(gate)
    if keep_values is not None:
        values = values * keep_values
    return hidden, at_least_float32(_linear(values, w.score, w.score_bias))


def stacked_pooled(
    sizes: Sequence[int],
    scores: Float[Tensor, "heads tiles branches"],
    hidden: Float[Tensor, "heads tiles hidden"],
) -> Float[Tensor, "heads bags branches hidden"]:
    """``softmax(s)ᵀ h`` over the tiles of each bag, float32 at least.

    Args:
        sizes: tiles of each bag.
        scores: scores of the tiles.
        hidden: hidden rows of the tiles.
    """
    by_bag = zip(scores.split(sizes, 1), hidden.split(sizes, 1), strict=True)
    pooled = [torch.bmm(s.softmax(1).to(h.dtype).mT, h) for s, h in by_bag]
    return at_least_float32(torch.stack(pooled, 1))


def _linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    weight = weight.to(rows.dtype)
    if bias is None:
        return torch.bmm(rows, weight.mT)
    return torch.baddbmm(bias[:, None].to(rows.dtype), rows, weight.mT)
