"""Evaluations as they are compared: predictions of test slides, averaged over runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mil.errors import DatasetError, some
from mil.io.results import Metrics, Prediction, read_evaluation
from mil.tasks import Task, unfitted_task

SLIDES_SHOWN = 5  # names of slides that a message prints


class EvaluatedHead(NamedTuple):
    """One recipe on one encoder, on its test slides in the order of their names."""

    folder: Path
    metrics: Metrics
    labels: dict[str, str]  # by slide
    patients: dict[str, str]  # by slide
    # Mean over the heads that did not train on the slide.
    predictions: Float[np.ndarray, "slides columns"]

    @property
    def name(self) -> str:
        """Recipe and encoder."""
        return self.metrics.name

    @property
    def task(self) -> Task:
        """Task of the head, as far as metrics need it."""
        # Class weights, ends of intervals and the like differ between folds, and no
        # metric of finished predictions depends on them.
        return unfitted_task(self.metrics.task, self.metrics.classes, self.metrics.positive)

    @property
    def same_task(self) -> tuple[str, list[str], str]:
        """Task, classes and positive class, which compared heads must share."""
        return self.metrics.task, self.metrics.classes, self.metrics.positive


def read_evaluated(folder: Path) -> EvaluatedHead:
    """Read a folder that `mil evaluate` wrote.

    Raises:
        FormatError: It lacks a file, or an earlier version wrote it.
    """
    metrics, rows = read_evaluation(folder)
    slides: dict[str, list[Prediction]] = {}
    for row in rows:
        # The file has training and validation slides too, which its heads have seen.
        if row.split == "test":
            slides.setdefault(row.slide, []).append(row)
    # One order for all heads: paired tests compare their predictions row by row.
    ordered = dict(sorted(slides.items()))
    # The columns of the file: an unfitted task does not know how many intervals of
    # survival there are.
    columns = list(rows[0].predictions) if rows else []
    predictions = np.zeros((len(ordered), len(columns)))
    for number, members in enumerate(ordered.values()):
        for place, column in enumerate(columns):
            predictions[number, place] = np.mean([row.predictions[column] for row in members])
    return EvaluatedHead(
        folder,
        metrics,
        {name: members[0].label for name, members in ordered.items()},
        {name: members[0].patient for name, members in ordered.items()},
        predictions,
    )


def check_comparable(heads: Sequence[EvaluatedHead]) -> None:
    """Refuse to compare heads of different tasks, or on different test slides.

    Raises:
        DatasetError: The message names the folders, and the slides that differ.
    """
    first = heads[0]
    for head in heads[1:]:
        if head.same_task != first.same_task:
            raise DatasetError(
                f"{head.folder} and {first.folder} are of different tasks or classes; compare "
                "heads of one"
            )
        # Paired tests compare predictions slide by slide.
        unshared = sorted(set(head.labels) ^ set(first.labels))
        if unshared:
            raise DatasetError(
                f"{head.folder} and {first.folder} were tested on different slides: "
                f"{some(unshared, SLIDES_SHOWN)}; evaluate both with the same folds"
            )
        # The slide table may have been edited between the two evaluations.
        differing = [
            slide
            for slide in first.labels
            if head.labels[slide] != first.labels[slide]
            or head.patients[slide] != first.patients[slide]
        ]
        if differing:
            raise DatasetError(
                f"{head.folder} and {first.folder} have other labels or patients for "
                f"{some(differing, SLIDES_SHOWN)}; evaluate both with the same slide table"
            )
    # Recipe and encoder are all that the tables show of a head, so two heads of one
    # name could not be told apart.
    folders: dict[str, Path] = {}
    for head in heads:
        if head.name in folders:
            raise DatasetError(
                f"{head.folder} and {folders[head.name]} are both {head.name}; give each once"
            )
        folders[head.name] = head.folder


def on_shared_slides(heads: Sequence[EvaluatedHead]) -> tuple[list[EvaluatedHead], list[str]]:
    """Heads on the slides that all were tested on, and the slides that are left out."""
    shared = set.intersection(*(set(head.labels) for head in heads))
    left_out = sorted(set().union(*(head.labels for head in heads)) - shared)
    if not left_out:
        return list(heads), []
    return [_on(head, shared) for head in heads], left_out


def _on(head: EvaluatedHead, slides: set[str]) -> EvaluatedHead:
    rows = [number for number, slide in enumerate(head.labels) if slide in slides]
    return head._replace(
        labels={slide: label for slide, label in head.labels.items() if slide in slides},
        patients={slide: patient for slide, patient in head.patients.items() if slide in slides},
        predictions=head.predictions[rows],
    )
