"""Multilabel: a slide has any number of classes, also none."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from mil.config import DatasetConfig
from mil.config.labels import classes_of
from mil.tasks._shared import OfClasses, log_sigmoid


class Multilabel(OfClasses):
    """Any number of classes; predictions are sigmoids, which do not sum to 1."""

    kind: Literal["multilabel"] = "multilabel"
    # Weights in the loss of slides without each class, and of slides with it.
    weights: list[tuple[float, float]] | None = None

    @classmethod
    def fitted(cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool) -> "Multilabel":
        """Task of a dataset; see `mil.tasks.fit_task`.

        Balanced: slides with a class and slides without it count the same.
        """
        classes_by_slide = [classes_of(label) for label in labels]
        weights = []
        for name in dataset.classes:
            positives = sum(name in classes for classes in classes_by_slide)
            weights.append(_balanced_pair(len(labels) - positives, positives))
        return cls(
            classes=dataset.classes,
            positive=dataset.positive_class,
            weights=weights if balanced else None,
        )

    def target(self, label: str) -> Float[np.ndarray, " classes"]:
        """1 for each class that the slide has, else 0."""
        present = classes_of(label)
        return np.array([float(name in present) for name in self.classes])

    def predictions(self, logits: Float[np.ndarray, "n outputs"]) -> Float[np.ndarray, "n columns"]:
        """Probability of each class."""
        return np.exp(log_sigmoid(logits))


def _balanced_pair(negatives: int, positives: int) -> tuple[float, float]:
    """Weights by which negatives and positives count the same; 1 where either is missing."""
    if not negatives or not positives:
        return 1.0, 1.0
    slides = negatives + positives
    return slides / (2 * negatives), slides / (2 * positives)
