"""CLAM with a single attention branch, Lu et al. 2021, https://arxiv.org/abs/2004.09666.

Its instance loss is the recipe's term `instance_cross_entropy`.
"""

from torch import Tensor

from mil.bags import HeadOutput
from mil.heads._clam import ClamConfig, ClamHead, ClamScores, InstanceJudges, reducer
from mil.heads._precision import Classifier


class Config(ClamConfig):
    """Options of a recipe with `name: clam_sb`."""


class Head(ClamHead):
    """Reduce, score, pool, classify the row; judge extreme tiles, class by class."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        self.reduce, hidden = reducer(config, dim)
        self.attention = ClamScores(config, hidden, 1)
        self.classify = Classifier(hidden, classes)
        self.judge = InstanceJudges(hidden, classes, config.instances)

    def predict(self, pooled: Tensor, scores: Tensor) -> HeadOutput:
        """Classify each bag's row."""
        return HeadOutput(self.classify(pooled[:, 0]), scores)
