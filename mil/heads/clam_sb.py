"""CLAM with a single attention branch, Lu et al. 2021, https://arxiv.org/abs/2004.09666.

Its instance loss is the recipe's term `instance_cross_entropy`.
"""

from torch import nn

from mil.heads._clam import ClamConfig, ClamScores, InstanceJudges, reducer
from mil.heads._precision import Classifier
from mil.kernels.attn_pool import attn_pool
from mil.types import Bags, HeadOutput


class Config(ClamConfig):
    """What a recipe with `name: clam_sb` may set under `options`."""


class Head(nn.Module):
    """Reduce, score, pool, classify the pooled row; judge the most and least attended tiles, class by class."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        self.reduce, hidden = reducer(config, dim)
        self.attention = ClamScores(config, hidden, 1)
        self.classify = Classifier(hidden, classes)
        self.judge = InstanceJudges(hidden, classes, config.instances)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag."""
        hidden = self.reduce(bags.features)  # [tiles, hidden]
        scores = self.attention(hidden)  # [tiles, 1]
        pooled = attn_pool(scores, hidden, bags.offsets)  # [bags, 1, hidden]
        return HeadOutput(self.classify(pooled[:, 0]), scores, instances=self.judge(hidden, scores, bags.offsets))
