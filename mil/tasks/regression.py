"""A number, such as a score or a share."""

import math
import statistics
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mil.config import DatasetConfig, Section
from mil.config.labels import number_of
from mil.errors import ConfigError, DatasetError


class Regression(Section):
    """A number; the logit is in standard deviations of the training labels from their mean."""

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
            raise DatasetError(f"the labels of the {len(labels)} training slides do not differ; nothing can be learnt")
        return cls(mean=statistics.fmean(numbers), deviation=deviation)

    @property
    def classes(self) -> list[str]:
        """None."""
        return []

    @property
    def positive(self) -> str:
        """None."""
        return ""

    @property
    def outputs(self) -> int:
        """One."""
        return 1

    @property
    def columns(self) -> list[str]:
        """What the label is predicted to be."""
        return ["predicted"]

    @property
    def of_interest(self) -> str:
        """The only column."""
        return "predicted"

    @property
    def attended(self) -> int:
        """The only logit."""
        return 0

    @property
    def least_bags(self) -> int:
        """One."""
        return 1

    def target(self, label: str) -> Float[Tensor, ""]:
        """The number, in the label's units."""
        return torch.tensor(number_of(label), dtype=torch.float32)

    def loss(self, logits: Float[Tensor, "n outputs"], targets: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Squared error of each bag, in squared deviations of the training labels."""
        return (logits[:, 0] - (targets.to(logits.dtype) - self.mean) / self.deviation).square()

    def answers(self, logits: Float[Tensor, "n outputs"]) -> Float[Tensor, "n columns"]:
        """The predicted number, in the label's units."""
        return logits * self.deviation + self.mean


def refuse_balance(dataset: DatasetConfig, balanced: bool) -> None:
    """Refuse to weigh classes where there are none.

    Raises:
        ConfigError: it was asked for.
    """
    if balanced:
        raise ConfigError(f"train.class_weights: balanced needs classes, which the task {dataset.task} does not have")
