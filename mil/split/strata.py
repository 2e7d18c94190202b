"""What a division keeps in proportion: labels, or parts of the range of labels that are numbers."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mil.config import DatasetConfig
from mil.config.labels import SURVIVAL, classes_of, number_of, survival_of
from mil.io.tables import Slide

PARTS = 4  # of the range of a number: quarters, each with as many slides


def stratified(slides: Sequence[Slide], dataset: DatasetConfig) -> list[Slide]:
    """The slides with their stratum in place of their label.

    Classes stay as they are; of several classes their order does not matter; a number
    becomes its quarter among the slides; a time its half among those with the event, or
    among those without.
    """
    if dataset.task == "multilabel":
        strata = [";".join(sorted(classes_of(slide.label))) for slide in slides]
    elif dataset.task == "regression":
        strata = _ranked([number_of(slide.label) for slide in slides], PARTS)
    elif dataset.task in SURVIVAL:
        strata = _of_times(slides)
    else:
        return list(slides)
    return [replace(slide, label=stratum) for slide, stratum in zip(slides, strata, strict=True)]


def named_by(dataset: DatasetConfig) -> Callable[[str], set[str]]:
    """What a label says is there, so that a split that lacks it can be told: classes, or an event; a number nothing."""
    if dataset.task == "multilabel":
        return lambda label: set(classes_of(label))
    if dataset.task == "regression":
        return lambda label: set()
    if dataset.task in SURVIVAL:
        return lambda label: {"event"} if survival_of(label).event else set()
    return lambda label: {label}


def _of_times(slides: Sequence[Slide]) -> list[str]:
    followed = [survival_of(slide.label) for slide in slides]
    strata = [""] * len(slides)
    for event in (True, False):
        members = [i for i, one in enumerate(followed) if one.event == event]
        for i, half in zip(
            members, _ranked([followed[i].time for i in members], PARTS // 2), strict=True
        ):
            strata[i] = f"{event} {half}"
    return strata


def _ranked(values: Sequence[float], parts: int) -> list[str]:
    """The part of each value, parts of one size; equal values are in one part."""
    if not values:
        return []
    edges = np.quantile(values, np.arange(1, parts) / parts)
    return [str(part) for part in np.searchsorted(edges, values, side="left")]
