"""One class of two or more."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mil.config import DatasetConfig
from mil.tasks.shared import OfClasses


class Classification(OfClasses):
    """One class of two or more; answers are the softmax of the logits."""

    kind: Literal["classification"] = "classification"
    weights: list[float] | None = None  # of each class in the loss; None: all the same

    @classmethod
    def fitted(
        cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool
    ) -> "Classification":
        """The task of a dataset; see `mil.tasks.fit_task`."""
        weights = balanced_weights(dataset.classes, labels) if balanced else None
        return cls(classes=dataset.classes, positive=dataset.positive_class, weights=weights)

    def target(self, label: str) -> Int[Tensor, ""]:
        """The class's number."""
        return torch.tensor(self.classes.index(label))

    def loss(
        self, logits: Float[Tensor, "n outputs"], targets: Int[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """Cross-entropy of each bag, nats, times the weight of its class.

        The weighted mean of torch divides by the weights of the batch, which undoes
        them where a step has one bag.
        """
        loss = functional.cross_entropy(logits, targets, reduction="none")
        return loss if self.weights is None else loss * loss.new_tensor(self.weights)[targets]

    def answers(self, logits: Float[Tensor, "n outputs"]) -> Float[Tensor, "n columns"]:
        """Probabilities of the classes, which sum to 1."""
        return logits.softmax(-1)


def balanced_weights(classes: Sequence[str], labels: Sequence[str]) -> list[float]:
    """Slides / (classes that occur * slides of the class), whose mean is 1 over the slides; 1 for a class without any.

    scikit-learn's `class_weight="balanced"`.
    """
    counts = Counter(labels)
    return [len(labels) / (len(counts) * counts[name]) if counts[name] else 1.0 for name in classes]
