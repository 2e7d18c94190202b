"""CLAM with an attention branch for each class, Lu et al. 2021, https://arxiv.org/abs/2004.09666.

Its instance loss is the recipe's term `instance_cross_entropy`.
"""

import torch
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput
from mil.heads._ablation import Ablated, attention_of, mean_of_others
from mil.heads._clam import ClamConfig, ClamHead, ClamScores, InstanceJudges, reducer
from mil.heads._precision import Classifier


class Config(ClamConfig):
    """Options of a recipe with `name: clam_mb`."""


class Head(ClamHead):
    """Reduce; per class score, pool, one logit from the row, and judge extreme tiles."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        self.reduce, hidden = reducer(config, dim)
        self.attention = ClamScores(config, hidden, classes)
        self.classify = nn.ModuleList(Classifier(hidden, 1) for _ in range(classes))
        self.judge = InstanceJudges(hidden, classes, config.instances)

    def ablated(self, bags: Bags) -> Ablated | None:
        """See `mil.heads.AblatesBranches`.

        A class without its own attention has the logit of the mean of the others' rows.
        """
        rows, scores, _ = self.pool(bags)
        whole = self.predict(rows, scores).logits
        others = self.predict(mean_of_others(rows), scores).logits
        own = torch.eye(len(self.classify), dtype=torch.bool, device=whole.device)
        without = torch.where(own, others[:, None], whole[:, None])
        return Ablated(whole, without, attention_of(scores, bags.offsets), per_class=True)

    def predict(self, pooled: Tensor, scores: Tensor) -> HeadOutput:
        """One logit from each class's row."""
        logits = [classify(pooled[:, c]) for c, classify in enumerate(self.classify)]
        return HeadOutput(torch.cat(logits, 1), scores, per_class=True)
