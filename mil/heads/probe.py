"""Efficient probing (EP), attentive pooling with few parameters, Psomas et al. 2025.

https://arxiv.org/abs/2506.10178. Learned queries score the tiles as they are, without a
key projection; each query pools the bag, and its own block of the value matrix maps the
pooled tile to its part of the row.
"""

import math

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mil.bags import Bags, HeadOutput
from mil.errors import ConfigError
from mil.heads._ablation import Ablated, attention_of
from mil.heads._pooling import Pooling, pool_by
from mil.heads._probe import ProbeConfig, RowClassifier, reducer
from mil.heads._stream import PoolsTiles
from mil.kernels.dispatch import at_least_float32

QUERIES = 32
# Standard deviation of the published initial values.
QUERY_STD = 0.02


class Config(ProbeConfig):
    """Options of a recipe with `name: probe`."""

    queries: int | None = Field(
        None,
        gt=0,
        le=1000,
        description="Number of queries; if unset, 32, or the largest divisor of 32 that divides "
        "the row.",
    )
    row: int | None = Field(
        None,
        gt=0,
        description="Width of the pooled row, a multiple of queries; if unset, that of a tile.",
    )
    train_queries: bool = Field(
        True,
        description="Learned queries; false: queries stay at their random initial values, a "
        "control that shows what attention has learned.",
    )

    query_std: float = Field(
        QUERY_STD,
        gt=0,
        allow_inf_nan=False,
        description="Standard deviation of the initial values of learned queries. At the published "
        "0.02 all tiles begin with the same attention; at 1 the scores of standardised tiles have "
        "variance 1.",
    )

    def sizes(self, width: int) -> tuple[int, int]:
        """Number of queries and width of the row, for tiles of `width` numbers.

        Raises:
            ConfigError: the row cannot be divided among the queries.
        """
        row = self.row or width
        queries = self.queries or math.gcd(QUERIES, row)
        if row % queries:
            raise ConfigError(
                f"head probe: row: must be a multiple of queries ({queries}), not {row}"
            )
        return queries, row


class Head(PoolsTiles):
    """Score each tile per query, pool, map each pooled tile, classify the joint row."""

    queries: Tensor

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        width = config.hidden or dim
        queries, row = config.sizes(width)
        self.reduce = reducer(config, config.hidden, dim)
        if config.train_queries:
            self.queries = nn.Parameter(torch.empty(queries, width).normal_(std=config.query_std))
        else:
            # Scores of unit variance for features of unit variance.
            self.register_buffer("queries", torch.randn(queries, width))
        self.values = nn.Linear(width, row, bias=False)
        self.classify = RowClassifier(row, classes, norm=config.norm)

    def pool(self, bags: Bags) -> Pooling:
        """Rows [bags, queries, width of a tile] and scores [tiles, queries]."""
        tiles = self.reduce(bags.features)
        queries = self.queries / math.sqrt(tiles.shape[1])
        scores = at_least_float32(functional.linear(tiles, queries))
        return pool_by(scores, tiles, bags.offsets)

    def predict(self, pooled: Tensor, scores: Tensor) -> HeadOutput:
        """Classify the row that the queries make together."""
        values = self.values_of(pooled)
        logits = self.classify(values.flatten(1))
        parts = None if self.training else self.classify.parts(values)
        return HeadOutput(logits, scores, branch_parts=parts)

    def ablated(self, bags: Bags) -> Ablated | None:
        """See `mil.heads.AblatesBranches`; here each query is left out."""
        rows, scores, _ = self.pool(bags)
        if rows.shape[1] < 2:
            return None
        values = self.values_of(rows)
        return Ablated(
            self.classify(values.flatten(1)),
            self.classify.without_each(values),
            attention_of(scores, bags.offsets),
        )

    def values_of(
        self, pooled: Float[Tensor, "bags queries width"]
    ) -> Float[Tensor, "bags queries part"]:
        """Part of the row by each query: its block of the value matrix times its pooled tile."""
        # Pooling first and mapping after is the same, since both are linear in a tile, and
        # spares a product for every tile.
        weight = self.values.weight.unflatten(0, (pooled.shape[1], -1))
        return torch.einsum("bmd,mwd->bmw", pooled.to(weight.dtype), weight)
