"""Nyström attention, Xiong et al. 2021, https://arxiv.org/abs/2102.03902, eq. 15: linear in the number of tokens.

``softmax(Q K̃ᵀ) · softmax(Q̃ K̃ᵀ)⁺ · softmax(Q̃ Kᵀ) · V``, where Q̃ and K̃ are
landmarks: means over segments of the sequence. The arithmetic is that of the package
TransMIL uses, but that a sequence shorter than the landmarks has as many landmarks as
tokens, which is plain attention (the package fills it up with empty tokens).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

PINV_STEPS = 6
VALUE_KERNEL = 33


class Parts(NamedTuple):
    """What the maps [padded, padded] are products of; empty tokens in front fill the first segment."""

    queries: Float[Tensor, "bags heads padded width"]  # divided by sqrt(width)
    keys: Float[Tensor, "bags heads padded width"]
    query_marks: Float[Tensor, "bags heads landmarks width"]
    key_marks: Float[Tensor, "bags heads landmarks width"]
    inverse: Float[Tensor, "bags heads landmarks landmarks"]


class NystromAttention(nn.Module):
    """Self-attention of sequences of one length, plus a convolution of the values along each, one kernel a head.

    Neither a map of tokens by tokens nor one of tokens by landmarks is ever in memory.
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
        self.out = nn.Sequential(nn.Linear(hidden, hidden), nn.Dropout(dropout))

    def forward(
        self, tokens: Float[Tensor, "bags tokens hidden"]
    ) -> tuple[Float[Tensor, "bags tokens hidden"], Parts]:
        """Rows after attention, and what `attention_of_first` needs."""
        length = tokens.shape[1]
        landmarks = min(self.landmarks, length)
        padded = functional.pad(tokens, (0, 0, -length % landmarks, 0))
        triple = self.project(padded).unflatten(
            2, (3, self.heads, -1)
        )  # [bags, padded, 3, heads, width]
        queries, keys, values = triple.permute(
            2, 0, 3, 1, 4
        ).unbind()  # [bags, heads, padded, width] each
        queries = queries * queries.shape[-1] ** -0.5
        query_marks, key_marks = (
            rows.unflatten(2, (landmarks, -1)).mean(3) for rows in (queries, keys)
        )
        inverse = pseudo_inverse((query_marks @ key_marks.mT).softmax(-1))
        summary = inverse @ functional.scaled_dot_product_attention(
            query_marks, keys, values, scale=1.0
        )
        mixed = functional.scaled_dot_product_attention(
            queries, key_marks, summary, scale=1.0
        ) + self.along(values)
        rows = self.out(mixed.transpose(1, 2).flatten(2)[:, -length:])
        return rows, Parts(queries, keys, query_marks, key_marks, inverse)


def pseudo_inverse(
    matrices: Float[Tensor, "bags heads size size"], steps: int = PINV_STEPS
) -> Float[Tensor, "bags heads size size"]:
    """Moore-Penrose inverse by the iteration of Nyströmformer; a bag's start is scaled by its heads' largest norms."""
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    rows, columns = (matrices.abs().sum(dim).amax((1, 2))[:, None, None, None] for dim in (-1, -2))
    found = matrices.mT / (rows * columns)
    for _ in range(steps):
        near = matrices @ found
        found = (
            0.25 * found @ (13 * identity - near @ (15 * identity - near @ (7 * identity - near)))
        )
    return found


def attention_of_first(parts: Parts, length: int) -> Float[Tensor, "bags tokens"]:
    """How much the first of `length` tokens attends to each of them, mean over heads; may be slightly below zero."""
    first = parts.queries[:, :, -length, None]  # [bags, heads, 1, width]
    weights = (first @ parts.key_marks.mT).softmax(
        -1
    ) @ parts.inverse  # [bags, heads, 1, landmarks]
    heads = zip(*(part.unbind(1) for part in (weights, parts.query_marks, parts.keys)), strict=True)
    # A head at a time, and computed again for its gradient: a map of landmarks by
    # tokens is large.
    grad = torch.is_grad_enabled()
    seen = [
        checkpoint(_weighted, *head, use_reentrant=False) if grad else _weighted(*head)
        for head in heads
    ]
    return torch.stack(seen).mean(0)[:, 0, -length:]


def _weighted(weights: Tensor, marks: Tensor, keys: Tensor) -> Tensor:
    return weights @ (marks @ keys.mT).softmax(-1)
