"""Metrics of one recipe on one encoder, from the predictions of all its heads."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mil.evaluate.rows import EvaluatedSlide, averaged, by_run, evaluation_set, mean, mean_sd
from mil.evaluate.selection import of_selection
from mil.evaluate.subgroups import metrics_of_patients, set_metrics, subgroups
from mil.io.results import CalibrationMetrics, Localisation, Metrics, Prediction, RunMetrics
from mil.statistics.scaling import Calibration
from mil.statistics.text import calibration_note
from mil.tasks import Task
from mil.trained.record import Trained


def metrics_of(
    rows: Sequence[EvaluatedSlide],
    trained: Trained,
    columns: Mapping[str, Mapping[str, str]],
    last: Sequence[Prediction] = (),
    calibrations: Sequence[Calibration | None] = (),
) -> Metrics:
    """Content of metrics.json.

    Args:
        rows: Prediction of each slide by each head.
        trained: One of the heads.
        columns: Value of each slide, by further column of the slide table.
        last: Predictions of test slides by the last epochs' weights; empty where those
            were not kept.
        calibrations: Calibration of each head.
    """
    task = trained.task
    test = [row for row in rows if row.split == "test"]
    slides = averaged(test, "slide")
    runs = [_run(members, task, *run) for run, members in by_run(rows).items()]
    # In the order of the runs; a run without test slides has no metrics.
    names = dict.fromkeys(name for run in runs for name in run.numbers)
    selection = None
    if task.one_of_classes:
        selection = of_selection(test, trained.classes, trained.positive)
    return Metrics(
        recipe=trained.recipe_name,
        encoder=trained.encoder,
        dataset=trained.dataset,
        task=task.kind,
        classes=trained.classes,
        positive=trained.positive,
        test=set_metrics(slides, task),
        fusion=trained.fusion,
        test_patients=metrics_of_patients(slides, task, trained.fusion),
        last=set_metrics(averaged(last, "slide"), task) if last else None,
        runs=runs,
        over_runs={name: mean_sd(run.numbers.get(name) for run in runs) for name in names},
        calibration=_calibration(test, task, calibrations) if test else None,
        subgroups=subgroups(slides, task, columns),
        power=task.power(evaluation_set(slides, task)) if slides else None,
        localisation=_localisation(test, task),
        selection=selection,
        slides_used=sorted({row.slide for row in test}),
    )


def _run(rows: Sequence[EvaluatedSlide], task: Task, seed: int, fold: int) -> RunMetrics:
    """Metrics of one seed and fold.

    The tile AUROC is of the annotated slides that a head should attend to.
    """
    test = [row for row in rows if row.split == "test"]
    return RunMetrics(
        seed=seed,
        fold=fold,
        held_out=test[0].held_out if test else "",
        metrics=task.metrics(evaluation_set(test, task)) if test else {},
        n_slides=len(test),
        tile_auroc=mean(row.tile_auroc for row in test if task.attends_to_annotations(row.label)),
        attention_entropy_share=mean(row.attention_entropy_share for row in test),
    )


def _calibration(
    test: Sequence[EvaluatedSlide], task: Task, calibrations: Sequence[Calibration | None]
) -> CalibrationMetrics | None:
    """Temperature and threshold over the heads, and the effect of calibration.

    None where the task has no calibration.
    """
    # Each head has a calibration of its own, which cannot be undone once heads are
    # averaged.
    before = averaged([_uncalibrated(row) for row in test], "slide")
    after = averaged(test, "slide")
    note = task.calibration(evaluation_set(before, task), evaluation_set(after, task))
    if note is None:
        return None
    # Temperature and threshold belong to a head and stand in each of its rows.
    heads = {(row.seed, row.fold): row for row in test}.values()
    return CalibrationMetrics(
        note=calibration_note(calibrations),
        temperature=mean_sd(row.temperature for row in heads),
        threshold=mean_sd(row.threshold for row in heads),
        before=note.before,
        after=note.after,
        reliability=list(note.reliability),
    )


def _uncalibrated(row: EvaluatedSlide) -> EvaluatedSlide:
    return row if row.uncalibrated is None else replace(row, predictions=row.uncalibrated)


def _localisation(test: Sequence[EvaluatedSlide], task: Task) -> Localisation | None:
    """Tile AUROC by slide; None where no slide that heads should attend to is annotated."""
    values: dict[str, list[float]] = {}
    for row in test:
        if row.tile_auroc is not None and task.attends_to_annotations(row.label):
            values.setdefault(row.slide, []).append(row.tile_auroc)
    if not values:
        return None
    per_slide = {slide: float(np.mean(aurocs)) for slide, aurocs in sorted(values.items())}
    means = list(per_slide.values())
    return Localisation(
        tile_auroc_mean=float(np.mean(means)),
        tile_auroc_min=min(means),
        n_slides=len(means),
        per_slide=per_slide,
    )
