"""The training loop."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mil.config import LossWeight, TrainConfig
from mil.errors import ConfigError, DatasetError
from mil.heads import FollowsSteps
from mil.losses import total_loss
from mil.tasks import CLASSES, AnyTask
from mil.train.precision import answer
from mil.train.schedule import learning_rate, loss_weight
from mil.types import Bags

LARGEST_KEPT = 64 << 20  # bytes; what is larger belongs to a large bag, and is given back between steps
Batches = Callable[[], Iterable[tuple[Bags, Tensor]]]


@dataclass
class History:
    """What happened: mean of each loss term and what validation said, epoch by epoch."""

    train: list[dict[str, float]] = field(default_factory=list)
    valid: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0  # from 1
    best_score: float = float("-inf")


def make_optimiser(head: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over what can be trained, in one pass over the parameters."""
    trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def fit(
    head: nn.Module,
    train: Batches,
    validate: Callable[[nn.Module], dict[str, float]],
    *,
    task: AnyTask = CLASSES,
    losses: Mapping[str, LossWeight],
    config: TrainConfig,
    steps: int,
    keep: Callable[[nn.Module], None],
    advance: Callable[[int], object] = lambda _: None,
) -> History:
    """Train a head and keep its best epoch.

    Args:
        head: trained in place.
        train: gives an epoch's batches; with features in bfloat16 it is trained in half precision.
        validate: metrics of the head on validation, with its `score` (larger is better).
        task: of the batches' targets.
        losses: weight of each term.
        config: how.
        steps: batches per epoch.
        keep: called with the head whenever an epoch is the best so far.
        advance: told after each epoch.

    Raises:
        ConfigError: the losses do not depend on the head.
        DatasetError: a loss or a metric is not a number, from which no training recovers.
    """
    optimiser = make_optimiser(head, config)
    history = History()
    for epoch in range(config.epochs):
        head.train()
        seen: list[dict[str, Tensor]] = []
        for step, (bags, labels) in enumerate(train()):
            at = epoch + step / steps
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, at)
            weights = {name: loss_weight(weight, at, config.epochs) for name, weight in losses.items()}
            loss, terms = total_loss(weights, answer(head, bags), bags, labels, task)
            if not loss.requires_grad:
                raise ConfigError(f"losses {', '.join(losses)}: this head gives nothing for them; add cross_entropy")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if config.clip_norm is not None:
                nn.utils.clip_grad_norm_(head.parameters(), config.clip_norm)
            optimiser.step()
            if isinstance(head, FollowsSteps):
                head.after_step()
            seen.append({**terms, "loss": loss.detach()})
        # Once an epoch: each conversion to a number makes a GPU wait.
        means = {name: float(torch.stack([terms[name] for terms in seen]).mean()) for name in seen[0]}
        history.train.append(_numbers(means, epoch))
        history.valid.append(_numbers(validate(head.eval()), epoch))
        score = float(epoch) if config.select == "last" else history.valid[-1]["score"]
        if score > history.best_score:
            history.best_epoch, history.best_score = epoch + 1, score
            keep(head)
        advance(1)
    return history


def _numbers(values: dict[str, float], epoch: int) -> dict[str, float]:
    if not all(map(math.isfinite, values.values())):
        raise DatasetError(f"training, epoch {epoch + 1}: the loss is not a number; lower train.lr in the recipe")
    return values
