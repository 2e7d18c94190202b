"""Any number of classes at once, also none: a yes or no for each."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mil.config import DatasetConfig
from mil.config.labels import classes_of
from mil.tasks.shared import OfClasses


class Multilabel(OfClasses):
    """Any number of classes at once; answers are the sigmoids of the logits and do not sum to 1."""

    kind: Literal["multilabel"] = "multilabel"
    weights: list[tuple[float, float]] | None = (
        None  # in the loss, of slides without each class and with it
    )

    @classmethod
    def fitted(cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool) -> "Multilabel":
        """The task of a dataset; see `mil.tasks.fit_task`. Balanced: with and without a class count the same."""
        found = [classes_of(label) for label in labels]
        having = [sum(name in one for one in found) for name in dataset.classes]
        weights = [_halves(len(labels) - count, count) for count in having] if balanced else None
        return cls(classes=dataset.classes, positive=dataset.positive_class, weights=weights)

    def target(self, label: str) -> Float[Tensor, " classes"]:
        """1 for each class that the slide has, else 0."""
        found = classes_of(label)
        return torch.tensor([float(name in found) for name in self.classes])

    def loss(
        self, logits: Float[Tensor, "n outputs"], targets: Float[Tensor, "n outputs"]
    ) -> Float[Tensor, " n"]:
        """Binary cross-entropy of each bag, mean over classes, nats."""
        targets = targets.to(logits.dtype)
        loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        if self.weights is not None:
            without, having = loss.new_tensor(self.weights).unbind(1)
            loss = loss * torch.where(targets > 0, having, without)
        return loss.mean(1)

    def answers(self, logits: Float[Tensor, "n outputs"]) -> Float[Tensor, "n columns"]:
        """Probability of each class."""
        return logits.sigmoid()


def _halves(without: int, having: int) -> tuple[float, float]:
    """Weights by which both kinds of slide count the same; 1 where there is one kind only."""
    if not without or not having:
        return 1.0, 1.0
    return (without + having) / (2 * without), (without + having) / (2 * having)
