"""Metrics of one recipe on one encoder, from the predictions of all its heads."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mil.evaluate.attention import localisation
from mil.evaluate.maps import MapsOfRecipe
from mil.evaluate.rows import (
    AttendedSlide,
    EvaluatedSlide,
    averaged,
    by_run,
    evaluation_set,
    mean,
    mean_sd,
)
from mil.evaluate.selection import of_selection
from mil.evaluate.subgroups import metrics_of_patients, set_metrics, subgroups
from mil.io.branch_metrics import BranchesOfRecipe
from mil.io.results import CalibrationMetrics, Metrics, Prediction, RunMetrics, SelectionMetrics
from mil.statistics.scaling import Calibration
from mil.statistics.text import calibration_note
from mil.tasks import Task
from mil.trained.record import Trained


def metrics_of(
    rows: Sequence[EvaluatedSlide],
    trained: Trained,
    columns: Mapping[str, Mapping[str, str]],
    last: Sequence[Prediction] = (),
    attended: Sequence[AttendedSlide] = (),
    calibrations: Sequence[Calibration | None] = (),
    annotations: Sequence[str] = (),
    maps: MapsOfRecipe | None = None,
    branches: BranchesOfRecipe | None = None,
) -> Metrics:
    """Content of metrics.json.

    Args:
        rows: Prediction of each slide by each head.
        trained: One of the heads.
        columns: Value of each slide, by further column of the slide table.
        last: Predictions of test slides by the last epochs' weights; empty where those
            were not kept.
        attended: Test slides under the attention of the ensemble; empty: not known.
        calibrations: Calibration of each head.
        annotations: Notes on annotations that do not count.
        maps: Metrics of the maps of tiles; None: not known.
        branches: Metrics of branches that were left out; None: not asked for.
    """
    task = trained.task
    maps = maps or MapsOfRecipe({}, None, [])
    test = [row for row in rows if row.split == "test"]
    slides = averaged(test, "slide")
    runs = [_run(members, task, *run) for run, members in by_run(rows).items()]
    # In the order of the runs; a run without test slides has no metrics.
    names = dict.fromkeys(name for run in runs for name in run.numbers)
    of_slides = set_metrics(slides, task)
    return Metrics(
        recipe=trained.recipe_name,
        encoder=trained.encoder,
        dataset=trained.dataset,
        task=task.kind,
        classes=trained.classes,
        positive=trained.positive,
        predicted_by=predicted_by(test, runs),
        test=of_slides,
        fusion=trained.fusion,
        test_patients=metrics_of_patients(slides, task, trained.fusion),
        last=set_metrics(averaged(last, "slide"), task) if last else None,
        runs=runs,
        over_runs={name: mean_sd(run.numbers.get(name) for run in runs) for name in names},
        calibration=_calibration(test, task, calibrations) if test else None,
        subgroups=subgroups(slides, task, columns),
        power=task.power(evaluation_set(slides, task)) if slides else None,
        localisation=localisation(attended, of_slides, task),
        annotations=list(annotations),
        maps=maps.maps,
        lesions=maps.lesions,
        evidence_checks=maps.evidence_checks,
        attention_entropy_share=_entropy_shares(attended),
        selection=_selection(test, trained),
        branches=branches,
        slides_used=sorted({row.slide for row in test}),
    )


def predicted_by(test: Sequence[Prediction], runs: Sequence[RunMetrics]) -> str:
    """Heads whose mean is a slide's prediction: `ensemble of 5 heads`, or `one head`.

    Where folds have test slides of their own, the number of heads is followed by `per
    slide`, because a study has more of them. Empty without test slides.

    Args:
        test: Prediction of each test slide by each head that did not train on it.
        runs: All runs.
    """
    counts = Counter(row.slide for row in test)
    if not counts:
        return ""
    fewest, most = min(counts.values()), max(counts.values())
    number = f"{most}" if fewest == most else f"{fewest} to {most}"
    name = "one head" if most == 1 else f"ensemble of {number} heads"
    return f"{name} per slide" if any(run.n_slides < len(counts) for run in runs) else name


def _run(rows: Sequence[EvaluatedSlide], task: Task, seed: int, fold: int) -> RunMetrics:
    """Metrics of one seed and fold.

    Tile AUROC and hottest tile are of the annotated slides that a head should attend to.
    """
    test = [row for row in rows if row.split == "test"]
    to_find = [row for row in test if task.attends_to_annotations(row.label)]
    return RunMetrics(
        seed=seed,
        fold=fold,
        held_out=test[0].held_out if test else "",
        metrics=task.metrics(evaluation_set(test, task)) if test else {},
        n_slides=len(test),
        tile_auroc=mean(row.tile_auroc for row in to_find),
        hottest_tile_rate=mean(row.hottest_tile_hit for row in to_find),
        attention_entropy_share=mean(row.attention_entropy_share for row in test),
    )


def _entropy_shares(attended: Sequence[AttendedSlide]) -> dict[str, float]:
    """Evenness of the ensemble's attention, by slide; none of a bag of one tile."""
    shares = {slide.slide: slide.entropy_share for slide in sorted(attended)}
    return {name: share for name, share in shares.items() if share is not None}


def _selection(test: Sequence[EvaluatedSlide], trained: Trained) -> SelectionMetrics | None:
    """Metrics of the selected tiles; None where heads select none, or of other tasks."""
    if not trained.task.one_of_classes:
        return None
    return of_selection(test, trained.classes, trained.positive)


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
