"""Regression: the label is a number, such as a score or a percentage."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from mil.config import DatasetConfig
from mil.errors import DatasetError
from mil.statistics.continuous import regression
from mil.statistics.resampled import Scale
from mil.tasks._labels import number_of, quantile_parts, refuse_balance
from mil.tasks._of_numbers import QUARTERS, OfNumbers
from mil.tasks.base import Draws, Headline, Predictions, Targets, Weights


class Regression(OfNumbers):
    """A number; the logit is standardised by mean and deviation of the training labels."""

    column: ClassVar[str] = "predicted"
    kind: Literal["regression"] = "regression"
    # Of the training labels, in the label's units.
    mean: float = Field(allow_inf_nan=False)
    deviation: float = Field(gt=0, allow_inf_nan=False)

    main_metric: ClassVar[str] = "mae"
    smaller_is_better: ClassVar[bool] = True
    scales: ClassVar[Mapping[str, Scale]] = {
        "mae": "positive",
        "rmse": "positive",
        "r2": "below_one",
        "pearson": "signed",
        "spearman": "signed",
    }
    headlines: ClassVar[Sequence[Headline]] = (
        Headline("MAE", ("mae",)),
        Headline("R²", ("r2",)),
        Headline("Spearman", ("spearman",)),
    )
    subgroup_metrics: ClassVar[Sequence[str]] = ("mae", "r2", "spearman")

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
        # Infinite for labels so far apart that their squares overflow.
        if not deviation > 0 or not math.isfinite(deviation):
            raise DatasetError(
                f"the labels of the {len(labels)} training slides do not differ; nothing can be "
                "learnt"
            )
        return cls(mean=statistics.fmean(numbers), deviation=deviation)

    @classmethod
    def unfitted(cls, classes: Sequence[str], positive: str) -> "Regression":
        """Task without training labels; see `mil.tasks.unfitted_task`."""
        # Neutral values: metrics take predictions, which are in the label's units.
        return cls(mean=0.0, deviation=1.0)

    def checked_label(self, label: str) -> str:
        """A finite number."""
        number_of(label)
        # One spelling for each label, since `compare` compares labels as text.
        return label.replace(",", ".")

    def target(self, label: str) -> Float[np.ndarray, ""]:
        """The number, in the label's units."""
        return np.array(number_of(label))

    def strata(self, labels: Sequence[str]) -> list[str]:
        """Quarters of the slides by the size of their number."""
        return quantile_parts([number_of(label) for label in labels], QUARTERS)

    def content(self, label: str) -> set[str]:
        """Nothing that a part could lack."""
        return set()

    def predictions(self, logits: Float[np.ndarray, "n outputs"]) -> Predictions:
        """Predicted number, in the label's units."""
        return logits * self.deviation + self.mean

    @property
    def error_meaning(self) -> str:
        """A difference."""
        return "difference from the label, in its units"

    def prediction_error(
        self, label: str, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> float | None:
        """Absolute difference from the label."""
        return float(abs(predictions[0] - number_of(label)))

    def weighted_metrics(
        self, targets: Targets, predictions: Predictions, weights: Weights
    ) -> Mapping[str, Draws]:
        """See `mil.statistics.continuous`."""
        return regression(targets.astype(float), predictions[:, 0].astype(float), weights)


TASK = Regression
