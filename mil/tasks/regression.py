"""A number, such as a score or a share."""

import math
import statistics
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mil.config import DatasetConfig
from mil.config.labels import number_of
from mil.errors import DatasetError
from mil.tasks.shared import OfNumbers, refuse_balance


class Regression(OfNumbers):
    """A number; the logit is in standard deviations of the training labels from their mean."""

    answer: ClassVar[str] = "predicted"  # what the label is predicted to be, in its units
    kind: Literal["regression"] = "regression"
    mean: float = Field(allow_inf_nan=False)
    deviation: float = Field(gt=0, allow_inf_nan=False)

    @classmethod
    def fitted(cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool) -> "Regression":
        """The task of a dataset; see `mil.tasks.fit_task`.

        Raises:
            DatasetError: the training labels are all the same.
            ConfigError: it was to be balanced.
        """
        refuse_balance(dataset, balanced)
        numbers = [number_of(label) for label in labels]
        deviation = statistics.pstdev(numbers)
        if not deviation > 0 or not math.isfinite(deviation):
            raise DatasetError(
                f"the labels of the {len(labels)} training slides do not differ; nothing can be "
                "learnt"
            )
        return cls(mean=statistics.fmean(numbers), deviation=deviation)

    def target(self, label: str) -> Float[Tensor, ""]:
        """The number, in the label's units."""
        return torch.tensor(number_of(label), dtype=torch.float32)

    def loss(
        self, logits: Float[Tensor, "n outputs"], targets: Float[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """Squared error of each bag, in squared deviations of the training labels."""
        return (logits[:, 0] - (targets.to(logits.dtype) - self.mean) / self.deviation).square()

    def answers(self, logits: Float[Tensor, "n outputs"]) -> Float[Tensor, "n columns"]:
        """The predicted number, in the label's units."""
        return logits * self.deviation + self.mean
