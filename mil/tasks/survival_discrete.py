"""Survival in intervals of time: the hazard of an event in each."""

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field, model_validator

from mil.config import DatasetConfig
from mil.errors import DatasetError
from mil.tasks._labels import log_sigmoid, refuse_balance
from mil.tasks._survival import OfTimes, observed_events
from mil.tasks.base import Predictions


class SurvivalDiscrete(OfTimes):
    """Discrete-time survival: logit k is of the hazard in interval k.

    That is, of the probability that the event comes in interval k if it has not come
    before. Gensheimer and Narasimhan 2019, https://arxiv.org/abs/1805.00917; for
    slides, Zadeh and Schmid 2021, https://doi.org/10.1109/TPAMI.2020.2979450. Interval
    k is the time after `ends[k - 1]` up to `ends[k]`; an event later than the last end
    has survived all intervals.
    """

    column: ClassVar[str] = "risk"
    kind: Literal["survival_discrete"] = "survival_discrete"
    ends: list[float] = Field(min_length=1)

    @model_validator(mode="after")
    def _ends_rise(self) -> "SurvivalDiscrete":
        if not all(before < after for before, after in pairwise([0.0, *self.ends])):
            raise ValueError("the ends of the intervals must rise from above 0")
        return self

    @classmethod
    def fitted(
        cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool
    ) -> "SurvivalDiscrete":
        """Task of a dataset; see `mil.tasks.fit_task`.

        Intervals end at quantiles of the training event times, unless the dataset
        names the ends.

        Raises:
            DatasetError: no training slide has an event.
            ConfigError: classes were to be balanced.
        """
        refuse_balance(dataset, balanced)
        times = sorted(event.time for event in observed_events(labels))
        if dataset.ends:
            return cls(ends=dataset.ends)
        # Quantiles, so that each interval has events to learn from.
        inner: list[float] = []
        if dataset.intervals > 1 and len(times) > 1:
            # Inclusive: exclusive quantiles of few times may lie beyond the last one.
            inner = statistics.quantiles(times, n=dataset.intervals, method="inclusive")
        # Equal quantiles are one end, and an interval that ends at 0 has no length.
        ends = sorted({time for time in [*inner, times[-1]] if time > 0})
        if not ends:
            raise DatasetError(
                "all events of the training slides come at time 0; nothing can be learnt"
            )
        return cls(ends=ends)

    @classmethod
    def unfitted(cls, classes: Sequence[str], positive: str) -> "SurvivalDiscrete":
        """Task without training labels; see `mil.tasks.unfitted_task`."""
        # One interval stands for all: labels, strata and the C-index depend on none.
        return cls(ends=[1.0])

    @property
    def outputs(self) -> int:
        """One logit for each interval."""
        return len(self.ends)

    @property
    def columns(self) -> list[str]:
        """Risk, and the probability to survive each interval and those before."""
        return [self.column, *(f"survival_{number}" for number in range(1, len(self.ends) + 1))]

    @property
    def attended(self) -> None:
        """Mean over all intervals."""
        return

    def predictions(self, logits: Float[np.ndarray, "n outputs"]) -> Predictions:
        """Risk, 0..1, then the probability to survive each interval.

        The risk is the probability that the event has come, mean over the ends.
        """
        # Survival is a product of 1 - hazard; sums of logarithms do not underflow.
        survival = np.exp(log_sigmoid(-logits).cumsum(1))
        return np.concatenate([1 - survival.mean(1, keepdims=True), survival], 1)


TASK = SurvivalDiscrete
