"""Low-rank bilinear attention pooling (LAMA), Mehta et al. 2019, https://arxiv.org/abs/1912.00835.

A tile's score for branch m is ``tanh(p_m · c * q_m · h)``, divided by the norm of the
tile's scores over the branches; c is a context, learned or the mean of the bag.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput, per_bag
from mil.errors import ConfigError
from mil.heads._ablation import Ablated, attention_of
from mil.heads._gated import default_hidden
from mil.heads._pooling import pool_by
from mil.heads._probe import ProbeConfig, RowClassifier, reducer
from mil.heads._shards import Shards
from mil.kernels.dispatch import at_least_float32

# A tile whose scores are all 0 would have none after the division.
SMALLEST_NORM = 1e-6


class Config(ProbeConfig):
    """Options of a recipe with `name: lama`."""

    hidden: int | None = Field(
        None,
        gt=0,
        description="Width after the reducer; if unset, half of the feature dimension.",
    )
    branches: int = Field(8, gt=0, le=1000, description="Number of attention branches.")
    context: Literal["learned", "mean"] = Field(
        "learned",
        description="Vector that tiles are compared with: learned, or the mean of the bag.",
    )
    temperature: Literal["fixed", "learned"] = Field(
        "fixed",
        description="Factor of the scores: fixed at 1, as published, by which no tile has more "
        "than 7.4 times the attention of another, or learned for each branch.",
    )


class Head(nn.Module):
    """Reduce each tile, score it per branch against the context, pool, classify the rows."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        width = default_hidden(config.hidden, dim)
        self.reduce = reducer(config, width, dim)
        self.of_context = nn.Linear(width, config.branches, bias=False)
        self.of_tile = nn.Linear(width, config.branches, bias=False)
        is_learned = config.context == "learned"
        self.context = nn.Parameter(torch.randn(width)) if is_learned else None
        has_temperature = config.temperature == "learned"
        self.log_temperature = (
            nn.Parameter(torch.zeros(config.branches)) if has_temperature else None
        )
        self.classify = RowClassifier(config.branches * width, classes, norm=config.norm)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag."""
        return self._output(bags, None)

    def forward_shard(self, bags: Bags, shards: Shards) -> HeadOutput:
        """See `mil.heads.InShards`."""
        if self.context is None:
            raise ConfigError(
                "head lama: context: the mean of a bag needs all its tiles in one process; set "
                "context: learned"
            )
        return self._output(bags, shards)

    def _output(self, bags: Bags, shards: Shards | None) -> HeadOutput:
        tiles = self.reduce(bags.features)
        scores = self.scores(tiles, bags)
        pooled = pool_by(scores, tiles, bags.offsets)
        if shards is not None:
            pooled = shards.pooled(pooled, bags.offsets)
        return HeadOutput(
            self.classify(pooled.rows.flatten(1)),
            scores,
            branch_parts=None if self.training else self.classify.parts(pooled.rows),
            attention_stats=pooled.stats,
        )

    def ablated(self, bags: Bags) -> Ablated | None:
        """See `mil.heads.AblatesBranches`."""
        tiles = self.reduce(bags.features)
        scores = self.scores(tiles, bags)
        if scores.shape[1] < 2:
            return None
        rows = pool_by(scores, tiles, bags.offsets).rows
        return Ablated(
            self.classify(rows.flatten(1)),
            self.classify.without_each(rows),
            attention_of(scores, bags.offsets),
        )

    def scores(
        self, tiles: Float[Tensor, "tiles width"], bags: Bags
    ) -> Float[Tensor, "tiles branches"]:
        """Scores before the softmax."""
        products = torch.cat(
            [
                self.of_context(self._context_of(rows)) * self.of_tile(rows)
                for rows in per_bag(tiles, bags.offsets)
            ]
        )
        bounded = torch.tanh(at_least_float32(products))
        # Of a single branch the division would leave the sign alone.
        if bounded.shape[1] > 1:
            norms = torch.linalg.vector_norm(bounded, dim=1, keepdim=True)
            bounded = bounded / norms.clamp_min(SMALLEST_NORM)
        return bounded if self.log_temperature is None else bounded * self.log_temperature.exp()

    def _context_of(self, rows: Float[Tensor, "tiles width"]) -> Float[Tensor, " width"]:
        return rows.mean(0) if self.context is None else self.context
