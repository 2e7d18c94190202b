"""Facts about the training and validation slides, from which `train: auto` plans."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mil.config import Cohort
from mil.io.bags.patients import FoldBag
from mil.tasks import Task
from mil.train.data import BagSource, in_order

# Tiles of a bag, evenly spread, from which the scale of features is estimated: reading
# all of a large cohort again would take as long as an epoch.
TILES_FOR_SCALE = 256


class StudySize(NamedTuple):
    """Numbers of training and validation slides and patients, means over the folds."""

    slides: int
    patients: int


def study_size(bags: Sequence[FoldBag]) -> StudySize:
    """Size of a study by its folds, the same for each of them; labels are not used.

    Args:
        bags: Bags of all folds.
    """
    folds = sorted({bag.fold for bag in bags})
    used = [[bag for bag in bags if bag.fold == fold and bag.split != "test"] for fold in folds]
    return StudySize(
        _rounded_mean([len(of_fold) for of_fold in used]),
        _rounded_mean([len({bag.patient for bag in of_fold}) for of_fold in used]),
    )


def cohort_of(
    size: StudySize, task: Task, labels: Sequence[str], bags: BagSource, dim: int
) -> Cohort:
    """Facts about the training and validation bags of a fold.

    Args:
        size: Size of the study.
        task: Task of the head.
        labels: Label of each bag.
        bags: Training and validation bags; at least one.
        dim: Number of features per tile.
    """
    tiles: list[int] = []
    count = 0
    total = torch.zeros(dim, dtype=torch.float64)
    squares = torch.zeros(dim, dtype=torch.float64)
    for bag in in_order(bags, range(len(bags))):
        tiles.append(len(bag.features))
        sample = _evenly(bag.features).double()
        count += len(sample)
        total += sample.sum(0)
        squares += sample.square().sum(0)
    variance = squares / count - (total / count).square()
    deviations = variance.clamp(min=0).sqrt().numpy()
    return Cohort(
        task=task.kind,
        num_slides=size.slides,
        num_patients=size.patients,
        slides_by_class={name: labels.count(name) for name in task.classes},
        tiles_median=int(np.median(tiles)),
        tiles_max=max(tiles),
        dim=dim,
        feature_std=(
            _two_digits(deviations.min()),
            _two_digits(np.median(deviations)),
            _two_digits(deviations.max()),
        ),
        smallest_batch=task.smallest_batch,
    )


def _evenly(features: Tensor) -> Tensor:
    """Some tiles of a bag, evenly spread over it."""
    step = -(-len(features) // TILES_FOR_SCALE)
    return features[::step]


def _rounded_mean(counts: Sequence[int]) -> int:
    # Halves up, in whole numbers: no machine rounds otherwise.
    return (2 * sum(counts) + len(counts)) // (2 * len(counts))


def _two_digits(value: float) -> float:
    # Sums differ in the last bit between processors, and a plan must not.
    return float(f"{value:.2g}")
