"""CLAM with a single attention branch, Lu et al. 2021, https://arxiv.org/abs/2004.09666.

Its instance loss is the recipe's term `instance_cross_entropy`.
"""

from torch import Tensor

from mil.heads._clam import ClamConfig, ClamScores, InstanceJudges, reducer
from mil.heads._precision import Classifier
from mil.heads._stream import PoolsTiles
from mil.kernels.attn_pool import attn_pool
from mil.types import Bags, HeadOutput


class Config(ClamConfig):
    """What a recipe with `name: clam_sb` may set under `options`."""


class Head(PoolsTiles):
    """Reduce, score, pool, classify the pooled row; judge the most and least attended tiles, class by class."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        self.reduce, hidden = reducer(config, dim)
        self.attention = ClamScores(config, hidden, 1)
        self.classify = Classifier(hidden, classes)
        self.judge = InstanceJudges(hidden, classes, config.instances)

    def pool(self, bags: Bags) -> tuple[Tensor, Tensor]:
        """Rows [bags, 1, hidden] and scores [tiles, 1]."""
        return self._pool(self.reduce(bags.features), bags)

    def _pool(self, hidden: Tensor, bags: Bags) -> tuple[Tensor, Tensor]:
        scores = self.attention(hidden)
        return attn_pool(scores, hidden, bags.offsets), scores

    def answer(self, pooled: Tensor, scores: Tensor) -> HeadOutput:
        """Classify each row."""
        return HeadOutput(self.classify(pooled[:, 0]), scores)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag, and judge its tiles."""
        hidden = self.reduce(bags.features)  # [tiles, hidden]
        pooled, scores = self._pool(hidden, bags)
        return self.answer(pooled, scores)._replace(instances=self.judge(hidden, scores, bags.offsets))
