"""Attention-challenging MIL with multi-head attention (ACMIL-MHA), Zhang et al. 2024, https://arxiv.org/abs/2311.07125.

As `acmil`, but the branches share nothing except the reduced tiles, each has several attention heads, and the bag is
pooled through values of its own. The losses are the same terms of the recipe.
"""

import torch
from pydantic import Field
from torch import nn

from mil.heads._mha import MhaConfig, PooledValues, QueryScores, learned_queries
from mil.heads._precision import Classifier
from mil.heads._stkim import StkimConfig, mask_top
from mil.kernels.attn_pool import attn_pool
from mil.types import Bags, HeadOutput


class Config(MhaConfig, StkimConfig):
    """What a recipe with `name: acmil_mha` may set under `options`."""

    branches: int = Field(5, gt=0, description="number of attention branches (M)")


class Head(nn.Module):
    """Reduce; score, pool and classify per branch; classify the bag, pooled by the mean of the branches' attention."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        hidden, branches = config.width(dim), range(config.branches)
        self.config = config
        self.queries = learned_queries(config.branches, hidden)
        self.reduce = nn.Sequential(nn.Linear(dim, hidden, bias=False), nn.ReLU())
        self.attention = nn.ModuleList(QueryScores(hidden, config.heads) for _ in branches)
        self.branch_values = nn.ModuleList(PooledValues(hidden, config.dropout) for _ in branches)
        self.values = PooledValues(hidden, config.dropout)
        self.branch_classify = nn.ModuleList(Classifier(hidden, classes) for _ in branches)
        self.classify = Classifier(hidden, classes)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag; scores are those after masking, so that the losses see what was pooled."""
        hidden = self.reduce(bags.features)  # [tiles, hidden]
        scores, pooled, branch_logits = [], [], []
        # Branch by branch, as published: random numbers are drawn for a branch's masking, then for its dropout.
        for query, score, values, classify in zip(
            self.queries, self.attention, self.branch_values, self.branch_classify, strict=True
        ):
            scores.append(self._masked(score(query, hidden), bags))  # [tiles, heads]
            pooled.append(attn_pool(scores[-1], hidden, bags.offsets))  # [bags, heads, hidden]
            branch_logits.append(classify(values(pooled[-1])))
        # Mean of what the branches pooled = pooling with the mean of their attention maps, since they share the tiles.
        logits = self.classify(self.values(torch.stack(pooled).mean(0)))
        several = torch.stack(branch_logits, 1) if len(pooled) > 1 else None
        return HeadOutput(logits, torch.cat(scores, 1), several, attention_heads=scores[0].shape[1])

    def _masked(self, scores: torch.Tensor, bags: Bags) -> torch.Tensor:
        how = self.config
        if not (self.training and how.mask_top):
            return scores
        return mask_top(scores, bags.offsets, how.mask_top, how.mask_share, how.mask_most)
