"""Ordinal: a slide has one of several classes in an order, such as grades."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from mil.config import DatasetConfig
from mil.statistics.ordinal import ordinal, ranks_of
from mil.statistics.resampled import Scale
from mil.tasks._labels import balanced_weights, log_sigmoid
from mil.tasks._of_classes import OfClasses
from mil.tasks.base import Draws, Headline, Predictions, Targets, Weights


class Ordinal(OfClasses):
    """Ordered classes by conditional logits: CORN, Shi et al. 2021.

    https://arxiv.org/abs/2111.08851. Logit k says whether a slide that is not below
    class k is above it. So the probability of being above class k never rises with k,
    whatever the head's weights.
    """

    kind: Literal["ordinal"] = "ordinal"
    classes: list[str] = Field(min_length=2)  # from low to high
    weights: list[float] | None = None

    every_label: ClassVar[bool] = True
    main_metric: ClassVar[str] = "kappa_quadratic"
    scales: ClassVar[Mapping[str, Scale]] = {
        "kappa_quadratic": "signed",
        "mae_classes": "positive",
    }
    headlines: ClassVar[Sequence[Headline]] = (
        Headline("quadratic kappa", ("kappa_quadratic",)),
        Headline("classes off, mean", ("mae_classes",)),
        Headline("accuracy", ("accuracy",)),
    )
    subgroup_metrics: ClassVar[Sequence[str]] = (
        "kappa_quadratic",
        "mae_classes",
        "balanced_accuracy",
    )

    @classmethod
    def fitted(cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool) -> "Ordinal":
        """Task of a dataset; see `mil.tasks.fit_task`."""
        weights = balanced_weights(dataset.classes, labels) if balanced else None
        return cls(classes=dataset.classes, positive=dataset.positive_class, weights=weights)

    @classmethod
    def unfitted(cls, classes: Sequence[str], positive: str) -> "Ordinal":
        """Task without training labels; see `mil.tasks.unfitted_task`."""
        return cls(classes=list(classes), positive=positive)

    @classmethod
    def check_classes(cls, classes: Sequence[str]) -> None:
        """Refuse fewer than two classes, which have no order.

        Raises:
            ValueError: There are fewer than two.
        """
        super().check_classes(classes)
        if len(classes) < 2:
            raise ValueError("an ordinal task needs at least two classes")

    @property
    def outputs(self) -> int:
        """One logit for each class but the last, which nothing is above."""
        return len(self.classes) - 1

    @property
    def attended(self) -> int:
        """Logit for being above the positive class; of the last class, for reaching it."""
        return min(self.classes.index(self.positive), self.outputs - 1)

    def predictions(self, logits: Float[np.ndarray, "n outputs"]) -> Predictions:
        """Probabilities of the classes, which sum to 1."""
        # Log probabilities: above all classes before, and not above this one. The first
        # class has none before, and the last none after.
        certain = np.zeros_like(logits[:, :1])
        above = log_sigmoid(logits).cumsum(1)
        reached = np.concatenate([certain, above], 1)
        stopped = np.concatenate([log_sigmoid(-logits), certain], 1)
        return np.exp(reached + stopped)

    def predicted_class(
        self, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> str:
        """Median class: above as many classes as is more probable than not."""
        # CORN's own rule; elsewhere the class is the most probable one, the mode.
        return self.classes[int(ranks_of(predictions[None])[0])]

    @property
    def error_meaning(self) -> str:
        """A number of classes."""
        return "number of classes off, less the probability of the label"

    def prediction_error(
        self, label: str, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> float | None:
        """Classes between label and median class, less the probability of the label."""
        if label not in self.classes:
            return None
        number = self.classes.index(label)
        off = abs(int(ranks_of(predictions[None])[0]) - number)
        return float(off - predictions[number])

    def weighted_metrics(
        self, targets: Targets, predictions: Predictions, weights: Weights
    ) -> Mapping[str, Draws]:
        """See `mil.statistics.ordinal`."""
        return ordinal(targets, predictions, weights)


TASK = Ordinal
