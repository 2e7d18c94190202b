"""One repetition of cross-validation: a head is trained on each fold, and tested once.

Heads are trained with the code of the stage `train`.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch
from pydantic import Field
from torch import nn

from mil.bench.classical_data import ClassicalDataSet, load
from mil.config import LossWeight, Recipe, Section, TrainConfig
from mil.heads import UsesGraph, build_head, head_module
from mil.tasks import CLASSES
from mil.train.data import LabelledBag, batches, with_graphs
from mil.train.loop import TrainingData, fit
from mil.train.prepare import FIRST_STAGE_LOSSES, prepare

CPU = torch.device("cpu")
# Test bags that go through a head together.
TEST_BATCH_BAGS = 64


class ClassicalProtocol(Section):
    """Setting that all heads and data sets share.

    Of a recipe count the head, its options and losses, and the longest gradient.
    """

    clip: float = Field(
        3.0, gt=0, description="Standard deviations at which a standardised feature is clipped."
    )
    hidden: int = Field(
        128, gt=0, description="Width after the reducer, where the head has that option."
    )
    attention: int = Field(
        64, gt=0, description="Width of the attention branch, where the head has that option."
    )
    dropout: float = Field(
        0.5, ge=0, lt=1, description="Dropout, where the head has it and the recipe sets none."
    )
    steps: int = Field(200, gt=0, description="Number of optimiser steps, rounded to whole epochs.")
    batch_bags: int = Field(16, gt=0, description="Number of bags in a step.")
    lr: float = Field(
        2e-3, gt=0, description="Learning rate at the start; half a cosine to 0 follows."
    )
    weight_decay: float = Field(0.1, ge=0, description="Weight decay of AdamW.")

    def training(self, bags: int, recipe: Recipe) -> TrainConfig:
        """Training of a head on a number of bags.

        The last epoch is kept, whatever it is worth: there are no validation bags, and
        choosing by test bags would flatter.
        """
        return TrainConfig(
            epochs=max(1, round(self.steps * self.batch_bags / bags)),
            batch_bags=self.batch_bags,
            lr=self.lr,
            weight_decay=self.weight_decay,
            clip_norm=recipe.train.clip_norm,
            select="last",
        )

    def options(self, recipe: Recipe) -> Mapping[str, object]:
        """Options of a head: the protocol's that it has, replaced by the recipe's."""
        own = {"hidden": self.hidden, "attention": self.attention, "dropout": self.dropout}
        fields = head_module(recipe.name).Config.model_fields
        return {name: value for name, value in own.items() if name in fields} | recipe.options


class RepetitionTask(NamedTuple):
    """One repetition to run, in this process or another."""

    dataset: str
    path: Path
    recipe: Recipe
    protocol: ClassicalProtocol
    repetition: int  # from 0
    repeats: int
    folds: int


class RepetitionResult(NamedTuple):
    """Result of one repetition."""

    accuracy: list[float]  # on the test bags, by fold
    seconds: float


def run_repetition(task: RepetitionTask) -> RepetitionResult:
    """Train and test a head on every fold of one repetition."""
    # The matrices are small: more threads would only wait for one another.
    torch.set_num_threads(1)
    data = _load_once(task.dataset, task.path, task.repeats, task.folds)
    began = perf_counter()
    accuracy = [_fold_accuracy(task, data, fold) for fold in range(task.folds)]
    return RepetitionResult(accuracy, perf_counter() - began)


# The tasks of a process come data set by data set, so one is enough.
@lru_cache(maxsize=1)
def _load_once(name: str, path: Path, repeats: int, folds: int) -> ClassicalDataSet:
    return load(name, path, repeats, folds)


def _fold_accuracy(task: RepetitionTask, data: ClassicalDataSet, fold: int) -> float:
    train, test = data.fold(task.repetition, fold, task.protocol.clip)
    # Its own for every fold, and the same whichever process runs it.
    seed = 1000 * (task.repetition + 1) + fold
    torch.manual_seed(seed)
    options = dict(task.protocol.options(task.recipe))
    head = build_head(task.recipe.name, options, dim=train[0].features.shape[1], classes=2)
    config = task.protocol.training(len(train), task.recipe)
    train_head(head, train, task.recipe, config, seed)
    return accuracy_of(head, test)


def train_head(
    head: nn.Module, bags: list[LabelledBag], recipe: Recipe, config: TrainConfig, seed: int
) -> None:
    """Train a head in place, with all that it needs before its training.

    Args:
        head: the head, with its first weights.
        bags: the training bags.
        recipe: the recipe, of which the losses are used.
        config: the training.
        seed: seed of the order of the bags.
    """
    prepare(head, bags, lambda first: _fit(first, bags, FIRST_STAGE_LOSSES, config, seed))
    if isinstance(head, UsesGraph):
        bags = with_graphs(bags, head)
    _fit(head, bags, recipe.losses, config, seed)


def _fit(
    head: nn.Module,
    bags: list[LabelledBag],
    losses: Mapping[str, LossWeight],
    config: TrainConfig,
    seed: int,
) -> None:
    # Labels matter for balanced sampling alone, which the protocol does not use.
    data = TrainingData(
        task=CLASSES, train=bags, train_labels=[""] * len(bags), valid=[], device=CPU
    )
    fit(head, data, losses, config, seed=seed)
    head.eval()


@torch.inference_mode()
def accuracy_of(head: nn.Module, bags: list[LabelledBag]) -> float:
    """Accuracy of a head on labelled bags, 0 to 1."""
    if isinstance(head, UsesGraph):
        bags = with_graphs(bags, head)
    correct = [
        head(batch).logits.argmax(-1) == labels
        for batch, labels in batches(bags, TEST_BATCH_BAGS, CPU)
    ]
    return float(torch.cat(correct).double().mean())
