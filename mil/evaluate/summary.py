"""Predictions and what was seen of each slide -> metrics."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mil.evaluate.runs import Row, by_run, labels_of, mean, mean_sd, plain, positive_last, probabilities_of
from mil.evaluate.selection import of_selection
from mil.statistics.classified import with_intervals
from mil.trained import Trained

OVER_RUNS = ("auroc_macro", "f1_macro", "accuracy", "tile_auroc", "attention_entropy_share")


def metrics_of(rows: Sequence[Row], trained: Trained) -> dict[str, Any]:
    """What metrics.json holds.

    Args:
        rows: a prediction of each slide by each head; those of test slides with `tile_auroc` (None: nothing is
            annotated), `attention_entropy_share` (None: a bag of one tile) and `selection` (None: the head selects
            no tiles).
        trained: one of the heads.
    """
    classes = trained.classes
    test = [row for row in rows if row["split"] == "test"]
    each = [_run([r for r in mine if r["split"] == "test"], trained, *run) for run, mine in by_run(rows).items()]
    return {
        "recipe": trained.recipe_name,
        "encoder": trained.encoder,
        "dataset": trained.dataset,
        "classes": classes,
        # A slide's probability here is the mean over the heads that did not see it in training.
        "test": _with_intervals(test, positive_last(classes, trained.positive)),
        "runs": each,
        "over_runs": {name: mean_sd(run.get(name) for run in each) for name in OVER_RUNS},
        "localisation": _localisation(test, trained),
        "selection": of_selection(test, classes, trained.positive),
        "slides_used": sorted({row["slide"] for row in test}),
    }


def _run(rows: Sequence[Row], trained: Trained, seed: int, fold: int) -> dict[str, Any]:
    """One seed and fold; tile AUROC is of the positive annotated slides."""
    return {
        "seed": seed,
        "fold": fold,
        **plain(rows, trained.classes),
        "tile_auroc": mean(row["tile_auroc"] for row in rows if row["label"] == trained.positive),
        "attention_entropy_share": mean(row["attention_entropy_share"] for row in rows),
    }


def _with_intervals(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, Any]:
    if not rows:
        return {"n_slides": 0, "n_patients": 0}
    slides = {row["slide"]: row for row in rows}
    means = [
        {
            **row,
            **{f"p_{c}": float(np.mean([r[f"p_{c}"] for r in rows if r["slide"] == slide])) for c in classes},
        }
        for slide, row in slides.items()
    ]
    patients = [row["patient"] for row in means]
    return with_intervals(labels_of(means, classes), probabilities_of(means, classes), patients)


def _localisation(test: Sequence[Row], trained: Trained) -> dict[str, Any] | None:
    rows = [r for r in test if r["label"] == trained.positive and r["tile_auroc"] is not None]
    if not rows:
        return None
    per_slide = {
        slide: float(np.mean([row["tile_auroc"] for row in rows if row["slide"] == slide]))
        for slide in sorted({row["slide"] for row in rows})
    }
    values = list(per_slide.values())
    return {
        "tile_auroc_mean": float(np.mean(values)), "tile_auroc_min": min(values), "n_slides": len(values),
        "per_slide": per_slide,
    }  # fmt: skip
