"""Dual-stream MIL (DSMIL), Li et al. 2021, https://arxiv.org/abs/2011.08939.

As in the code of ACMIL and AEM. Trained with `cross_entropy` (bag stream) and
`branch_cross_entropy` (stream of single tiles), half each.
"""

import math
from typing import cast

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mil.bags import Bags, HeadOutput, per_bag
from mil.config import Section
from mil.heads._dropout import Dropout
from mil.heads._gated import default_hidden
from mil.heads._pooling import pool_by
from mil.heads._precision import Classifier
from mil.kernels.dispatch import at_least_float32


class Config(Section):
    """Options of a recipe with `name: dsmil`."""

    hidden: int | None = Field(
        None, gt=0, description="Width of a query; if unset, half of the feature dimension."
    )
    two_layers: bool = Field(
        False,
        description="Query of two layers, the last with tanh, as in the published code; false: "
        "one linear layer.",
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout on the features that are pooled, 0 to 1."
    )


class Head(nn.Module):
    """Classify each tile; per class, pool the tiles by similarity to the highest one.

    In training, `logits` are the bag stream's and `branch_logits` the highest tiles'.
    Else the softmax of `logits` is the mean of both streams' softmaxes, the published
    prediction.
    """

    for_classes = True  # its prediction is a mean of softmaxes

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        hidden = default_hidden(config.hidden, dim)
        self.classify_tile = nn.Linear(dim, classes)
        self.attention = nn.Sequential(nn.Linear(dim, hidden))  # the queries
        if config.two_layers:
            self.attention.extend([nn.ReLU(), nn.Linear(hidden, hidden), nn.Tanh()])
        self.dropout = Dropout(config.dropout)
        # The published convolution, whose kernel covers all of [classes, dim].
        self.classify = Classifier(classes * dim, classes)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag."""
        tiles = self.classify_tile(bags.features)  # [tiles, classes]
        maxima = [rows.max(0) for rows in per_bag(tiles, bags.offsets)]
        highest = torch.stack([maximum.values for maximum in maxima])  # [bags, classes]
        indices = torch.stack([maximum.indices for maximum in maxima])
        critical = indices + bags.offsets[:-1, None]  # rows of `bags.features`
        scores = self._scores(bags, critical)
        # rows [bags, classes, dim]
        rows, scores, stats = pool_by(scores, self.dropout(bags.features), bags.offsets)
        logits = self.classify(rows.flatten(1))
        if not self.training:
            # Logarithm of the mean of both streams' softmaxes.
            total = torch.logaddexp(logits.log_softmax(-1), highest.log_softmax(-1))
            logits = total - math.log(2)
        return HeadOutput(logits, scores, highest[:, None], per_class=True, attention_stats=stats)

    def _scores(
        self, bags: Bags, critical: Int[Tensor, "bags classes"]
    ) -> Float[Tensor, "tiles classes"]:
        """Products of each tile's query with those of its bag's critical tiles."""
        top = self.attention(bags.features[critical])  # [bags, classes, hidden]
        if len(self.attention) == 1:
            # (W x + b) · q = x · (Wᵀ q) + b · q: a query of linear layers is taken back
            # to the features, so that no other tile needs one.
            query = cast(nn.Linear, self.attention[0])
            directions = top @ query.weight  # [bags, classes, dim]
            shifts = top @ query.bias  # [bags, classes]
            parts = zip(per_bag(bags.features, bags.offsets), directions, shifts, strict=True)
            products = [functional.linear(*part) for part in parts]
        else:
            queries = per_bag(self.attention(bags.features), bags.offsets)
            products = [bag @ rows.mT for bag, rows in zip(queries, top, strict=True)]
        return at_least_float32(torch.cat(products)) / math.sqrt(top.shape[2])
