"""Any number of classes at once, also none: a yes or no for each."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from mil.config import DatasetConfig, Section
from mil.config.labels import classes_of


class Multilabel(Section):
    """Any number of classes at once; answers are the sigmoids of the logits and do not sum to 1."""

    kind: Literal["multilabel"] = "multilabel"
    classes: list[str] = Field(min_length=1)
    positive: str
    weights: list[tuple[float, float]] | None = None  # in the loss, of slides without each class and with it

    @model_validator(mode="after")
    def _sound(self) -> "Multilabel":
        if self.positive not in self.classes:
            raise ValueError(f"positive is {self.positive!r}, which is none of the classes")
        if self.weights is not None and len(self.weights) != len(self.classes):
            raise ValueError(f"{len(self.weights)} weights for {len(self.classes)} classes")
        return self

    @classmethod
    def fitted(cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool) -> "Multilabel":
        """The task of a dataset; see `mil.tasks.fit_task`. Balanced: with and without a class count the same."""
        found = [classes_of(label) for label in labels]
        having = [sum(name in one for one in found) for name in dataset.classes]
        weights = [_halves(len(labels) - count, count) for count in having] if balanced else None
        return cls(classes=dataset.classes, positive=dataset.positive_class, weights=weights)

    @property
    def outputs(self) -> int:
        """A logit for each class."""
        return len(self.classes)

    @property
    def columns(self) -> list[str]:
        """A probability for each class."""
        return [f"p_{name}" for name in self.classes]

    @property
    def of_interest(self) -> str:
        """The probability of the positive class."""
        return f"p_{self.positive}"

    @property
    def attended(self) -> int:
        """The positive class."""
        return self.classes.index(self.positive)

    @property
    def least_bags(self) -> int:
        """One."""
        return 1

    def target(self, label: str) -> Float[Tensor, " classes"]:
        """1 for each class that the slide has, else 0."""
        found = classes_of(label)
        return torch.tensor([float(name in found) for name in self.classes])

    def loss(self, logits: Float[Tensor, "n outputs"], targets: Float[Tensor, "n outputs"]) -> Float[Tensor, " n"]:
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
