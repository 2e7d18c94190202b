"""Draws of few slides of each class, a probe fitted to each, and its AUROC on the test slides."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression

from mil.io.fewshot import Point
from mil.statistics.discrimination import auroc

# Largest number of steps of a fit.
MAX_STEPS = 1000


class FoldVectors(NamedTuple):
    """Vectors of the slides of one fold, with classes as numbers.

    Attributes:
        train: Vectors of the training slides.
        labels: Class of each.
        patients: Patient of each.
        test: Vectors of the test slides.
        test_labels: Class of each.
    """

    train: Float[np.ndarray, "slides dim"]
    labels: Int[np.ndarray, " slides"]
    patients: Sequence[str]
    test: Float[np.ndarray, "tests dim"]
    test_labels: Int[np.ndarray, " tests"]


def curve(
    folds: Sequence[FoldVectors], classes: int, *, shots: Sequence[int], draws: int, seed: int
) -> list[Point]:
    """AUROC by number of slides of each class, as far as every fold has patients for it.

    Slides of a draw are of different patients. Vectors are standardised by all training
    slides of the fold, without their labels.

    Args:
        folds: Folds, each with both classes or more among its test slides.
        classes: Number of classes.
        shots: Numbers of slides of each class, rising.
        draws: Number of draws.
        seed: Random seed of the draws.
    """
    scaled = [_standardised(fold) for fold in folds]
    patients = [_slides_of_patients(fold, classes) for fold in folds]
    most = min(len(of_class) for of_fold in patients for of_class in of_fold)
    points = []
    for number in (number for number in shots if number <= most):
        rng = np.random.default_rng([seed, number])
        by_draw = [
            np.mean(
                [
                    _auroc_of(fold, classes, _draw(of_fold, number, rng))
                    for fold, of_fold in zip(scaled, patients, strict=True)
                ]
            )
            for _ in range(draws)
        ]
        sd = float(np.std(by_draw, ddof=1)) if draws > 1 else 0.0
        points.append(Point(number, float(np.mean(by_draw)), sd, draws))
    return points


def _slides_of_patients(fold: FoldVectors, classes: int) -> list[list[list[int]]]:
    """Training slides by class and patient; a patient of several classes counts for the rarest."""
    counts = np.bincount(fold.labels, minlength=classes)
    slides: dict[str, dict[int, list[int]]] = {}
    for number, patient in enumerate(fold.patients):
        slides.setdefault(patient, {}).setdefault(int(fold.labels[number]), []).append(number)
    by_class: list[list[list[int]]] = [[] for _ in range(classes)]
    for of_patient in slides.values():
        rarest = min(of_patient, key=lambda label: (counts[label], label))
        by_class[rarest].append(of_patient[rarest])
    return by_class


def _draw(
    patients: Sequence[Sequence[Sequence[int]]], shots: int, rng: np.random.Generator
) -> list[int]:
    """A random slide of each of `shots` random patients of each class."""
    return [
        int(rng.choice(of_class[patient]))
        for of_class in patients
        for patient in rng.choice(len(of_class), shots, replace=False)
    ]


def _standardised(fold: FoldVectors) -> FoldVectors:
    mean = fold.train.mean(0)
    deviation = fold.train.std(0)
    # Rounding of a constant is no variance.
    deviation[deviation <= np.abs(fold.train).max(0) * 1e-6] = 1
    return fold._replace(train=(fold.train - mean) / deviation, test=(fold.test - mean) / deviation)


def _auroc_of(fold: FoldVectors, classes: int, chosen: Sequence[int]) -> float:
    """AUROC on the test slides of a probe of some training slides; macro of several classes."""
    slides = list(chosen)
    probe = LogisticRegression(max_iter=MAX_STEPS).fit(fold.train[slides], fold.labels[slides])
    predicted = probe.predict_proba(fold.test)
    # Of two classes the second is ranked; of more, each against the rest.
    ranked = [1] if classes == 2 else range(classes)
    areas = [
        _known(auroc((fold.test_labels == label).astype(np.int64), predicted[:, label]))
        for label in ranked
    ]
    return float(np.mean(areas))


def _known(value: float | None) -> float:
    assert value is not None
    return value
