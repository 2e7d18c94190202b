"""What tasks with classes have in common, and what those have whose labels are numbers."""

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field, model_validator

from mil.config import DatasetConfig, Section
from mil.errors import ConfigError


class OfClasses(Section):
    """A logit and a probability for each class."""

    kind: str
    classes: list[str] = Field(min_length=1)
    positive: str
    weights: Sequence[Any] | None = None  # of each class in the loss; None: all the same

    @model_validator(mode="after")
    def _sound(self) -> "OfClasses":
        if self.positive not in self.classes:
            raise ValueError(f"positive is {self.positive!r}, which is none of the classes")
        if self.weights is not None and len(self.weights) != len(self.classes):
            raise ValueError(f"{len(self.weights)} weights for {len(self.classes)} classes")
        return self

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


class OfNumbers(Section):
    """One logit, and an answer that is `answer`; no classes."""

    answer: ClassVar[str]
    kind: str

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
        """The only answer."""
        return [self.answer]

    @property
    def of_interest(self) -> str:
        """The answer."""
        return self.answer

    @property
    def attended(self) -> int | None:
        """The only logit."""
        return 0

    @property
    def least_bags(self) -> int:
        """One."""
        return 1


def refuse_balance(dataset: DatasetConfig, balanced: bool) -> None:
    """Refuse to weigh classes where there are none.

    Raises:
        ConfigError: it was asked for.
    """
    if balanced:
        raise ConfigError(
            f"train.class_weights: balanced needs classes, which the task {dataset.task} does "
            "not have"
        )
