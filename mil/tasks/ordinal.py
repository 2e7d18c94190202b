"""Classes in an order, such as grades: is it above the first, and if so above the second, and so on."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mil.config import DatasetConfig
from mil.tasks.classification import balanced_weights
from mil.tasks.shared import OfClasses


class Ordinal(OfClasses):
    """Classes in an order, by conditional logits: CORN, Shi et al. 2021, https://arxiv.org/abs/2111.08851.

    Logit k says whether a slide that is not below class k is above it, so that being
    above class k is never less probable than being above class k + 1, whatever the
    head's weights.
    """

    kind: Literal["ordinal"] = "ordinal"
    classes: list[str] = Field(min_length=2)  # from low to high
    weights: list[float] | None = None  # of each class in the loss; None: all the same

    @classmethod
    def fitted(cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool) -> "Ordinal":
        """The task of a dataset; see `mil.tasks.fit_task`."""
        weights = balanced_weights(dataset.classes, labels) if balanced else None
        return cls(classes=dataset.classes, positive=dataset.positive_class, weights=weights)

    @property
    def outputs(self) -> int:
        """A logit for each class but the last, above which there is nothing."""
        return len(self.classes) - 1

    @property
    def attended(self) -> int:
        """The logit that says whether it is above the positive class; of the last class, whether it is that."""
        return min(self.classes.index(self.positive), self.outputs - 1)

    def target(self, label: str) -> Int[Tensor, ""]:
        """The class's number, from 0, the lowest."""
        return torch.tensor(self.classes.index(label))

    def loss(
        self, logits: Float[Tensor, "n outputs"], targets: Int[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """Sum of the binary cross-entropies of the logits that a bag's class has to do with, nats.

        Which is minus the logarithm of its class's probability. The published loss
        divides by their number instead.
        """
        loss = -_log_probabilities(logits).gather(1, targets[:, None])[:, 0]
        return loss if self.weights is None else loss * loss.new_tensor(self.weights)[targets]

    def answers(self, logits: Float[Tensor, "n outputs"]) -> Float[Tensor, "n columns"]:
        """Probabilities of the classes, which sum to 1."""
        return _log_probabilities(logits).exp()


def _log_probabilities(logits: Float[Tensor, "n outputs"]) -> Float[Tensor, "n classes"]:
    """Above all classes before, and not above this one; of the last class the former alone."""
    above = functional.logsigmoid(logits).cumsum(1)
    reached = torch.cat([torch.zeros_like(above[:, :1]), above], 1)
    stopped = torch.cat([functional.logsigmoid(-logits), torch.zeros_like(above[:, :1])], 1)
    return reached + stopped
