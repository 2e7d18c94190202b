"""Survival by Cox's model: slides are compared, whose event came first among those at risk."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from mil.config import DatasetConfig
from mil.tasks._labels import refuse_balance
from mil.tasks._survival import OfTimes, observed_events
from mil.tasks.base import Predictions


class SurvivalCox(OfTimes):
    """Cox's proportional hazards; the logit is the log risk, up to a constant.

    As a loss of a network: Faraggi and Simon 1995; Katzman et al. 2018,
    https://arxiv.org/abs/1606.00931. Slides are compared with those of the same
    training step, so a step needs several.
    """

    column: ClassVar[str] = "log_risk"  # larger: the event comes sooner
    kind: Literal["survival_cox"] = "survival_cox"

    @classmethod
    def fitted(cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool) -> "SurvivalCox":
        """Task of a dataset; see `mil.tasks.fit_task`.

        Raises:
            DatasetError: no training slide has an event.
            ConfigError: classes were to be balanced.
        """
        refuse_balance(dataset, balanced)
        # Only to refuse labels without events: the model has nothing to fit.
        observed_events(labels)
        return cls()

    @classmethod
    def unfitted(cls, classes: Sequence[str], positive: str) -> "SurvivalCox":
        """Task without training labels; see `mil.tasks.unfitted_task`."""
        return cls()

    @property
    def smallest_batch(self) -> int:
        """Two bags: with one there is nothing to compare."""
        return 2

    def predictions(self, logits: Float[np.ndarray, "n outputs"]) -> Predictions:
        """Logarithm of the risk."""
        return logits


TASK = SurvivalCox
