"""Strata that a division keeps in proportion: classes, or parts of the range of a number."""

from collections.abc import Sequence
from dataclasses import replace

from mil.io.tables import Slide
from mil.tasks import Task


def stratified(slides: Sequence[Slide], task: Task) -> list[Slide]:
    """Slides with their stratum in place of their label; see `Task.strata`."""
    strata = task.strata([slide.label for slide in slides])
    return [replace(slide, label=stratum) for slide, stratum in zip(slides, strata, strict=True)]
