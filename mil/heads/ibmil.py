"""Interventional bag MIL (IBMIL), Lin et al. 2023, CVPR, https://arxiv.org/abs/2303.06873.

On gated attention, in two stages. The first is ABMIL; K-means of its rows of the
training bags gives prototypes of what bags have in common whatever their label
(confounders). The second is a newly initialised head whose row of a bag attends to the
prototypes; the classifier sees both. As in the published code the prototypes are not
trained, and neither the clusters' covariances nor the dropout that it declares take
part.
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
from mil.errors import DatasetError
from mil.heads import abmil
from mil.heads._gated import reduce_and_pool
from mil.heads._precision import Classifier
from mil.heads._reducer import ReducerConfig

KMEANS_SEED = 66  # published
JOINT_WIDTH = 128  # published: width in which rows and prototypes are compared


class Config(ReducerConfig):
    """Options of a recipe with `name: ibmil`."""

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
    """ABMIL whose classifier also sees the prototypes that the bag's row attends to."""

    confounders: Tensor  # [prototypes, hidden]
    # [prototypes], bool: false for the last ones where there were fewer clusters.
    present: Tensor

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        shared = config.model_dump(exclude={"prototypes"})
        first = abmil.Config(**shared)
        super().__init__(first, dim, classes)
        self.first_config = first
        self.dim = dim
        hidden = self.classify.in_features
        self.query = nn.Linear(hidden, JOINT_WIDTH)
        self.key = nn.Linear(hidden, JOINT_WIDTH)
        self.classify = Classifier(2 * hidden, classes)
        # Buffers: not trained, but saved with the head.
        self.register_buffer("confounders", torch.zeros(config.prototypes, hidden))
        self.register_buffer("present", torch.zeros(config.prototypes, dtype=torch.bool))

    def first_stage(self) -> nn.Module:
        """ABMIL of the same widths."""
        return abmil.Head(self.first_config, self.dim, self.classify.out_features)

    @torch.no_grad()
    def follow(self, first: nn.Module, train: Iterable[Bags]) -> None:
        """Compute the prototypes of the training bags.

        Raises:
            DatasetError: there are no training bags, or a row of the first stage is not
                finite.
        """
        assert isinstance(first, abmil.Head)
        rows = []
        for bags in train:
            pooled = reduce_and_pool(first.reduce, first.attention, bags)
            rows.append(pooled.rows[:, 0])
        if not rows:
            raise DatasetError("head ibmil: there are no training bags to make prototypes of")
        prototypes = _prototypes(torch.cat(rows), len(self.confounders))
        self.confounders.zero_()[: len(prototypes)] = prototypes
        self.present.zero_()[: len(prototypes)] = True

    def predict(self, pooled: Tensor, scores: Tensor) -> HeadOutput:
        """Classify each row [bags, 1, hidden] beside its mixture of prototypes."""
        rows = pooled[:, 0]  # [bags, hidden]
        products = self.query(rows) @ self.key(self.confounders).mT  # [bags, prototypes]
        similarity = products / math.sqrt(JOINT_WIDTH)
        # Prototypes that do not exist get no share.
        shares = similarity.masked_fill(~self.present, MASKED).softmax(-1)
        both = torch.cat([rows, shares @ self.confounders], dim=1)
        return HeadOutput(self.classify(both), scores)


def _prototypes(rows: Tensor, max_clusters: int) -> Tensor:
    """Means of clusters of rows [bags, hidden].

    Rows are clustered by direction, but averaged with their lengths.
    """
    if not torch.isfinite(rows).all():
        raise DatasetError(
            "head ibmil: the first stage gives values that are not numbers; lower train.lr in "
            "the recipe"
        )
    directions = functional.normalize(rows.double(), dim=1).cpu().numpy()
    kmeans = KMeans(min(max_clusters, len(rows)), n_init=10, random_state=KMEANS_SEED)
    with warnings.catch_warnings():
        # scikit-learn warns of fewer different rows than clusters: there are then fewer
        # prototypes.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = kmeans.fit_predict(directions)
    clusters = [torch.from_numpy(labels == label) for label in np.unique(labels)]
    return torch.stack([rows[cluster].mean(0) for cluster in clusters])
