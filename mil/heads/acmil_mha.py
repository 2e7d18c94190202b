"""ACMIL with multi-head attention, Zhang et al. 2024, https://arxiv.org/abs/2311.07125.

ACMIL-MHA: as `acmil`, but the branches share nothing except the reduced tiles, each has
several attention heads, and the bag is pooled through values of its own. The losses are
the same terms of the recipe.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput
from mil.heads._ablation import Ablated, attention_of, mean_of_others
from mil.heads._mha import MhaConfig, PooledValues, QueryScores, learned_queries
from mil.heads._pooling import Pooling
from mil.heads._precision import Classifier
from mil.heads._reducer import project
from mil.heads._stkim import StkimConfig, mask_top
from mil.heads._stream import PoolsTiles
from mil.kernels.attn_pool import attn_pool


class Config(MhaConfig, StkimConfig):
    """Options of a recipe with `name: acmil_mha`."""

    branches: int = Field(5, gt=0, le=1000, description="Number of attention branches (M).")


class Head(PoolsTiles):
    """Reduce; score, pool and classify per branch; classify the bag.

    The bag is pooled by the mean of the branches' attention.
    """

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        hidden = config.width(dim)
        branches = range(config.branches)
        self.config = config
        self.queries = learned_queries(config.branches, hidden)
        self.reduce = nn.Sequential(project(config, dim, hidden), nn.ReLU())
        self.attention = nn.ModuleList(QueryScores(hidden, config.heads) for _ in branches)
        self.branch_values = nn.ModuleList(PooledValues(hidden, config.dropout) for _ in branches)
        self.values = PooledValues(hidden, config.dropout)
        self.branch_classify = nn.ModuleList(Classifier(hidden, classes) for _ in branches)
        self.classify = Classifier(hidden, classes)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag.

        The scores are those after masking, so that the losses see what was pooled.
        """
        hidden = self.reduce(bags.features)  # [tiles, hidden]
        rows = []
        scores = []
        branch_logits = []
        # Branch by branch, as published: random numbers are drawn for a branch's
        # masking, then for its dropout.
        for branch in range(len(self.attention)):
            branch_rows, branch_scores = self._pool(branch, hidden, bags)
            rows.append(branch_rows)
            scores.append(branch_scores)
            branch_logits.append(self._classify(branch, branch_rows))
        return self._output(torch.stack(rows, 1), torch.cat(scores, 1), branch_logits)

    def pool(self, bags: Bags) -> Pooling:
        """Rows [bags, branches * heads, hidden] and scores [tiles, branches * heads]."""
        hidden = self.reduce(bags.features)
        rows = []
        scores = []
        for branch in range(len(self.attention)):
            branch_rows, branch_scores = self._pool(branch, hidden, bags)
            rows.append(branch_rows)
            scores.append(branch_scores)
        return Pooling(torch.cat(rows, 1), torch.cat(scores, 1))

    def needs_whole_bags(self) -> bool:
        """See `PoolsTiles`."""
        return self.training and self.config.mask_top > 0

    def each_tile(self, features: Tensor) -> Pooling:
        """See `PoolsTiles`."""
        hidden = self.reduce(features)
        pairs = zip(self.attention, self.queries, strict=True)
        scores = [attention(query, hidden) for attention, query in pairs]
        return Pooling(hidden[:, None], torch.cat(scores, 1))

    def mixing(self) -> Tensor:
        """The mean of the branches' rows, for each attention head."""
        heads = torch.eye(self.config.heads, dtype=torch.float64)
        branches = len(self.attention)
        return heads.repeat(1, branches) / branches

    def logits_of(self, rows: Tensor) -> Tensor:
        """See `PoolsTiles`."""
        logits: Tensor = self.classify(self.values(rows))
        return logits

    def predict(self, pooled: Tensor, scores: Tensor) -> HeadOutput:
        """Classify each branch's row, and the bag."""
        rows = pooled.unflatten(1, (len(self.attention), -1))
        branch_logits = [self._classify(i, rows[:, i]) for i in range(rows.shape[1])]
        return self._output(rows, scores, branch_logits)

    def ablated(self, bags: Bags) -> Ablated | None:
        """See `mil.heads.AblatesBranches`; the attention of a branch is the mean of its heads."""
        branches = len(self.attention)
        if branches < 2:
            return None
        joined, scores, _ = self.pool(bags)
        rows = joined.unflatten(1, (branches, -1))
        without = [self.classify(self.values(others)) for others in mean_of_others(rows).unbind(1)]
        by_head = attention_of(scores, bags.offsets).unflatten(1, (branches, -1))
        return Ablated(
            self.classify(self.values(rows.mean(1))), torch.stack(without, 1), by_head.mean(2)
        )

    def _pool(self, branch: int, hidden: Tensor, bags: Bags) -> tuple[Tensor, Tensor]:
        """Rows [bags, heads, hidden] and scores [tiles, heads] of a branch."""
        scores = self.attention[branch](self.queries[branch], hidden)
        scores = self._masked(scores, bags)
        return attn_pool(scores, hidden, bags.offsets), scores

    def _classify(self, branch: int, pooled: Tensor) -> Tensor:
        values = self.branch_values[branch](pooled)
        logits: Tensor = self.branch_classify[branch](values)
        return logits

    def _output(self, pooled: Tensor, scores: Tensor, branch_logits: list[Tensor]) -> HeadOutput:
        """Output that belongs to rows [bags, branches, heads, hidden]."""
        # The mean of the branches' rows is the row pooled with the mean of their
        # attention maps, since they share the tiles.
        logits = self.classify(self.values(pooled.mean(1)))
        several = torch.stack(branch_logits, 1) if len(branch_logits) > 1 else None
        return HeadOutput(logits, scores, several, attention_heads=pooled.shape[2])

    def _masked(self, scores: Tensor, bags: Bags) -> Tensor:
        config = self.config
        if not self.needs_whole_bags():
            return scores
        return mask_top(scores, bags.offsets, config.mask_top, config.mask_share, config.mask_most)
