"""Evaluated heads of made-up scores, written as `mil evaluate` writes them."""

import numpy as np

from mil.config import Recipe
from mil.evaluate.rows import EvaluatedSlide
from mil.evaluate.subgroups import by_patient
from mil.evaluate.summary import metrics_of
from mil.io.results import write_evaluation
from mil.tasks import Classification
from mil.trained import Trained

TWO = ["normal", "tumour"]
THREE = ["a", "b_1", "c"]


def evaluated(
    folder,
    name,
    gain,
    *,
    encoder="tiny",
    slides=60,
    per_patient=1,
    seeds=1,
    folds=1,
    same_test=False,
    classes=TWO,
    seed=0,
):
    """Write an evaluation of a head whose classes are `gain` standard deviations apart.

    Part of the noise is shared by all heads.
    """
    task = Classification(classes=classes, positive=classes[1])
    of_patient = np.arange(slides // per_patient) % len(classes)
    labels = np.repeat(of_patient, per_patient)
    shared = np.random.default_rng(seed).normal(size=(slides, len(classes)))
    own = np.random.default_rng(sum(map(ord, name)))
    rows = []
    for run in range(1, seeds + 1):
        for fold in range(folds):
            noise = own.normal(size=(slides, len(classes))) * 0.5
            logits = gain * np.eye(len(classes))[labels] + shared + noise
            p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            for i in range(slides):
                split = (
                    "test"
                    if folds == 1 or same_test or i // per_patient % folds == fold
                    else "train"
                )
                row = EvaluatedSlide(
                    slide=f"s{i:03d}",
                    patient=f"p{i // per_patient:03d}",
                    split=split,
                    label=classes[labels[i]],
                    predictions={f"p_{c}": float(v) for c, v in zip(classes, p[i], strict=True)},
                    recipe=name,
                    encoder=encoder,
                    seed=run,
                    fold=fold,
                    threshold=0.5,
                )
                rows.append(row)
    recipe = Recipe(name="abmil", options={}, losses={"cross_entropy": 1})
    trained = Trained(
        recipe_name=name,
        recipe=recipe,
        encoder=encoder,
        weights_sha256="0" * 64,
        tiling="224px_0.5mpp",
        dim=4,
        task=task,
        dataset="toy_50%",
        seed=1,
        fold=0,
        epoch=1,
    )
    where = folder / encoder / name
    write_evaluation(where, metrics_of(rows, trained, {}), rows, by_patient(rows))
    return where
