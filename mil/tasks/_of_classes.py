"""Defaults of the tasks with classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import Field, model_validator

from mil.statistics.divergence import kl_of_one
from mil.statistics.threshold import TINY
from mil.tasks._defaults import TaskDefaults
from mil.tasks._labels import class_named, not_among
from mil.tasks.base import (
    Predictions,
)

# Probabilities that round to 0 or 1 have no finite log-odds.
SMALLEST_PROBABILITY = 1e-12


class OfClasses(TaskDefaults):
    """Base of the tasks with classes: one logit and one probability for each class."""

    classes: list[str] = Field(min_length=1)
    positive: str
    # Weight of each class in the loss; None: all classes weigh the same.
    weights: Sequence[Any] | None = None

    @model_validator(mode="after")
    def _classes_fit(self) -> "OfClasses":
        # Checked here too, and not only in the dataset's yaml: a recipe.json may come
        # from elsewhere.
        if self.positive not in self.classes:
            raise ValueError(f"positive is {self.positive!r}, which is none of the classes")
        if self.weights is not None and len(self.weights) != len(self.classes):
            raise ValueError(f"{len(self.weights)} weights for {len(self.classes)} classes")
        return self

    @classmethod
    def check_classes(cls, classes: Sequence[str]) -> None:
        """Refuse classes that a dataset of this task cannot have.

        Raises:
            ValueError: There are none.
        """
        if not classes:
            raise ValueError("classes are needed: the labels, in the order of the head's outputs")

    @property
    def outputs(self) -> int:
        """One logit for each class."""
        return len(self.classes)

    @property
    def columns(self) -> list[str]:
        """One probability for each class."""
        return [f"p_{name}" for name in self.classes]

    @property
    def column_of_interest(self) -> str:
        """Probability of the positive class."""
        return f"p_{self.positive}"

    @property
    def attended(self) -> int | None:
        """Logit of the positive class."""
        return self.classes.index(self.positive)

    def divergence(self, before: Predictions, after: Predictions) -> Float[np.ndarray, " n"] | None:
        """Of classes that exclude one another."""
        return kl_of_one(before, after)

    @property
    def smallest_batch(self) -> int:
        """One bag: classes are not compared across bags."""
        return 1

    @property
    def evidence_unit(self) -> str:
        """Log-odds."""
        return "log-odds"

    def evidence(
        self, logits: Float[np.ndarray, "n outputs"], column: str
    ) -> Float[np.ndarray, " n"]:
        """Log-odds of a class."""
        probability = super().evidence(logits, column)
        bounded = probability.clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        return np.log(bounded) - np.log1p(-bounded)

    def checked_label(self, label: str) -> str:
        """One of the classes."""
        name = class_named(label, self.classes)
        if name is None:
            raise ValueError(not_among(self.classes, label))
        return name

    def target(self, label: str) -> np.ndarray:
        """Number of the class, from 0."""
        return np.array(self.classes.index(label))

    def is_positive(self, label: str) -> bool:
        """Whether the label is the class of interest."""
        return label == self.positive

    def attends_to_annotations(self, label: str) -> bool:
        """Annotations outline the class of interest."""
        return self.is_positive(label)

    def strata(self, labels: Sequence[str]) -> list[str]:
        """Strata are the classes."""
        return list(labels)

    def content(self, label: str) -> set[str]:
        """The class."""
        return {label}

    def predicted_class(
        self, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> str:
        """The most probable class."""
        return self.classes[int(predictions.argmax())]

    @property
    def error_meaning(self) -> str:
        """Of probabilities."""
        return "probability of the predicted class less that of the label"

    def prediction_error(
        self, label: str, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> float | None:
        """Largest probability of another class less that of the label."""
        if label not in self.classes:
            return None
        number = self.classes.index(label)
        others = np.delete(predictions, number)
        if not len(others):
            return None
        error = float(others.max() - predictions[number])
        # Of classes that tie the first is predicted, and the others are wrong.
        return error or (0.0 if predictions.argmax() == number else TINY)
