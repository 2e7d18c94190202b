"""Parts that several tasks share: those with classes, and those whose labels are numbers."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field, model_validator

from mil.config import DatasetConfig, Section
from mil.errors import ConfigError


class OfClasses(Section):
    """Base of the tasks with classes: one logit and one probability for each class."""

    kind: str
    classes: list[str] = Field(min_length=1)
    positive: str
    # Weight of each class in the loss; None: all classes weigh the same.
    weights: Sequence[Any] | None = None

    @model_validator(mode="after")
    def _classes_fit(self) -> "OfClasses":
        if self.positive not in self.classes:
            raise ValueError(f"positive is {self.positive!r}, which is none of the classes")
        if self.weights is not None and len(self.weights) != len(self.classes):
            raise ValueError(f"{len(self.weights)} weights for {len(self.classes)} classes")
        return self

    @property
    def outputs(self) -> int:
        """One logit for each class."""
        return len(self.classes)

    @property
    def columns(self) -> list[str]:
        """One probability for each class."""
        return [f"p_{name}" for name in self.classes]

    @property
    def of_interest(self) -> str:
        """Probability of the positive class."""
        return f"p_{self.positive}"

    @property
    def attended(self) -> int:
        """Logit of the positive class."""
        return self.classes.index(self.positive)

    @property
    def least_bags(self) -> int:
        """One bag: classes are not compared across bags."""
        return 1


class OfNumbers(Section):
    """Base of the tasks without classes: one logit and one prediction."""

    column: ClassVar[str]  # name of the prediction in predictions.csv
    kind: str

    @property
    def classes(self) -> list[str]:
        """No classes."""
        return []

    @property
    def positive(self) -> str:
        """No class of interest."""
        return ""

    @property
    def outputs(self) -> int:
        """One logit."""
        return 1

    @property
    def columns(self) -> list[str]:
        """The only prediction."""
        return [self.column]

    @property
    def of_interest(self) -> str:
        """The only prediction."""
        return self.column

    @property
    def attended(self) -> int | None:
        """The only logit."""
        return 0

    @property
    def least_bags(self) -> int:
        """One bag."""
        return 1


def balanced_weights(classes: Sequence[str], labels: Sequence[str]) -> list[float]:
    """Weights of classes in the loss, by which each class counts the same.

    slides / (classes that occur * slides of the class), so that the mean over slides
    is 1; 1 for a class without slides. scikit-learn's `class_weight="balanced"`.
    """
    counts = Counter(labels)
    return [len(labels) / (len(counts) * counts[name]) if counts[name] else 1.0 for name in classes]


def refuse_balance(dataset: DatasetConfig, balanced: bool) -> None:
    """Refuse to balance classes in a task without classes.

    Raises:
        ConfigError: `balanced` is true.
    """
    if balanced:
        raise ConfigError(
            f"train.class_weights: balanced needs classes, which the task {dataset.task} does "
            "not have"
        )


def log_sigmoid(logits: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Logarithm of the sigmoid; finite for logits of any size."""
    return -np.logaddexp(0, -logits)
