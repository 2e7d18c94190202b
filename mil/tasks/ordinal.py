"""Ordinal: a slide has one of several classes in an order, such as grades."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from mil.config import DatasetConfig
from mil.tasks._shared import OfClasses, balanced_weights, log_sigmoid


class Ordinal(OfClasses):
    """Ordered classes by conditional logits: CORN, Shi et al. 2021.

    https://arxiv.org/abs/2111.08851. Logit k says whether a slide that is not below
    class k is above it. So the probability of being above class k never rises with k,
    whatever the head's weights.
    """

    kind: Literal["ordinal"] = "ordinal"
    classes: list[str] = Field(min_length=2)  # from low to high
    weights: list[float] | None = None

    @classmethod
    def fitted(cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool) -> "Ordinal":
        """Task of a dataset; see `mil.tasks.fit_task`."""
        weights = balanced_weights(dataset.classes, labels) if balanced else None
        return cls(classes=dataset.classes, positive=dataset.positive_class, weights=weights)

    @property
    def outputs(self) -> int:
        """One logit for each class but the last, which nothing is above."""
        return len(self.classes) - 1

    @property
    def attended(self) -> int:
        """Logit for being above the positive class; of the last class, for reaching it."""
        return min(self.classes.index(self.positive), self.outputs - 1)

    def target(self, label: str) -> Int[np.ndarray, ""]:
        """Number of the class, from 0, the lowest."""
        return np.array(self.classes.index(label))

    def predictions(self, logits: Float[np.ndarray, "n outputs"]) -> Float[np.ndarray, "n columns"]:
        """Probabilities of the classes, which sum to 1."""
        certain = np.zeros_like(logits[:, :1])
        above = log_sigmoid(logits).cumsum(1)
        reached = np.concatenate([certain, above], 1)
        stopped = np.concatenate([log_sigmoid(-logits), certain], 1)
        return np.exp(reached + stopped)
