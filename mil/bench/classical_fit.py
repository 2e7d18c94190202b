"""One repetition of cross-validation: a head is trained on each fold as the stage `train` would, and tested once."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import nn

from mil.bench.classical_data import DataSet, load
from mil.config import LossWeight, Recipe, Section, TrainConfig
from mil.heads import UsesGraph, build_head, head_module
from mil.tasks import CLASSES
from mil.train.data import LabelledBag, batches, with_graphs
from mil.train.loop import TrainingData, fit
from mil.train.prepare import FIRST_STAGE_LOSSES, prepare

CPU = torch.device("cpu")
TEST_BAGS = 64  # at once


class Protocol(Section):
    """One setting for all heads and data sets. Of a recipe count head, options, losses and the longest gradient."""

    clip: float = Field(
        3.0, gt=0, description="deviations from the mean at which a standardised feature is cut off"
    )
    hidden: int = Field(
        128, gt=0, description="width after the reducer, where the head has that option"
    )
    attention: int = Field(64, gt=0, description="width of the attention branch, likewise")
    dropout: float = Field(
        0.5, ge=0, lt=1, description="likewise, where the recipe does not say otherwise"
    )
    steps: int = Field(200, gt=0, description="of the optimiser, rounded to whole epochs")
    batch_bags: int = Field(16, gt=0, description="bags a step")
    lr: float = Field(2e-3, gt=0, description="of AdamW at the start; half a cosine to 0 follows")
    weight_decay: float = Field(0.1, ge=0, description="of AdamW")

    def training(self, bags: int, recipe: Recipe) -> TrainConfig:
        """How a head is trained on so many bags; the last epoch is kept, whatever it is worth."""
        return TrainConfig(
            epochs=max(1, round(self.steps * self.batch_bags / bags)),
            batch_bags=self.batch_bags,
            lr=self.lr,
            weight_decay=self.weight_decay,
            clip_norm=recipe.train.clip_norm,
            select="last",
        )

    def options(self, recipe: Recipe) -> dict[str, Any]:
        """A head's options: ours that it has, then the recipe's."""
        ours = {"hidden": self.hidden, "attention": self.attention, "dropout": self.dropout}
        known = head_module(recipe.name).Config.model_fields
        return {name: value for name, value in ours.items() if name in known} | recipe.options


class Task(NamedTuple):
    """One repetition to be done, by this process or another."""

    data: str
    place: Path
    recipe: Recipe
    protocol: Protocol
    repetition: int  # from 0
    repeats: int
    folds: int


class Repetition(NamedTuple):
    """What came out of it."""

    accuracy: list[float]  # of each fold's test bags
    seconds: float


def repetition(task: Task) -> Repetition:
    """Train and test a head on every fold of one repetition."""
    torch.set_num_threads(1)  # the matrices are small: more threads only wait for one another
    data = _loaded(task.data, task.place, task.repeats, task.folds)
    began = perf_counter()
    accuracy = [_accuracy(task, data, fold) for fold in range(task.folds)]
    return Repetition(accuracy, perf_counter() - began)


@lru_cache(maxsize=1)
def _loaded(name: str, place: Path, repeats: int, folds: int) -> DataSet:
    return load(name, place, repeats, folds)


def _accuracy(task: Task, data: DataSet, fold: int) -> float:
    train, test = data.fold(task.repetition, fold, task.protocol.clip)
    seed = 1000 * (task.repetition + 1) + fold
    torch.manual_seed(seed)
    options = task.protocol.options(task.recipe)
    head = build_head(task.recipe.name, options, dim=train[0].features.shape[1], classes=2)
    train_head(head, train, task.recipe, task.protocol.training(len(train), task.recipe), seed)
    return tested(head, test)


def train_head(
    head: nn.Module, bags: list[LabelledBag], recipe: Recipe, how: TrainConfig, seed: int
) -> None:
    """Train a head in place, with all that it asks for beforehand."""
    prepare(head, bags, lambda first: _fit(first, bags, FIRST_STAGE_LOSSES, how, seed))
    if isinstance(head, UsesGraph):
        bags = with_graphs(bags, head)
    _fit(head, bags, recipe.losses, how, seed)


def _fit(
    head: nn.Module,
    bags: list[LabelledBag],
    losses: Mapping[str, LossWeight],
    how: TrainConfig,
    seed: int,
) -> None:
    # Labels matter for balanced sampling alone, which the protocol does not use.
    data = TrainingData(
        task=CLASSES, train=bags, train_labels=[""] * len(bags), valid=[], device=CPU
    )
    fit(head, data, losses, how, seed=seed)
    head.eval()


@torch.inference_mode()
def tested(head: nn.Module, bags: list[LabelledBag]) -> float:
    """Share of the bags whose label is the class that the head finds more probable."""
    if isinstance(head, UsesGraph):
        bags = with_graphs(bags, head)
    right = [
        head(joined).logits.argmax(-1) == labels for joined, labels in batches(bags, TEST_BAGS, CPU)
    ]
    return float(torch.cat(right).double().mean())
