"""The training loop."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from mil.bags import Bags
from mil.config import LossWeight, TrainConfig
from mil.errors import ConfigError, DatasetError
from mil.heads import FollowsSteps
from mil.losses import total_loss
from mil.tasks import CLASSES, AnyTask
from mil.train.checkpoint import Checkpoint
from mil.train.optimiser import AdamW
from mil.train.precision import answer
from mil.train.schedule import learning_rate, loss_weight
from mil.train.state import History, Training

LARGEST_KEPT = (
    64 << 20
)  # bytes; what is larger belongs to a large bag, and is given back between steps
Batches = Callable[[], Iterable[tuple[Bags, Tensor]]]


class Objective(NamedTuple):
    """What is made small: weighted losses of a task."""

    losses: Mapping[str, LossWeight]
    task: AnyTask = CLASSES


class Fitted(NamedTuple):
    """What training gave; the head itself is left with the weights of the last epoch."""

    kept: dict[str, Tensor]  # weights of the epoch that is kept
    history: History


def make_optimiser(head: nn.Module, config: TrainConfig) -> AdamW:
    """AdamW over what can be trained, in one pass over the parameters."""
    trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
    return AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)


def fit(
    head: nn.Module,
    train: Batches,
    validate: Callable[[nn.Module], dict[str, float]],
    *,
    objective: Objective,
    config: TrainConfig,
    bags: int,
    order: torch.Generator | None = None,
    checkpoint: Checkpoint | None = None,
    report: Callable[[History], object] = lambda _: None,
) -> Fitted:
    """Train a head and keep its best epoch.

    Args:
        head: trained in place.
        train: gives an epoch's batches of `config.batch_bags`; their features' type is
            that of the matrix products.
        validate: metrics of the head on validation, with its `score` (larger is
            better).
        objective: what is made small.
        config: how.
        bags: per epoch.
        order: what `train` draws from, so that a training that is taken up draws on.
        checkpoint: where the training is kept between epochs, and taken up from.
        report: told what happened, after each epoch and when a training is taken up.

    Raises:
        ConfigError: the losses do not depend on the head.
        DatasetError: a loss or a metric is not a number, from which no training
            recovers.
    """
    scaler = GradScaler(next(head.parameters()).device.type, enabled=config.precision == "fp16")
    training = Training(head, make_optimiser(head, config), scaler, order)
    if checkpoint is not None:
        training.restore(checkpoint, config.epochs)
        report(training.history)
    history = training.history
    while not history.is_over(config):
        epoch = len(history.train)
        means = _one_epoch(training, train(), objective, config, epoch, bags)
        history.train.append(_numbers(means, epoch))
        history.valid.append(_numbers(validate(head.eval()), epoch))
        score = float(epoch) if config.select == "last" else history.valid[-1]["score"]
        if score > history.best_score:
            history.best_epoch, history.best_score = epoch + 1, score
            if config.select != "last":
                training.keep()
        if checkpoint is not None and checkpoint.is_due(history.is_over(config)):
            training.save(checkpoint)
        report(history)
    if not training.kept:
        training.keep()
    return Fitted(training.kept, history)


def _one_epoch(
    training: Training,
    batches: Iterable[tuple[Bags, Tensor]],
    objective: Objective,
    config: TrainConfig,
    epoch: int,
    bags: int,
) -> dict[str, float]:
    """Mean of each term over the batches."""
    head = training.head.train()
    per_step = config.batch_bags * config.accumulate
    steps = -(-bags // per_step)
    seen: list[dict[str, Tensor]] = []
    for number, (batch, labels) in enumerate(batches):
        step, place = divmod(number, config.accumulate)
        at = epoch + step / steps
        weights = {
            name: loss_weight(weight, at, config.epochs)
            for name, weight in objective.losses.items()
        }
        loss, terms = total_loss(weights, answer(head, batch), batch, labels, objective.task)
        if not loss.requires_grad:
            names = ", ".join(objective.losses)
            raise ConfigError(
                f"losses {names}: this head gives nothing for them; add cross_entropy"
            )
        seen.append({**terms, "loss": loss.detach()})
        if place == 0:
            training.optimiser.zero_grad()
        in_step = min(per_step, bags - step * per_step)
        share = len(labels) / in_step  # of the bags of this step, whose mean counts
        training.scaler.scale(loss if share == 1 else loss * share).backward()
        if place * config.batch_bags + len(labels) == in_step:
            _step(training, learning_rate(config, at), config.clip_norm)
    # Once an epoch: each conversion to a number makes a GPU wait.
    return {name: float(torch.stack([terms[name] for terms in seen]).mean()) for name in seen[0]}


def _step(training: Training, rate: float, clip_norm: float | None) -> None:
    # to a scaler, one of torch's own
    optimiser = cast(Any, training.optimiser)
    scaler = training.scaler
    optimiser.param_groups[0]["lr"] = rate
    if clip_norm is not None:
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(training.head.parameters(), clip_norm)
    scaler.step(optimiser)
    scaler.update()
    if isinstance(training.head, FollowsSteps):
        training.head.after_step()


def _numbers(values: dict[str, float], epoch: int) -> dict[str, float]:
    if not all(map(math.isfinite, values.values())):
        raise DatasetError(
            f"training, epoch {epoch + 1}: the loss is not a number; lower train.lr in the recipe"
        )
    return values
