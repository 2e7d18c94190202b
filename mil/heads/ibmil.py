"""Interventional bag MIL (IBMIL), Lin et al. 2023, CVPR, https://arxiv.org/abs/2303.06873, on gated attention.

Two stages. The first is ABMIL; K-means of its rows of the training bags gives
prototypes of what bags have in common whatever their label (confounders). The second is
a fresh head whose row of a bag attends to the prototypes; the classifier sees both. As
in the published code the prototypes stay as they are, and neither the clusters'
covariances nor the dropout that it declares take part.
"""

import math
import warnings
from collections.abc import Iterable

import numpy as np
import torch
from pydantic import Field
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.nn import functional

from mil.bags import MASKED, Bags, HeadOutput
from mil.config import Section
from mil.errors import DatasetError
from mil.heads import abmil
from mil.heads._gated import reduce_and_pool
from mil.heads._precision import Classifier

KMEANS_SEED = 66  # published
JOINT = 128  # published: where rows and prototypes are compared


class Config(Section):
    """What a recipe with `name: ibmil` may set under `options`."""

    hidden: int | None = Field(
        None, gt=0, description="Width after the reducer; if unset, half of the feature dimension."
    )
    attention: int = Field(128, gt=0, description="Width of the attention branch.")
    prototypes: int = Field(
        8,
        gt=0,
        description="Number of clusters of the training bags (k), at most the number of bags.",
    )


class Head(abmil.Head):
    """ABMIL whose classifier also sees what the bag's row finds among the prototypes."""

    confounders: Tensor  # [prototypes, hidden]
    present: Tensor  # [prototypes], bool: the last ones are not, where there were fewer clusters

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        first = abmil.Config(hidden=config.hidden, attention=config.attention)
        super().__init__(first, dim, classes)
        self.first_config = first
        self.dim = dim
        hidden = self.classify.in_features
        self.query = nn.Linear(hidden, JOINT)
        self.key = nn.Linear(hidden, JOINT)
        self.classify = Classifier(2 * hidden, classes)
        self.register_buffer("confounders", torch.zeros(config.prototypes, hidden))
        self.register_buffer("present", torch.zeros(config.prototypes, dtype=torch.bool))

    def first_stage(self) -> nn.Module:
        """ABMIL of the same widths."""
        return abmil.Head(self.first_config, self.dim, self.classify.out_features)

    @torch.no_grad()
    def follow(self, first: nn.Module, train: Iterable[Bags]) -> None:
        """Take the prototypes of the training bags.

        Raises:
            DatasetError: there are no training bags, or the first stage gave values
                that are not numbers.
        """
        assert isinstance(first, abmil.Head)
        rows = [reduce_and_pool(first.reduce, first.attention, bags).rows[:, 0] for bags in train]
        if not rows:
            raise DatasetError("head ibmil: there are no training bags to make prototypes of")
        found = _prototypes(torch.cat(rows), len(self.confounders))
        self.confounders.zero_()[: len(found)] = found
        self.present.zero_()[: len(found)] = True

    def answer(self, pooled: Tensor, scores: Tensor) -> HeadOutput:
        """Classify each row [bags, 1, hidden] beside what it finds."""
        rows = pooled[:, 0]  # [bags, hidden]
        likeness = (
            self.query(rows) @ self.key(self.confounders).mT / math.sqrt(JOINT)
        )  # [bags, prototypes]
        shares = likeness.masked_fill(~self.present, MASKED).softmax(-1)
        return HeadOutput(
            self.classify(torch.cat([rows, shares @ self.confounders], dim=1)), scores
        )


def _prototypes(rows: Tensor, most: int) -> Tensor:
    """Means of at most so many clusters of rows [bags, hidden]; clustered by direction, averaged as they are."""
    if not torch.isfinite(rows).all():
        raise DatasetError(
            "head ibmil: the first stage gives values that are not numbers; lower train.lr in "
            "the recipe"
        )
    directions = functional.normalize(rows.double(), dim=1).cpu().numpy()
    kmeans = KMeans(min(most, len(rows)), n_init=10, random_state=KMEANS_SEED)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # fewer different rows than clusters: fewer prototypes
        labels = kmeans.fit_predict(directions)
    return torch.stack(
        [rows[torch.from_numpy(labels == label)].mean(0) for label in np.unique(labels)]
    )
