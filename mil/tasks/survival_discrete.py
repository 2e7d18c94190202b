"""How long until an event, in intervals of time; some slides are censored: nothing was seen until their time."""

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from mil.config import DatasetConfig
from mil.config.labels import Survival, survival_of
from mil.errors import DatasetError
from mil.tasks.shared import OfNumbers, refuse_balance


class SurvivalDiscrete(OfNumbers):
    """Discrete-time survival: logit k is of the hazard, that the event comes in interval k if not before.

    Gensheimer and Narasimhan 2019, https://arxiv.org/abs/1805.00917; for slides, Zadeh
    and Schmid 2021, https://doi.org/10.1109/TPAMI.2020.2979450. Interval k is the time
    after `ends[k - 1]` up to `ends[k]`; what comes later has survived all of them.
    """

    answer: ClassVar[str] = "risk"
    kind: Literal["survival_discrete"] = "survival_discrete"
    ends: list[float] = Field(min_length=1)

    @model_validator(mode="after")
    def _sound(self) -> "SurvivalDiscrete":
        if not all(before < after for before, after in pairwise([0.0, *self.ends])):
            raise ValueError("the ends of the intervals must rise from above 0")
        return self

    @classmethod
    def fitted(
        cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool
    ) -> "SurvivalDiscrete":
        """The task of a dataset; see `mil.tasks.fit_task`. Intervals end at quantiles of the event times.

        Raises:
            DatasetError: no event is among the training slides.
            ConfigError: it was to be balanced.
        """
        refuse_balance(dataset, balanced)
        times = sorted(event.time for event in seen_events(labels))
        if dataset.ends:
            return cls(ends=dataset.ends)
        several = dataset.intervals > 1 and len(times) > 1
        inner = (
            statistics.quantiles(times, n=dataset.intervals, method="inclusive") if several else []
        )
        ends = sorted({time for time in [*inner, times[-1]] if time > 0})
        if not ends:
            raise DatasetError(
                "all events of the training slides come at time 0; nothing can be learnt"
            )
        return cls(ends=ends)

    @property
    def outputs(self) -> int:
        """A logit for each interval."""
        return len(self.ends)

    @property
    def columns(self) -> list[str]:
        """The risk, and the probability to survive each interval and those before."""
        return [self.answer, *(f"survival_{number}" for number in range(1, len(self.ends) + 1))]

    @property
    def attended(self) -> None:
        """All intervals."""
        return

    def target(self, label: str) -> Float[Tensor, " 2"]:
        """Time, and 1 if the event came then, 0 if censored."""
        return torch.tensor(survival_of(label), dtype=torch.float32)

    def loss(
        self, logits: Float[Tensor, "n outputs"], targets: Float[Tensor, "n 2"]
    ) -> Float[Tensor, " n"]:
        """Minus the logarithm of the likelihood of each bag, nats.

        A slide with an event survived the intervals that ended before; a censored one
        those of which it saw half.
        """
        time = targets[:, :1]
        event = targets[:, 1:] > 0
        ends = targets.new_tensor(self.ends)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        survived = torch.where(event, ends < time, (starts + ends) / 2 <= time)
        came = event & (time <= ends) & ((starts < time) | (starts == 0))
        alive = functional.logsigmoid(-logits)
        dead = functional.logsigmoid(logits)
        return -(alive * survived + dead * came).sum(1)

    def answers(self, logits: Float[Tensor, "n outputs"]) -> Float[Tensor, "n columns"]:
        """Risk, 0..1: the probability that the event has come, mean over the ends; then survival at each end."""
        survival = functional.logsigmoid(-logits).cumsum(1).exp()
        return torch.cat([1 - survival.mean(1, keepdim=True), survival], 1)


def seen_events(labels: Sequence[str]) -> list[Survival]:
    """The labels with an event.

    Raises:
        DatasetError: all are censored.
    """
    events = [found for found in map(survival_of, labels) if found.event]
    if not events:
        raise DatasetError(
            f"all {len(labels)} training slides are censored; survival cannot be learnt without "
            "events"
        )
    return events
