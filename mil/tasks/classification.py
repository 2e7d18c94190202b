"""Classification: a slide has exactly one of two or more classes."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from mil.config import DatasetConfig
from mil.statistics.calibration import softmax
from mil.tasks._shared import OfClasses, balanced_weights


class Classification(OfClasses):
    """One class of two or more; predictions are the softmax of the logits."""

    kind: Literal["classification"] = "classification"
    weights: list[float] | None = None

    @classmethod
    def fitted(
        cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool
    ) -> "Classification":
        """Task of a dataset; see `mil.tasks.fit_task`."""
        weights = balanced_weights(dataset.classes, labels) if balanced else None
        return cls(classes=dataset.classes, positive=dataset.positive_class, weights=weights)

    def target(self, label: str) -> Int[np.ndarray, ""]:
        """Number of the class."""
        return np.array(self.classes.index(label))

    def predictions(self, logits: Float[np.ndarray, "n outputs"]) -> Float[np.ndarray, "n columns"]:
        """Probabilities of the classes, which sum to 1."""
        return softmax(logits)
