"""Defaults of the tasks without classes."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from mil.tasks._defaults import TaskDefaults

QUARTERS = 4  # strata of a number: quarters of the slides by its size


class OfNumbers(TaskDefaults):
    """Base of the tasks without classes: one logit and one prediction."""

    column: ClassVar[str]  # name of the prediction in predictions.csv

    @classmethod
    def check_classes(cls, classes: Sequence[str]) -> None:
        """Refuse classes.

        Raises:
            ValueError: There are some.
        """
        if classes:
            raise ValueError("classes must be empty")

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
    def column_of_interest(self) -> str:
        """The only prediction."""
        return self.column

    @property
    def attended(self) -> int | None:
        """The only logit."""
        return 0

    @property
    def smallest_batch(self) -> int:
        """One bag."""
        return 1

    def is_positive(self, label: str) -> bool:
        """Numbers have no class of interest."""
        return False

    def attends_to_annotations(self, label: str) -> bool:
        """Annotations outline what the number is about, whatever its size."""
        return True

    def predicted_class(
        self, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> str:
        """Numbers have no classes."""
        return ""
