"""Training of several heads of one recipe at once: `fit_stack`.

Restarts of one training see the same batches in the same order and differ in their
initialisation alone. Each head has its own losses, history and selected epoch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mil.config import LossWeight, TrainConfig
from mil.tasks import AnyTask
from mil.train.data import batches, small_batches
from mil.train.loop import (
    DivergedError,
    FitResult,
    TrainingData,
    check_differentiable,
)
from mil.train.schedule import ScheduledBatch, scheduled
from mil.train.stack import HeadGroup
from mil.train.stack_size import choose_size
from mil.train.stack_state import StackedState
from mil.train.state import Checkpoint, History
from mil.train.validate import validation_metrics

Report = Callable[[Sequence[History]], object]


def fit_stack(
    heads: Sequence[nn.Module],
    data: TrainingData,
    losses: Mapping[str, LossWeight],
    config: TrainConfig,
    *,
    seed: int,
    head_seeds: Sequence[int],
    checkpoint: Checkpoint | None = None,
    report: Report = lambda _: None,
) -> list[FitResult]:
    """Train several heads and select the best epoch of each.

    To rounding, each head becomes what `fit` makes of it after
    `torch.manual_seed(head_seed)`. Heads that cannot be stacked, or would not be faster,
    take turns at each batch; the bags are read once for all.

    Args:
        heads: Heads of one class and one set of options, trained in place.
        data: Training and validation bags. Without validation bags the last epoch is
            selected.
        losses: Weight of each loss term.
        config: Section `train` of the recipe.
        seed: Random seed for the order of bags and their sampling, the same for all.
        head_seeds: Random seed of each head for its dropout and masking.
        checkpoint: Checkpoint to resume from and to save between epochs.
        report: Called with the history of each head after an epoch, and when training
            resumes.

    Returns:
        Result of each head; `FitResult.failed` is true of one that diverged.

    Raises:
        ConfigError: No loss term depends on the heads.
        DivergedError: A loss or metric of every head is NaN or infinite.
    """
    if not data.valid:
        config = config.model_copy(update={"select": "last"})
    size = choose_size(heads, data, losses, config)
    training = partial(
        _fit, data=data, losses=losses, config=config, checkpoint=checkpoint, report=report
    )
    if size.heads > 1:
        initial = deepcopy([_tensors_of(head) for head in heads])
        state = StackedState(heads, head_seeds, seed=seed, size=size.heads, config=config)
        try:
            return training(state, size.valid_bags)
        except RuntimeError:
            # Torch's error. Some bag takes the code of the head where the trial bags did
            # not, and where it cannot be stacked.
            state.release()
            _reset(heads, initial)
    state = StackedState(heads, head_seeds, seed=seed, size=1, config=config)
    return training(state, 1)


def _fit(
    state: StackedState,
    valid_bags: int,
    *,
    data: TrainingData,
    losses: Mapping[str, LossWeight],
    config: TrainConfig,
    checkpoint: Checkpoint | None,
    report: Report,
) -> list[FitResult]:
    """Train all heads of a state, epoch by epoch.

    Args:
        state: Heads before their training.
        valid_bags: Validation bags at once.
        data: Training and validation bags.
        losses: Weight of each loss term.
        config: Section `train` of the recipe.
        checkpoint: Checkpoint to resume from and to save between epochs.
        report: Called with the history of each head.
    """
    if checkpoint is not None:
        state.restore(checkpoint, config.epochs)
        report(state.histories())
    # After a resume this may be over at once.
    while not state.is_over(config):
        terms = _train_epoch(state, data, losses, config)
        valid = _valid_logits(state, data, valid_bags) if data.valid else None
        _end_epoch(state, terms, valid, data.task, config)
        if checkpoint is not None and checkpoint.is_due(state.is_over(config)):
            state.save(checkpoint)
        report(state.histories())
    state.release()
    members = state.members
    diverged = [member.diverged_in for member in members if member.diverged_in is not None]
    if len(diverged) == len(members):
        raise DivergedError(max(diverged))
    return [FitResult(member.selected_weights, member.history) for member in members]


def _train_epoch(
    state: StackedState,
    data: TrainingData,
    losses: Mapping[str, LossWeight],
    config: TrainConfig,
) -> dict[str, Float[Tensor, " heads"]]:
    """Mean of each loss term over the batches of one epoch, of each head."""
    terms_of_batches: list[dict[str, Tensor]] = []
    order = data.batches(config, state.rng)
    num_bags = data.bags_per_epoch(config)
    for batch in scheduled(order, num_bags, losses, config, state.epochs_done):
        terms_of_stacks = [_learn(stack, batch, data.task, config) for stack in state.stacks]
        terms_of_batches.append(
            {
                name: torch.cat([terms[name] for terms in terms_of_stacks])
                for name in terms_of_stacks[0]
            }
        )
    return {
        name: torch.stack([terms[name] for terms in terms_of_batches]).mean(0)
        for name in terms_of_batches[0]
    }


def _learn(
    stack: HeadGroup, batch: ScheduledBatch, task: AnyTask, config: TrainConfig
) -> dict[str, Float[Tensor, " heads"]]:
    """Gradient of one batch, and a step where the batch ends one; the loss terms."""
    loss, terms = stack.losses(batch.loss_weights, batch.bags, batch.targets, task)
    check_differentiable(loss, batch.loss_weights)
    # Gradients add up until the step's last batch.
    if batch.begins_step:
        stack.optimiser.zero_grad()
    stack.backward(loss if batch.share == 1 else loss * batch.share)
    if batch.ends_step:
        stack.step(batch.lr, config.clip_norm)
    return {**terms, "loss": loss.detach()}


class ValidLogits(NamedTuple):
    """Logits of all validation bags, and their targets."""

    logits: Float[Tensor, "heads bags outputs"]
    targets: Shaped[Tensor, "bags ..."]


@torch.inference_mode()
def _valid_logits(state: StackedState, data: TrainingData, bags_at_once: int) -> ValidLogits:
    logits: list[Tensor] = []
    targets: list[Tensor] = []
    # Heads that train apart see what `logits_of` gives a single head.
    groups = small_batches(data.valid, data.device)
    if bags_at_once > 1:
        groups = batches(data.valid, bags_at_once, data.device)
    for bags, target in groups:
        logits.append(torch.cat([stack.logits(bags) for stack in state.stacks]))
        targets.append(target)
    return ValidLogits(torch.cat(logits, 1), torch.cat(targets))


def _end_epoch(
    state: StackedState,
    terms: Mapping[str, Tensor],
    valid: ValidLogits | None,
    task: AnyTask,
    config: TrainConfig,
) -> None:
    """Add an epoch to the history of each head that is not over."""
    means = {name: values.tolist() for name, values in terms.items()}
    for number, member in enumerate(state.members):
        # Its history and weights are those of the epoch in which it ended.
        if member.is_over(config):
            continue
        metrics: dict[str, float] = {}
        if valid is not None:
            logits = valid.logits[number]
            # Metrics need numbers.
            if torch.isfinite(logits).all():
                metrics = validation_metrics(logits, valid.targets, task, config.select)
            else:
                metrics = {"loss": math.nan}
        own_means = {name: values[number] for name, values in means.items()}
        member.end_epoch(own_means, metrics, config)
    state.epochs_done += 1


def _tensors_of(head: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that are not saved with the head too."""
    named = [*head.named_parameters(), *head.named_buffers()]
    return {name: tensor.detach() for name, tensor in named}


@torch.no_grad()
def _reset(heads: Sequence[nn.Module], initial: Sequence[dict[str, Tensor]]) -> None:
    for head, tensors in zip(heads, initial, strict=True):
        for name, tensor in _tensors_of(head).items():
            tensor.copy_(tensors[name])
