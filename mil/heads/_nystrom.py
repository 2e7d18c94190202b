"""Nyström attention, Xiong et al. 2021, https://arxiv.org/abs/2102.03902, eq. 15.

Linear in the number of tokens:

    softmax(Q K̃ᵀ) · softmax(Q̃ K̃ᵀ)⁺ · softmax(Q̃ Kᵀ) · V

Q̃ and K̃ are landmarks: means over segments of the sequence. The arithmetic is that of
the package that TransMIL uses, except that a sequence shorter than the landmarks has as
many landmarks as tokens, which is plain attention (the package fills it up with empty
tokens).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mil.heads._dropout import Dropout
from mil.heads._pseudo_inverse import pseudo_inverse

# Nyström attention is not quite a probability: it can be 0 or negative, which has no
# logarithm.
MIN_ATTENTION = 1e-12
VALUE_KERNEL = 33  # width of the convolution of the values, tokens, as in that package


class NystromFactors(NamedTuple):
    """Factors of the first token's row of the attention maps [padded, padded].

    Empty tokens in front fill up the first segment. Queries are divided by sqrt(width).
    """

    query: Float[Tensor, "bags heads 1 width"]
    keys: Float[Tensor, "bags heads padded width"]
    query_marks: Float[Tensor, "bags heads landmarks width"]
    key_marks: Float[Tensor, "bags heads landmarks width"]
    inverse: Float[Tensor, "bags heads landmarks landmarks"]


class _Landmarks(NamedTuple):
    """Keys, values and what all queries share."""

    keys: Tensor  # [bags, heads, padded, width]
    values: Tensor
    query_marks: Tensor  # [bags, heads, landmarks, width], divided by sqrt(width)
    key_marks: Tensor
    inverse: Tensor  # [bags, heads, landmarks, landmarks]
    summary: Tensor  # [bags, heads, landmarks, width], values as the landmarks see them


class NystromAttention(nn.Module):
    """Self-attention of sequences of one length, plus a convolution of the values.

    The convolution runs along the sequence, one kernel per head. Neither a map of
    tokens by tokens nor one of tokens by landmarks is ever in memory.
    """

    def __init__(self, hidden: int, heads: int, landmarks: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.landmarks = landmarks
        self.scale = (hidden // heads) ** -0.5
        self.project = nn.Linear(hidden, 3 * hidden, bias=False)
        self.along = nn.Conv2d(
            heads,
            heads,
            (VALUE_KERNEL, 1),
            padding=(VALUE_KERNEL // 2, 0),
            groups=heads,
            bias=False,
        )
        self.out = nn.Sequential(nn.Linear(hidden, hidden), Dropout(dropout))

    def forward(
        self, tokens: Float[Tensor, "bags tokens hidden"]
    ) -> Float[Tensor, "bags tokens hidden"]:
        """Rows after attention."""
        length = tokens.shape[1]
        padded = self._padded(tokens)
        shared = self._landmarks(padded, length)
        query_weight, _, _ = self.project.weight.chunk(3)
        queries = self._by_head(functional.linear(padded, query_weight))
        attended = functional.scaled_dot_product_attention(
            queries, shared.key_marks, shared.summary
        )
        return self._output(attended + self.along(shared.values))[:, -length:]

    def first(
        self, tokens: Float[Tensor, "bags tokens hidden"]
    ) -> tuple[Float[Tensor, "bags 1 hidden"], NystromFactors]:
        """Row of the first token after attention, and its factors.

        The other tokens need no query then, and no row.
        """
        length = tokens.shape[1]
        padded = self._padded(tokens)
        shared = self._landmarks(padded, length)
        query_weight, _, value_weight = self.project.weight.chunk(3)
        first = padded.shape[1] - length
        # Tokens that the convolution sees around the first one.
        start = max(0, first - VALUE_KERNEL // 2)
        near = padded[:, start : first + VALUE_KERNEL // 2 + 1]
        place = first - start
        query = self._by_head(functional.linear(near[:, place, None], query_weight))
        attended = functional.scaled_dot_product_attention(query, shared.key_marks, shared.summary)
        values = self._by_head(functional.linear(near, value_weight))
        row = self._output(attended + self.along(values)[:, :, place, None])
        factors = NystromFactors(
            query=query * self.scale,
            keys=shared.keys,
            query_marks=shared.query_marks,
            key_marks=shared.key_marks,
            inverse=shared.inverse,
        )
        return row, factors

    def _padded(self, tokens: Tensor) -> Tensor:
        """Tokens with empty ones in front: segments of all landmarks are equally long."""
        landmarks = min(self.landmarks, tokens.shape[1])
        return functional.pad(tokens, (0, 0, -tokens.shape[1] % landmarks, 0))

    def _landmarks(self, padded: Tensor, length: int) -> _Landmarks:
        query_weight, key_weight, value_weight = self.project.weight.chunk(3)
        keys = self._by_head(functional.linear(padded, key_weight))
        values = self._by_head(functional.linear(padded, value_weight))
        # Means over segments. The layer is linear: they are taken before it.
        means = padded.unflatten(1, (min(self.landmarks, length), -1)).mean(2)
        query_marks = self._by_head(functional.linear(means, query_weight)) * self.scale
        key_marks = self._by_head(functional.linear(means, key_weight))
        inverse = pseudo_inverse((query_marks @ key_marks.mT).softmax(-1))
        # Scale 1: the queries have been divided already.
        attended = functional.scaled_dot_product_attention(query_marks, keys, values, scale=1.0)
        return _Landmarks(keys, values, query_marks, key_marks, inverse, inverse @ attended)

    def _by_head(self, rows: Tensor) -> Tensor:
        """Rows [bags, tokens, hidden] as [bags, heads, tokens, width]."""
        return rows.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _output(self, mixed: Tensor) -> Tensor:
        """Rows of all heads [bags, heads, tokens, width] to [bags, tokens, hidden]."""
        rows: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return rows


def attention_of_first(factors: NystromFactors, length: int) -> Float[Tensor, "bags tokens"]:
    """Attention of the first of `length` tokens to each of them, mean over heads.

    It may be slightly below zero: Nyström attention is an approximation.
    """
    # [bags, heads, 1, landmarks]
    weights = (factors.query @ factors.key_marks.mT).softmax(-1) @ factors.inverse
    by_head = zip(
        weights.unbind(1), factors.query_marks.unbind(1), factors.keys.unbind(1), strict=True
    )
    # A head at a time, and computed again for its gradient: a map of landmarks by
    # tokens is large.
    attention = []
    for head in by_head:
        if torch.is_grad_enabled():
            attention.append(checkpoint(_weighted, *head, use_reentrant=False))
        else:
            attention.append(_weighted(*head))
    return torch.stack(attention).mean(0)[:, 0, -length:]


def _weighted(weights: Tensor, marks: Tensor, keys: Tensor) -> Tensor:
    return weights @ (marks @ keys.mT).softmax(-1)
