"""Attention pooling with a learned query and several attention heads.

As in the code of ACMIL and AEM. Keys and values are linear in a tile, so neither is
computed tile by tile: the query is taken back through the key layer once, and the
values are computed from the pooled rows (attention sums to 1, so the bias stays).
"""

import math

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from mil.heads._ablation import without_each
from mil.heads._reducer import ReducerConfig
from mil.kernels.dispatch import at_least_float32

# Published: at first a query scores all tiles nearly alike.
QUERY_STD = 1e-6


class MhaConfig(ReducerConfig):
    """Options of the heads with multi-head attention."""

    hidden: int | None = Field(
        None,
        gt=0,
        description="Width after the reducer; if unset, half of the feature dimension, rounded up "
        "to a multiple of heads.",
    )
    heads: int = Field(8, gt=0, description="Number of attention heads of a query.")
    dropout: float = Field(
        0.1, ge=0, lt=1, description="Dropout before the layer norm of a pooled row, 0 to 1."
    )

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "MhaConfig":
        if self.hidden and self.hidden % self.heads:
            raise ValueError(
                f"hidden must be a multiple of heads ({self.heads}), not {self.hidden}"
            )
        return self

    def width(self, dim: int) -> int:
        """Width after the reducer, for features of `dim` numbers."""
        return self.hidden or max(1, math.ceil(dim // 2 / self.heads)) * self.heads


class QueryScores(nn.Module):
    """Score each tile by a query, once per attention head: ``q · k / sqrt(width of a head)``."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)

    def forward(
        self, query: Float[Tensor, " hidden"], hidden: Float[Tensor, "tiles hidden"]
    ) -> Float[Tensor, "tiles heads"]:
        """Scores before the softmax."""
        queries = self.query(query).unflatten(0, (self.heads, -1))  # [heads, width]
        queries = queries / math.sqrt(queries.shape[1])
        key_weight = self.key.weight.unflatten(0, (self.heads, -1))
        key_bias = self.key.bias.unflatten(0, (self.heads, -1))
        # q · (K h + b) = (Kᵀ q) · h + q · b: one vector and one number for each head.
        directions = torch.einsum("hw,hwd->hd", queries, key_weight)
        shifts = (queries * key_bias).sum(1)
        return at_least_float32(functional.linear(hidden, directions, shifts))


class PooledValues(nn.Module):
    """One row from the heads' pooled rows: each head's values, output layer, dropout, norm."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.value = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(hidden, eps=1e-6)

    def forward(self, pooled: Float[Tensor, "bags heads hidden"]) -> Float[Tensor, "bags hidden"]:
        """One row for each bag."""
        return self._row_of(self._values_of(pooled))

    def without_each(
        self, pooled: Float[Tensor, "bags heads hidden"]
    ) -> Float[Tensor, "heads bags hidden"]:
        """One row for each bag without the values of one head after the other."""
        by_head = self._values_of(pooled).unflatten(1, (pooled.shape[1], -1))
        return torch.stack([self._row_of(values.flatten(1)) for values in without_each(by_head)])

    def _values_of(self, pooled: Tensor) -> Tensor:
        weight = self.value.weight.unflatten(0, (pooled.shape[1], -1))  # [heads, width, hidden]
        by_head = torch.einsum("bhd,hwd->bhw", pooled, weight)
        return by_head.flatten(1) + self.value.bias

    def _row_of(self, values: Tensor) -> Tensor:
        row: Tensor = self.norm(self.dropout(self.out(values)))
        return row


def learned_queries(count: int, hidden: int) -> nn.Parameter:
    """Queries [count, hidden] at their initial values."""
    return nn.Parameter(torch.empty(count, hidden).normal_(std=QUERY_STD))
