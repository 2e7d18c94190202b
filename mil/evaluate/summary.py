"""Predictions and what was seen of each slide -> metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mil.evaluate.localise import should_attend
from mil.evaluate.rows import Row, averaged, by_run, mean, mean_sd
from mil.evaluate.selection import of_selection
from mil.evaluate.subgroups import metrics_of_patients, subgroups
from mil.evaluate.tasks import BY_KIND, metrics_of_task, plain_of_task
from mil.io.bags.patients import HELD_OUT
from mil.trained.record import Trained

NOT_OVER_RUNS = ("seed", "fold", HELD_OUT, "n_slides")


def metrics_of(
    rows: Sequence[Row],
    trained: Trained,
    columns: Mapping[str, Mapping[str, str]],
    last: Sequence[Row] = (),
) -> dict[str, Any]:
    """What metrics.json holds.

    Args:
        rows: a prediction of each slide by each head; those of test slides with
            `tile_auroc` (None: nothing is annotated), `attention_entropy_share` (None:
            a bag of one tile) and `selection` (None: the head selects no tiles).
        trained: one of the heads.
        columns: further columns of the slide table: the value of each slide.
        last: predictions of test slides by the last epochs' weights; none where they
            were not kept.
    """
    task = trained.task
    measures = BY_KIND[trained.task.kind]
    test = [row for row in rows if row["split"] == "test"]
    slides = _means(test, trained)
    each = [
        _run([r for r in mine if r["split"] == "test"], trained, *run)
        for run, mine in by_run(rows).items()
    ]
    return {
        "recipe": trained.recipe_name,
        "encoder": trained.encoder,
        "dataset": trained.dataset,
        "task": task.kind,
        "classes": trained.classes,
        "positive": trained.positive,
        # A slide's answer here is the mean over the heads that did not see it in
        # training.
        "test": metrics_of_task(task, slides),
        # early: what is called a slide here is a patient, all slides of one in one bag
        "fusion": trained.fusion,
        "test_patients": metrics_of_patients(slides, task, trained.fusion),
        "last": metrics_of_task(task, _means(last, trained)) if last else None,
        "runs": each,
        "over_runs": {
            k: mean_sd(run.get(k) for run in each) for k in _names(each) if k not in NOT_OVER_RUNS
        },
        "calibration": measures.calibration(test, task) if test else None,
        "subgroups": subgroups(slides, task, columns),
        "power": measures.power(slides, task) if slides else None,
        "localisation": _localisation(test, trained),
        "selection": of_selection(test, trained.classes, trained.positive)
        if task.kind == "classification"
        else None,
        "slides_used": sorted({row["slide"] for row in test}),
    }


def _means(rows: Sequence[Row], trained: Trained) -> list[Row]:
    return averaged(rows, [*trained.task.columns, "threshold"], "slide")


def _names(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run))


def _run(rows: Sequence[Row], trained: Trained, seed: int, fold: int) -> dict[str, Any]:
    """One seed and fold; tile AUROC is of the annotated slides of the positive class, or of all where there is none."""
    return {
        "seed": seed,
        "fold": fold,
        **({HELD_OUT: rows[0][HELD_OUT]} if rows and HELD_OUT in rows[0] else {}),
        **plain_of_task(trained.task, rows),
        "tile_auroc": mean(
            row["tile_auroc"] for row in rows if should_attend(row["label"], trained.task)
        ),
        "attention_entropy_share": mean(row["attention_entropy_share"] for row in rows),
    }


def _localisation(test: Sequence[Row], trained: Trained) -> dict[str, Any] | None:
    rows = [
        r for r in test if should_attend(r["label"], trained.task) and r["tile_auroc"] is not None
    ]
    if not rows:
        return None
    per_slide = {
        slide: float(np.mean([row["tile_auroc"] for row in rows if row["slide"] == slide]))
        for slide in sorted({row["slide"] for row in rows})
    }
    values = list(per_slide.values())
    return {
        "tile_auroc_mean": float(np.mean(values)),
        "tile_auroc_min": min(values),
        "n_slides": len(values),
        "per_slide": per_slide,
    }
