"""One training of `mil bench learn`: a recipe and bags in, predictions of test bags out.

The only place where the benchmark trains.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from mil.bags import attention
from mil.config import DatasetConfig, Recipe
from mil.demo.labelled_tiles import CLASS_NAMES
from mil.io.bags.patients import FoldBag
from mil.statistics.calibration import softmax
from mil.statistics.scaling import Scaling
from mil.tasks import AnyTask
from mil.train.data import LabelledBag, batches
from mil.train.facts import study_size
from mil.train.fold import FoldData, fold_data
from mil.train.job import HeadJob
from mil.train.members import train_members
from mil.train.result import assembled_head, select_weights
from mil.train.store import BagStore
from mil.train.validate import calibrate

CPU = torch.device("cpu")
NO_CALIBRATION = Scaling(1.0, np.zeros(2))
DATASET = DatasetConfig(classes=list(CLASS_NAMES), positive=CLASS_NAMES[1])


class SlidePrediction(NamedTuple):
    """Prediction of one slide.

    Attributes:
        probability: probability of tumour by the head's own logits.
        calibrated: the same after calibration on validation slides.
        attention: score of each tile, larger where tumour is expected.
    """

    probability: float
    calibrated: float
    attention: Float[np.ndarray, " tiles"]


def train_and_predict(
    recipe: Recipe,
    train: Sequence[LabelledBag],
    valid: Sequence[LabelledBag],
    tests: Sequence[Sequence[LabelledBag]],
    *,
    seed: int,
) -> list[list[SlidePrediction]]:
    """Train a head as the stage `train` does, and predict test bags with it.

    Args:
        recipe: recipe of the head.
        train: training bags, labelled 1 for tumour and 0 for normal.
        valid: validation bags, by which an epoch is selected and the head calibrated.
        tests: sets of test bags; their labels are not used.
        seed: random seed of weights, order of bags, masking and dropout.

    Returns:
        For each set of test bags the prediction of each bag.

    Raises:
        ConfigError: the recipe does not suit a classification.
        DatasetError: a loss becomes NaN.
    """
    fold = _fold(recipe, train, valid)
    with TemporaryDirectory() as scratch:
        job = HeadJob(
            title=f"{recipe.name} seed {seed}",
            fold=fold,
            seed=seed,
            out=Path(scratch),
            inputs={},
            curves=None,
            is_one_of_several=False,
        )
        training = train_members(job)
    select_weights(training)
    head = assembled_head(training, fold.device).eval()
    calibration = calibrate(training.logits, training.targets, fold.task, training.patients)
    scaling = calibration.scaling if calibration is not None else NO_CALIBRATION
    return [_predict(head, fold.task, scaling, bags) for bags in tests]


def _fold(recipe: Recipe, train: Sequence[LabelledBag], valid: Sequence[LabelledBag]) -> FoldData:
    """The bags as a fold of its own, in the store that the stage `train` reads from."""
    bags = [_fold_bag(bag, "train") for bag in train]
    bags += [_fold_bag(bag, "val") for bag in valid]
    store = BagStore([partial(_same, bag) for bag in [*train, *valid]], budget=sys.maxsize)
    return fold_data(
        bags,
        range(len(bags)),
        store,
        recipe=recipe,
        dataset=DATASET,
        size=study_size(bags),
        device=CPU,
    )


def _fold_bag(bag: LabelledBag, split: str) -> FoldBag:
    label = CLASS_NAMES[int(bag.label)]
    return FoldBag(0, bag.slide, (bag.slide,), bag.slide, label, split)


def _same(bag: LabelledBag) -> LabelledBag:
    return bag


@torch.inference_mode()
def _predict(
    head: nn.Module, task: AnyTask, scaling: Scaling, bags: Sequence[LabelledBag]
) -> list[SlidePrediction]:
    predictions = []
    for batch, _ in batches(bags, 1, CPU):
        output = head(batch)
        logits = output.logits.double().numpy()
        weights = attention(output, batch, task.attended).double().numpy()
        probability = float(softmax(logits)[0, 1])
        calibrated = float(softmax(scaling.of(logits))[0, 1])
        predictions.append(SlidePrediction(probability, calibrated, weights))
    return predictions
