"""Training of several heads of one recipe at once: `fit_stack`.

Restarts of one training see the same batches in the same order and differ in their
initialisation alone. Each head has its own losses, history and selected epoch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mil.config import LossWeight, TrainConfig
from mil.tasks import AnyTask
from mil.train.data import batches
from mil.train.loop import (
    DivergedError,
    FitResult,
    ScheduledBatch,
    TrainingData,
    fit,
    scheduled_batches,
)
from mil.train.stack import Stack
from mil.train.stack_size import choose_size
from mil.train.stack_state import Member, StackedState
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
    are trained by `fit` one after another.

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
    if size.heads == 1:
        members = _fit_apart(heads, data, losses, config, seed, head_seeds, checkpoint, report)
    else:
        state = StackedState(heads, head_seeds, seed=seed, size=size.heads, config=config)
        _fit_stacked(state, data, losses, config, size.valid_bags, checkpoint, report)
        members = state.members
    diverged = [member.diverged_in for member in members if member.diverged_in is not None]
    if len(diverged) == len(members):
        raise DivergedError(diverged[-1])
    return [FitResult(member.selected_weights, member.history) for member in members]


def _fit_apart(
    heads: Sequence[nn.Module],
    data: TrainingData,
    losses: Mapping[str, LossWeight],
    config: TrainConfig,
    seed: int,
    head_seeds: Sequence[int],
    checkpoint: Checkpoint | None,
    report: Report,
) -> list[Member]:
    """Train the heads one after another."""
    members = [Member(head) for head in heads]
    for number, (member, head_seed) in enumerate(zip(members, head_seeds, strict=True)):

        def report_member(history: History, member: Member = member) -> None:
            member.history = history
            report([each.history for each in members])

        torch.manual_seed(head_seed)
        own_checkpoint = None if checkpoint is None else checkpoint.of_restart(number)
        try:
            result = fit(
                member.head,
                data,
                losses,
                config,
                seed=seed,
                checkpoint=own_checkpoint,
                report=report_member,
            )
        except DivergedError as error:
            member.diverged_in = error.epoch
        else:
            member.selected_weights = result.weights
    return members


def _fit_stacked(
    state: StackedState,
    data: TrainingData,
    losses: Mapping[str, LossWeight],
    config: TrainConfig,
    valid_bags: int,
    checkpoint: Checkpoint | None,
    report: Report,
) -> None:
    """Train all heads of a state, epoch by epoch."""
    if checkpoint is not None:
        state.restore(checkpoint, config.epochs)
        report([member.history for member in state.members])
    # After a resume this may be over at once.
    while not state.is_over(config):
        terms = _train_epoch(state, data, losses, config)
        means = {name: values.tolist() for name, values in terms.items()}
        valid = _valid_logits(state, data, valid_bags) if data.valid else None
        state.epochs_done += 1
        for number, member in enumerate(state.members):
            # Its history and weights are those of the epoch in which it ended.
            if member.is_over(config):
                continue
            metrics: dict[str, float] = {}
            if valid is not None:
                metrics = _metrics(valid.logits[number], valid.targets, data, config)
            own_means = {name: values[number] for name, values in means.items()}
            member.end_epoch(own_means, metrics, config)
        if checkpoint is not None and checkpoint.is_due(state.is_over(config)):
            state.save(checkpoint)
        report([member.history for member in state.members])
    state.release()


def _train_epoch(
    state: StackedState,
    data: TrainingData,
    losses: Mapping[str, LossWeight],
    config: TrainConfig,
) -> dict[str, Float[Tensor, " heads"]]:
    """Mean of each loss term over the batches of one epoch, of each head."""
    terms_of_batches: list[dict[str, Tensor]] = []
    for batch in scheduled_batches(data, losses, config, state.rng, state.epochs_done):
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
    stack: Stack, batch: ScheduledBatch, task: AnyTask, config: TrainConfig
) -> dict[str, Float[Tensor, " heads"]]:
    """Gradient of one batch, and a step where the batch ends one; the loss terms."""
    loss, terms = stack.losses(batch.loss_weights, batch.bags, batch.targets, task)
    # Gradients add up until the step's last batch.
    if batch.begins_step:
        stack.optimiser.zero_grad()
    # No head depends on the loss of another: the gradient of the sum is that of each.
    # A loss that is not a number spoils its own head alone.
    (loss if batch.share == 1 else loss * batch.share).sum().backward()
    if batch.ends_step:
        if config.clip_norm is not None:
            stack.clip(config.clip_norm)
        stack.step(batch.lr)
    return {**terms, "loss": loss.detach()}


class ValidLogits(NamedTuple):
    """Logits of all validation bags, and their targets."""

    logits: Float[Tensor, "heads bags outputs"]
    targets: Shaped[Tensor, "bags ..."]


@torch.inference_mode()
def _valid_logits(state: StackedState, data: TrainingData, bags_at_once: int) -> ValidLogits:
    logits: list[Tensor] = []
    targets: list[Tensor] = []
    for bags, target in batches(data.valid, bags_at_once, data.device):
        logits.append(torch.cat([stack.logits(bags) for stack in state.stacks]))
        targets.append(target)
    return ValidLogits(torch.cat(logits, 1), torch.cat(targets))


def _metrics(
    logits: Tensor, targets: Tensor, data: TrainingData, config: TrainConfig
) -> dict[str, float]:
    """Validation metrics of one head; without a loss where its logits are not numbers."""
    if not torch.isfinite(logits).all():
        return {"loss": math.nan}
    return validation_metrics(logits, targets, data.task, config.select)
