"""The training loop: `fit`, one epoch, one step."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from mil.bags import Bags
from mil.config import LossWeight, TrainConfig
from mil.errors import ConfigError, DatasetError
from mil.heads import FollowsSteps
from mil.losses import total_loss
from mil.tasks import AnyTask
from mil.train.data import BagSource
from mil.train.optim import make_optimiser
from mil.train.precision import forward_autocast
from mil.train.sampling import bags_per_epoch, training_batches
from mil.train.schedule import scheduled
from mil.train.state import Checkpoint, History, TrainingState
from mil.train.validate import validate

# Largest block of memory that is reused between steps, bytes. Larger ones belong to
# large bags, and are returned to the system: blocks of many sizes fragment memory.
LARGEST_REUSED_BLOCK = 64 << 20


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Bags that a head is trained and validated with.

    Attributes:
        task: Task of the head; the labels of the bags are its targets.
        train: Training bags.
        train_labels: Label of each training bag as a string, for balanced sampling.
        valid: Validation bags; there may be none.
        device: Device of the head and its batches.
    """

    task: AnyTask
    train: BagSource
    train_labels: Sequence[str]
    valid: BagSource
    device: torch.device

    def batches(self, config: TrainConfig, rng: torch.Generator) -> Iterable[tuple[Bags, Tensor]]:
        """Batches of one epoch, `config.batch_bags` bags each."""
        return training_batches(self.train, self.train_labels, config, self.device, rng)

    def bags_per_epoch(self, config: TrainConfig) -> int:
        """Number of bags in the batches of one epoch."""
        return bags_per_epoch(self.train_labels, config)

    def validate(self, head: nn.Module, select: str) -> dict[str, float]:
        """Validation metrics of a head in evaluation mode, with its `score`."""
        return validate(head, self.valid, self.task, select, self.device)


class FitResult(NamedTuple):
    """Result of `fit`; the head itself is left with the weights of the last epoch.

    Attributes:
        weights: Weights of the selected epoch; none of a head that diverged.
        history: Losses and metrics by epoch.
    """

    weights: dict[str, Tensor]
    history: History

    @property
    def failed(self) -> bool:
        """Whether a loss or metric became NaN or infinite; `fit` itself raises instead."""
        return not self.weights


class DivergedError(DatasetError):
    """A loss or metric is NaN or infinite.

    Args:
        epoch: Epoch in which it became so, from 1.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        super().__init__(
            f"training, epoch {epoch}: the loss is not a number; lower train.lr in the recipe"
        )


def fit(
    head: nn.Module,
    data: TrainingData,
    losses: Mapping[str, LossWeight],
    config: TrainConfig,
    *,
    seed: int,
    checkpoint: Checkpoint | None = None,
    report: Callable[[History], object] = lambda _: None,
) -> FitResult:
    """Train a head and select its best epoch.

    Args:
        head: Head, trained in place.
        data: Training and validation bags. Without validation bags the last epoch is
            selected.
        losses: Weight of each loss term.
        config: Section `train` of the recipe.
        seed: Random seed for the order of bags and their sampling. Dropout and masking
            in a head draw from torch's own random state.
        checkpoint: Checkpoint to resume from and to save between epochs.
        report: Called with the history after each epoch, and when training resumes.

    Raises:
        ConfigError: No loss term depends on the head.
        DivergedError: A loss or metric is NaN or infinite, from which no training
            recovers.
    """
    if not data.valid:
        config = config.model_copy(update={"select": "last"})
    # Gradients in fp16 would underflow; bf16 has the range of float32.
    scaler = GradScaler(next(head.parameters()).device.type, enabled=config.precision == "fp16")
    rng = torch.Generator().manual_seed(seed)
    state = TrainingState(head, make_optimiser(head, config), scaler, rng)
    if checkpoint is not None:
        state.restore(checkpoint, config.epochs)
        report(state.history)

    # After a resume this may be over at once.
    history = state.history
    while not history.is_over(config):
        epoch = len(history.train) + 1
        means = _train_epoch(state, data, losses, config)
        history.train.append(_check_finite(means, epoch))
        metrics = data.validate(head.eval(), config.select)
        history.valid.append(_check_finite(metrics, epoch))
        # The last weights are copied once, at the end.
        if history.note_best(config.select) and config.select != "last":
            state.select_weights()
        if checkpoint is not None and checkpoint.is_due(history.is_over(config)):
            state.save(checkpoint)
        report(history)

    if not state.selected_weights:
        state.select_weights()
    return FitResult(state.selected_weights, history)


def check_differentiable(loss: Tensor, losses: Iterable[str]) -> None:
    """Check that a loss depends on the head.

    Raises:
        ConfigError: It does not: the head has no output for any of the terms.
    """
    if not loss.requires_grad:
        raise ConfigError(
            f"losses {', '.join(losses)}: this head has no output for these terms; "
            "add cross_entropy"
        )


def _train_epoch(
    state: TrainingState,
    data: TrainingData,
    losses: Mapping[str, LossWeight],
    config: TrainConfig,
) -> dict[str, float]:
    """Mean of each loss term over the batches of one epoch."""
    head = state.head.train()
    epochs_done = len(state.history.train)
    terms_of_batches: list[dict[str, Tensor]] = []
    batches = data.batches(config, state.rng)
    num_bags = data.bags_per_epoch(config)
    for batch in scheduled(batches, num_bags, losses, config, epochs_done):
        # The output has no name, so that it does not outlive its loss.
        loss, terms = total_loss(
            batch.loss_weights,
            forward_autocast(head, batch.bags),
            batch.bags,
            batch.targets,
            data.task,
        )
        check_differentiable(loss, losses)
        terms_of_batches.append({**terms, "loss": loss.detach()})
        # Gradients add up until the step's last batch.
        if batch.begins_step:
            state.optimiser.zero_grad()
        state.scaler.scale(loss if batch.share == 1 else loss * batch.share).backward()
        if batch.ends_step:
            _step(state, batch.lr, config.clip_norm)
    # Once an epoch: each conversion to a number makes a GPU wait.
    return {
        name: float(torch.stack([terms[name] for terms in terms_of_batches]).mean())
        for name in terms_of_batches[0]
    }


def _step(state: TrainingState, lr: float, clip_norm: float | None) -> None:
    # The scaler is annotated for torch's optimisers; ours has the methods that it calls.
    optimiser = cast(Any, state.optimiser)
    optimiser.param_groups[0]["lr"] = lr
    if clip_norm is not None:
        # Clipping is of the true gradient, not of the scaled one.
        state.scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(state.head.parameters(), clip_norm)
    state.scaler.step(optimiser)
    state.scaler.update()
    # Such as a teacher that follows its student.
    if isinstance(state.head, FollowsSteps):
        state.head.after_step()


def _check_finite(values: dict[str, float], epoch: int) -> dict[str, float]:
    if not all(map(math.isfinite, values.values())):
        raise DivergedError(epoch)
    return values
