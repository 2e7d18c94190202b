"""Nyström attention, Xiong et al. 2021, https://arxiv.org/abs/2102.03902, eq. 15.

Linear in the number of tokens:

    softmax(Q K̃ᵀ) · softmax(Q̃ K̃ᵀ)⁺ · softmax(Q̃ Kᵀ) · V

Q̃ and K̃ are landmarks: means over segments of the sequence. The arithmetic is that of
the package that TransMIL uses, except that a sequence shorter than the landmarks has as
many landmarks as tokens, which is plain attention (the package fills it up with empty
tokens).
"""

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mil.heads._dropout import Dropout

# As in the package that TransMIL uses.
PINV_STEPS = 6  # iterations of the pseudo-inverse
VALUE_KERNEL = 33  # width of the convolution of the values, tokens


class NystromFactors(NamedTuple):
    """Factors of the attention maps [padded, padded].

    Empty tokens in front fill up the first segment.
    """

    queries: Float[Tensor, "bags heads padded width"]  # divided by sqrt(width)
    keys: Float[Tensor, "bags heads padded width"]
    query_marks: Float[Tensor, "bags heads landmarks width"]
    key_marks: Float[Tensor, "bags heads landmarks width"]
    inverse: Float[Tensor, "bags heads landmarks landmarks"]


class NystromAttention(nn.Module):
    """Self-attention of sequences of one length, plus a convolution of the values.

    The convolution runs along the sequence, one kernel per head. Neither a map of
    tokens by tokens nor one of tokens by landmarks is ever in memory.
    """

    def __init__(self, hidden: int, heads: int, landmarks: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.landmarks = landmarks
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
    ) -> tuple[Float[Tensor, "bags tokens hidden"], NystromFactors]:
        """Rows after attention, and the factors that `attention_of_first` needs."""
        length = tokens.shape[1]
        landmarks = min(self.landmarks, length)
        # Empty tokens in front make the segments of all landmarks equally long.
        padded = functional.pad(tokens, (0, 0, -length % landmarks, 0))
        # [bags, padded, 3, heads, width]
        projected = self.project(padded).unflatten(2, (3, self.heads, -1))
        # [bags, heads, padded, width] each
        queries, keys, values = projected.permute(2, 0, 3, 1, 4).unbind()
        queries = queries * queries.shape[-1] ** -0.5
        query_marks = queries.unflatten(2, (landmarks, -1)).mean(3)
        key_marks = keys.unflatten(2, (landmarks, -1)).mean(3)
        inverse = pseudo_inverse((query_marks @ key_marks.mT).softmax(-1))
        # Scale 1: the queries have been divided already.
        attend = partial(functional.scaled_dot_product_attention, scale=1.0)
        summary = inverse @ attend(query_marks, keys, values)
        mixed = attend(queries, key_marks, summary) + self.along(values)
        rows = self.out(mixed.transpose(1, 2).flatten(2)[:, -length:])
        return rows, NystromFactors(queries, keys, query_marks, key_marks, inverse)


def pseudo_inverse(
    matrices: Float[Tensor, "bags heads size size"], steps: int = PINV_STEPS
) -> Float[Tensor, "bags heads size size"]:
    """Moore-Penrose inverse by Nyströmformer's iteration.

    The initial matrix of a bag is scaled by the largest norms of its heads.
    """
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    largest_row = matrices.abs().sum(-1).amax((1, 2))[:, None, None, None]
    largest_column = matrices.abs().sum(-2).amax((1, 2))[:, None, None, None]
    inverse = matrices.mT / (largest_row * largest_column)
    for _ in range(steps):
        product = matrices @ inverse
        inner = 15 * identity - product @ (7 * identity - product)
        inverse = 0.25 * inverse @ (13 * identity - product @ inner)
    return inverse


def attention_of_first(factors: NystromFactors, length: int) -> Float[Tensor, "bags tokens"]:
    """Attention of the first of `length` tokens to each of them, mean over heads.

    It may be slightly below zero: Nyström attention is an approximation.
    """
    first = factors.queries[:, :, -length, None]  # [bags, heads, 1, width]
    # [bags, heads, 1, landmarks]
    weights = (first @ factors.key_marks.mT).softmax(-1) @ factors.inverse
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
