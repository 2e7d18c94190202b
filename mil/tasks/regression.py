"""Regression: the label is a number, such as a score or a percentage."""

import math
import statistics
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from mil.config import DatasetConfig
from mil.config.labels import number_of
from mil.errors import DatasetError
from mil.tasks._shared import OfNumbers, refuse_balance


class Regression(OfNumbers):
    """A number; the logit is standardised by mean and deviation of the training labels."""

    column: ClassVar[str] = "predicted"
    kind: Literal["regression"] = "regression"
    # Of the training labels, in the label's units.
    mean: float = Field(allow_inf_nan=False)
    deviation: float = Field(gt=0, allow_inf_nan=False)

    @classmethod
    def fitted(cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool) -> "Regression":
        """Task of a dataset; see `mil.tasks.fit_task`.

        Raises:
            DatasetError: the training labels are all the same.
            ConfigError: classes were to be balanced.
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

    def target(self, label: str) -> Float[np.ndarray, ""]:
        """The number, in the label's units."""
        return np.array(number_of(label))

    def predictions(self, logits: Float[np.ndarray, "n outputs"]) -> Float[np.ndarray, "n columns"]:
        """Predicted number, in the label's units."""
        return logits * self.deviation + self.mean
