"""ACMIL with gated attention (ACMIL-GA), Zhang et al. 2024, https://arxiv.org/abs/2311.07125.

Attention-challenging MIL: several attention branches over one reduced bag; in training
some of each branch's highest scores are masked (stochastic top-K instance masking,
STKIM, eq. 9). The losses that go with it are terms of the recipe: `cross_entropy`
(bag), `branch_cross_entropy` (eq. 4) and `branch_diversity` (eq. 5).
"""

from functools import partial

import torch
from pydantic import Field
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput
from mil.heads._ablation import Ablated, attention_of, mean_of_others
from mil.heads._dropout import Dropout
from mil.heads._gated import GatedAttention, default_hidden, reduce_and_pool, reduce_and_score
from mil.heads._pooling import Pooling
from mil.heads._precision import Classifier
from mil.heads._reducer import ReducerConfig, project
from mil.heads._stkim import StkimConfig, mask_top
from mil.heads._stream import PoolsTiles


class Config(ReducerConfig, StkimConfig):
    """Options of a recipe with `name: acmil`."""

    hidden: int | None = Field(
        None, gt=0, description="Width after the reducer; if unset, half of the feature dimension."
    )
    attention: int = Field(128, gt=0, description="Width of the attention branches.")
    branches: int = Field(5, gt=0, le=1000, description="Number of attention branches (M).")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout after the reducer, 0 to 1.")


class Head(PoolsTiles):
    """Reduce, score and pool per branch; classify each branch's row, and the mean of the rows."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        hidden = default_hidden(config.hidden, dim)
        self.config = config
        # Indices 0 to 2 are read by `reduce_and_pool`, which fuses these layers.
        self.reduce = nn.Sequential(
            project(config, dim, hidden), nn.ReLU(), Dropout(config.dropout)
        )
        self.attention = GatedAttention(hidden, config.attention, config.branches)
        self.branch_classify = nn.ModuleList(
            Classifier(hidden, classes) for _ in range(config.branches)
        )
        self.classify = Classifier(hidden, classes)

    def pool(self, bags: Bags) -> Pooling:
        """Rows [bags, branches, hidden] and scores [tiles, branches].

        The scores are those after masking, so that the losses see what was pooled.
        """
        config = self.config
        if not self.needs_whole_bags():
            return reduce_and_pool(self.reduce, self.attention, bags)
        mask = partial(
            mask_top,
            offsets=bags.offsets,
            top=config.mask_top,
            share=config.mask_share,
            max_share=config.mask_most,
        )
        return reduce_and_pool(self.reduce, self.attention, bags, mask)

    def needs_whole_bags(self) -> bool:
        """See `PoolsTiles`."""
        return self.training and self.config.mask_top > 0

    def each_tile(self, features: Tensor) -> Pooling:
        """See `PoolsTiles`."""
        return reduce_and_score(self.reduce, self.attention, features)

    def mixing(self) -> Tensor:
        """The mean of the branches' rows."""
        branches = len(self.branch_classify)
        return torch.full((1, branches), 1 / branches, dtype=torch.float64)

    def logits_of(self, rows: Tensor) -> Tensor:
        """See `PoolsTiles`."""
        return self.classify(rows[:, 0])

    def ablated(self, bags: Bags) -> Ablated | None:
        """See `mil.heads.AblatesBranches`."""
        if len(self.branch_classify) < 2:
            return None
        rows, scores, _ = self.pool(bags)
        return Ablated(
            self.classify(rows.mean(1)),
            self.classify(mean_of_others(rows)),
            attention_of(scores, bags.offsets),
        )

    def predict(self, pooled: Tensor, scores: Tensor) -> HeadOutput:
        """Classify each branch's row, and their mean."""
        # With one branch the mean is its row, and its own classifier takes no part, as
        # published.
        several = len(self.branch_classify) > 1
        branch_logits = [classify(pooled[:, i]) for i, classify in enumerate(self.branch_classify)]
        # The mean of the branches' rows is the row pooled with the mean of their
        # attention maps, since they share the tiles.
        return HeadOutput(
            self.classify(pooled.mean(1)),
            scores,
            torch.stack(branch_logits, 1) if several else None,
        )
