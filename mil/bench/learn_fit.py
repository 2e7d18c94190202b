"""One training of `mil bench learn`: a recipe and bags in, predictions of test bags out.

The only place where the benchmark trains.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from mil.bags import attention
from mil.config import DatasetConfig, LossWeight, Recipe
from mil.demo.labelled_tiles import CLASS_NAMES
from mil.heads import UsesGraph, build_head
from mil.statistics.calibration import softmax
from mil.tasks import AnyTask
from mil.train.data import LabelledBag, batches, with_graphs
from mil.train.loop import TrainingData, fit
from mil.train.prepare import FIRST_STAGE_LOSSES, check_compatible, make_task, prepare
from mil.train.validate import calibrate

CPU = torch.device("cpu")
DATASET = DatasetConfig(classes=list(CLASS_NAMES), positive=CLASS_NAMES[1])


class SlidePrediction(NamedTuple):
    """Prediction of one slide.

    Attributes:
        probability: probability of tumour by the head's own logits.
        calibrated: the same after the temperature fitted on validation slides.
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
        valid: validation bags, by which an epoch is selected and a temperature fitted.
        tests: sets of test bags; their labels are not used.
        seed: random seed of weights, order of bags, masking and dropout.

    Returns:
        For each set of test bags the prediction of each bag.

    Raises:
        ConfigError: the recipe does not suit a classification.
        DatasetError: a loss becomes NaN.
    """
    torch.manual_seed(seed)
    labels = [CLASS_NAMES[int(bag.label)] for bag in train]
    task = make_task(recipe, DATASET, labels)
    head = build_head(
        recipe.name, recipe.options, dim=train[0].features.shape[1], classes=task.outputs
    )
    check_compatible(task, recipe, head)
    data = TrainingData(task=task, train=train, train_labels=labels, valid=valid, device=CPU)

    def train_first(first: nn.Module) -> None:
        _fit(first, data, FIRST_STAGE_LOSSES, recipe, seed)

    prepare(head, train, train_first)
    data = TrainingData(
        task=task,
        train=_with_graphs(head, train),
        train_labels=labels,
        valid=_with_graphs(head, valid),
        device=CPU,
    )
    _fit(head, data, recipe.losses, recipe, seed)
    calibration = calibrate(head, data.valid, task, CPU)
    temperature = 1.0 if calibration is None else calibration.temperature
    return [_predict(head, task, temperature, _with_graphs(head, bags)) for bags in tests]


def _fit(
    head: nn.Module,
    data: TrainingData,
    losses: Mapping[str, LossWeight],
    recipe: Recipe,
    seed: int,
) -> None:
    """Train a head in place, and leave it with the weights of the selected epoch."""
    result = fit(head, data, losses, recipe.train, seed=seed)
    head.load_state_dict(result.weights)
    head.eval()


def _with_graphs(head: nn.Module, bags: Sequence[LabelledBag]) -> Sequence[LabelledBag]:
    return with_graphs(bags, head) if isinstance(head, UsesGraph) else bags


@torch.inference_mode()
def _predict(
    head: nn.Module, task: AnyTask, temperature: float, bags: Sequence[LabelledBag]
) -> list[SlidePrediction]:
    predictions = []
    for batch, _ in batches(bags, 1, CPU):
        output = head(batch)
        logits = output.logits.double().numpy()
        weights = attention(output, batch, task.attended).double().numpy()
        probability = float(softmax(logits)[0, 1])
        calibrated = float(softmax(logits / temperature)[0, 1])
        predictions.append(SlidePrediction(probability, calibrated, weights))
    return predictions
