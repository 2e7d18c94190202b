"""Predictions and pictures of each slide, as the report shows them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mil.io.bags.status import SlideState
from mil.io.results import Prediction
from mil.io.tables import Slide
from mil.report.study_files import ReportedHead, SlideImages, StudyFiles
from mil.statistics.attention import almost_uniform
from mil.statistics.text import beside, predicted
from mil.statistics.threshold import mean_threshold
from mil.tasks import Task


class SlideCell(NamedTuple):
    """Prediction and pictures of one slide by one head.

    Attributes:
        head: Name of the head.
        prediction: Value of the column of interest; a dash where there is none.
        predicted_class: Predicted class; empty where there are no classes.
        threshold: Threshold that the class follows from, as text; empty where there is none.
        images: Pictures; None where there are none.
        caution: Sentence about the heatmap's colours; mostly empty.
        error: See `Task.prediction_error`; None without a prediction.
        predictions: Mean of each column of predictions.csv.
        split: Split of the slide for the heads of this cell.
        num_heads: Number of heads whose mean the prediction is.
    """

    head: str
    prediction: str
    predicted_class: str
    threshold: str
    images: SlideImages | None
    caution: str
    error: float | None
    predictions: dict[str, float]
    split: str
    num_heads: int

    @property
    def decision(self) -> str:
        """Predicted class, and the threshold where it follows from one."""
        return self.predicted_class + (f", threshold {self.threshold}" if self.threshold else "")

    @property
    def wrong(self) -> bool:
        """Whether the prediction is wrong."""
        return self.error is not None and self.error > 0


class SlideRow(NamedTuple):
    """A row of the report's table of slides."""

    slide: str
    patient: str
    label: str
    state: str
    split: str
    cells: list[SlideCell]


def slide_rows(study: StudyFiles) -> list[SlideRow]:
    """A row for each slide of the table, with a cell for each head."""
    return [
        _row(slide, state, study.heads, study.task)
        for slide, state in zip(study.slides, study.states, strict=True)
    ]


def _row(slide: Slide, state: SlideState, heads: Sequence[ReportedHead], task: Task) -> SlideRow:
    cells = []
    for head in heads:
        # With early fusion predictions are of patients; each slide shows its patient's.
        name = slide.patient if head.metrics.fusion == "early" else slide.slide
        caution = almost_uniform(head.metrics.attention_entropy_share.get(name))
        rows = head.unseen(name)
        images = head.images.get(slide.slide)
        cells.append(_cell(head.metrics.name, rows, images, caution, slide.label, task))
    # Splits that were drawn at random stand in the predictions; the table has official
    # ones only.
    split = next((cell.split for cell in cells if cell.split), slide.split)
    return SlideRow(slide.slide, slide.patient, slide.label, state.state, split, cells)


def _cell(
    head: str,
    rows: Sequence[Prediction],
    images: SlideImages | None,
    caution: str,
    label: str,
    task: Task,
) -> SlideCell:
    """Cell of a slide from its predictions by one or more heads."""
    if not rows:
        return SlideCell(head, "–", "", "", images, caution, None, {}, "", 0)
    means = np.array([mean_of(rows, column) for column in task.columns])
    threshold = mean_threshold([row.threshold for row in rows]) if task.has_threshold else None
    value = means[list(task.columns).index(task.column_of_interest)]
    return SlideCell(
        head=head,
        prediction=predicted(value, threshold),
        predicted_class=task.predicted_class(means, threshold),
        threshold="" if threshold is None else beside(threshold, value),
        images=images,
        caution=caution,
        error=task.prediction_error(label, means, threshold),
        predictions=dict(zip(task.columns, means.tolist(), strict=True)),
        split=rows[0].split,
        num_heads=len(rows),
    )


def mean_of(rows: Sequence[Prediction], column: str) -> float:
    """Mean of a column over predictions."""
    return sum(row.predictions[column] for row in rows) / len(rows)
