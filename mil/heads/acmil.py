"""Attention-challenging MIL with gated attention (ACMIL-GA), Zhang et al. 2024, https://arxiv.org/abs/2311.07125.

Several attention branches over one reduced bag; in training some of each branch's highest scores are masked
(stochastic top-K instance masking, STKIM, eq. 9). The losses that go with it are terms of the recipe:
`cross_entropy` (bag), `branch_cross_entropy` (eq. 4) and `branch_diversity` (eq. 5).
"""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from mil.bags import per_bag
from mil.config import Section
from mil.heads._gated import GatedScores, default_hidden
from mil.kernels.attn_pool import attn_pool
from mil.types import Bags, HeadOutput

MASKED = -1e9  # the published fill: the softmax makes it zero, and a bag of masked tiles stays uniform, not NaN


class Config(Section):
    """What a recipe with `name: acmil` may set under `options`."""

    hidden: int | None = Field(None, gt=0, description="width after the reducer; empty: half of the features' length")
    attention: int = Field(128, gt=0, description="width of the attention branches")
    branches: int = Field(5, gt=0, description="number of attention branches (M)")
    mask_top: int = Field(10, ge=0, description="STKIM: how many of the highest scores may be masked (K)")
    mask_share: float = Field(0.6, ge=0, le=1, description="STKIM: share of those that is masked at each step (p)")
    dropout: float = Field(0.0, ge=0, lt=1, description="after the reducer")


class Head(nn.Module):
    """Reduce, score per branch, pool per branch; classify each branch's row and, apart, the mean of the rows."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        hidden = default_hidden(config.hidden, dim)
        self.mask_top, self.mask_share = config.mask_top, config.mask_share
        self.reduce = nn.Sequential(nn.Linear(dim, hidden, bias=False), nn.ReLU(), nn.Dropout(config.dropout))
        self.attention = GatedScores(hidden, config.attention, config.branches)
        self.branch_classify = nn.ModuleList(nn.Linear(hidden, classes) for _ in range(config.branches))
        self.classify = nn.Linear(hidden, classes)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag; scores are those after masking, so that the losses see what was pooled."""
        hidden = self.reduce(bags.features)  # [tiles, hidden]
        scores = self.attention(hidden)  # [tiles, branches]
        if self.training and self.mask_top:
            scores = mask_top(scores, bags.offsets, self.mask_top, self.mask_share)
        pooled = attn_pool(scores, hidden, bags.offsets)  # [bags, branches, hidden]
        branch_logits = [classify(pooled[:, i]) for i, classify in enumerate(self.branch_classify)]
        # Mean of the branches' rows = pooling with the mean of their attention maps, since they share the tiles.
        return HeadOutput(self.classify(pooled.mean(1)), scores, torch.stack(branch_logits, 1))


def mask_top(
    scores: Float[Tensor, "tiles branches"], offsets: Int[Tensor, " bags_plus_1"], top: int, share: float
) -> Float[Tensor, "tiles branches"]:
    """Mask exactly ``floor(min(top, tiles) * share)`` of each bag's highest scores, per branch.

    Which of them is drawn without replacement: one ``torch.rand(branches, k)`` a bag, in the bags' order, whose
    ascending order names the masked ones (the published code's draw).
    """
    masked = []
    for bag in per_bag(scores, offsets):
        k = min(top, len(bag))
        highest = bag.topk(k, dim=0).indices  # [k, branches]
        draw = torch.rand(bag.shape[1], k, device=bag.device).argsort(-1)[:, : int(k * share)].T
        masked.append(bag.scatter(0, highest.gather(0, draw), MASKED))
    return torch.cat(masked)
