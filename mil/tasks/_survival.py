"""Parts that both survival tasks share: labels, strata and metrics."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float

from mil.errors import DatasetError
from mil.statistics.survival import concordance
from mil.tasks._labels import number_of, quantile_parts
from mil.tasks._of_numbers import QUARTERS, OfNumbers
from mil.tasks.base import Draws, Headline, Predictions, Targets, Weights
from mil.text import number_in

CENSORED = "+"  # after the time of a slide whose event was not observed
# Words for an event in the column `event`, as cBioPortal and spreadsheets write it.
EVENTS = {
    "true": True,
    "yes": True,
    "false": False,
    "no": False,
}
OF_NUMBER: dict[float | None, bool] = {1.0: True, 0.0: False}


class Survival(NamedTuple):
    """Follow-up time, and whether the event ended it."""

    time: float
    event: bool


class OfTimes(OfNumbers):
    """Base of the survival tasks: labels are times, some of them censored."""

    label_columns: ClassVar[tuple[str, ...]] = ("time", "event")
    main_metric: ClassVar[str] = "c_index"
    largest_difference: ClassVar[float | None] = 1.0
    headlines: ClassVar[Sequence[Headline]] = (Headline("C-index", ("c_index",)),)
    subgroup_metrics: ClassVar[Sequence[str]] = ("c_index",)

    def joined_label(self, *cells: str) -> str:
        """Label of the cells `time` and `event`; see `survival_label`."""
        time, event = cells
        return survival_label(time, event)

    def checked_label(self, label: str) -> str:
        """A time, with `+` if censored."""
        survival_of(label)
        # One spelling for each label, since `compare` compares labels as text.
        return label.replace(" ", "").replace(",", ".")

    def target(self, label: str) -> Float[np.ndarray, " 2"]:
        """Time, and 1 if the event came then, 0 if censored."""
        return np.array(survival_of(label), dtype=np.float64)

    def strata(self, labels: Sequence[str]) -> list[str]:
        """Halves by time of the slides with the event, and of those without."""
        followed = [survival_of(label) for label in labels]
        strata = [""] * len(labels)
        # Events and censored slides apart: a fold without events cannot be tested.
        for event in (True, False):
            slides = [i for i, survival in enumerate(followed) if survival.event == event]
            halves = quantile_parts([followed[i].time for i in slides], QUARTERS // 2)
            for i, half in zip(slides, halves, strict=True):
                strata[i] = f"{event} {half}"
        return strata

    def content(self, label: str) -> set[str]:
        """The event, if it was observed."""
        return {"event"} if survival_of(label).event else set()

    def weighted_metrics(
        self, targets: Targets, predictions: Predictions, weights: Weights
    ) -> Mapping[str, Draws]:
        """Concordance index of the first column, the risk; see `mil.statistics.survival`."""
        return {
            "c_index": concordance(targets[:, 0], targets[:, 1] > 0, predictions[:, 0], weights)
        }


def survival_of(label: str) -> Survival:
    """Label that is a time: `27.5`, the event came then; `27.5+`, censored.

    Raises:
        ValueError: It is neither.
    """
    try:
        time = number_of(label.removesuffix(CENSORED).rstrip())
    except ValueError:
        # Refused below, with the message about times instead of numbers.
        time = -1.0
    if time < 0:
        raise ValueError(
            "a time is needed: 27.5 (the event came then) or 27.5+ (censored: no event until then)"
        )
    return Survival(time, not label.endswith(CENSORED))


def survival_label(time: str, event: str) -> str:
    """Label made of two cells.

    Args:
        time: Follow-up time.
        event: Whether the event came then: 1, true, yes; 0, false, no; `1:DECEASED`.

    Raises:
        ValueError: `event` is neither, or `time` marks censoring too.
    """
    if time.rstrip().endswith(CENSORED):
        raise ValueError(
            f"time {time!r} marks censoring with {CENSORED}, which the column `event` does "
            f"already; remove the {CENSORED}"
        )
    # cBioPortal writes 1:DECEASED and 0:LIVING.
    word = event.partition(":")[0].strip().lower()
    happened = EVENTS.get(word, OF_NUMBER.get(number_in(word)))
    if happened is None:
        raise ValueError(f"event {event!r} is neither 1 (the event came) nor 0 (censored)")
    return time if happened else f"{time}{CENSORED}"


def observed_events(labels: Sequence[str]) -> list[Survival]:
    """Labels with an event.

    Raises:
        DatasetError: all labels are censored.
    """
    events = [survival for survival in map(survival_of, labels) if survival.event]
    if not events:
        raise DatasetError(
            f"all {len(labels)} training slides are censored; survival cannot be learnt without "
            "events"
        )
    return events
