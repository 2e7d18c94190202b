"""Dual-stream MIL (DSMIL), Li et al. 2021, https://arxiv.org/abs/2011.08939, as in the code of ACMIL and AEM.

Trained with `cross_entropy` (bag stream) and `branch_cross_entropy` (stream of single
tiles), half each.
"""

import math

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput, per_bag
from mil.config import Section
from mil.heads._gated import default_hidden
from mil.heads._pooling import pool_by
from mil.heads._precision import Classifier
from mil.kernels.dispatch import at_least_float32


class Config(Section):
    """What a recipe with `name: dsmil` may set under `options`."""

    hidden: int | None = Field(
        None, gt=0, description="width of a query; empty: half of the features' length"
    )
    two_layers: bool = Field(
        False, description="the original's query: two layers, the last with tanh"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="on the features that are pooled")


class Head(nn.Module):
    """Classify each tile; per class, pool the tiles by their likeness to the one with the highest logit.

    In training, `logits` are the bag stream's and `branch_logits` the highest tiles'.
    Else the softmax of `logits` is the mean of both streams' softmaxes, the published
    prediction.
    """

    for_classes = True  # what it predicts is a mean of softmaxes

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        hidden = default_hidden(config.hidden, dim)
        self.classify_tile = nn.Linear(dim, classes)
        self.attention = nn.Sequential(nn.Linear(dim, hidden))  # the queries
        if config.two_layers:
            self.attention.extend([nn.ReLU(), nn.Linear(hidden, hidden), nn.Tanh()])
        self.dropout = nn.Dropout(config.dropout)
        self.classify = Classifier(
            classes * dim, classes
        )  # the published convolution over all of [classes, dim]

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag."""
        tiles = self.classify_tile(bags.features)  # [tiles, classes]
        top = [rows.max(0) for rows in per_bag(tiles, bags.offsets)]
        highest = torch.stack([values for values, _ in top])  # [bags, classes]
        chosen = torch.stack([indices for _, indices in top]) + bags.offsets[:-1, None]
        # rows [bags, classes, dim]
        rows, scores, stats = pool_by(
            self._scores(bags, chosen), self.dropout(bags.features), bags.offsets
        )
        logits = self.classify(rows.flatten(1))
        if not self.training:
            logits = torch.logaddexp(logits.log_softmax(-1), highest.log_softmax(-1)) - math.log(2)
        return HeadOutput(logits, scores, highest[:, None], per_class=True, attention_stats=stats)

    def _scores(
        self, bags: Bags, chosen: Int[Tensor, "bags classes"]
    ) -> Float[Tensor, "tiles classes"]:
        """Likeness of each tile's query to that of the chosen tiles of its bag."""
        queries = self.attention(bags.features)  # [tiles, hidden]
        rows = zip(per_bag(queries, bags.offsets), queries[chosen], strict=True)
        scores = torch.cat([bag @ top.mT for bag, top in rows])
        return at_least_float32(scores) / math.sqrt(queries.shape[1])
