"""Restarts: heads trained on the same batches from different initialisations."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mil.config import LossWeight, TrainConfig
from mil.train.loop import FitResult, TrainingData, fit
from mil.train.state import Checkpoint, History, restore_torch
from mil.trained import Member


def fit_members(
    heads: Sequence[nn.Module],
    data: TrainingData,
    losses: Mapping[str, LossWeight],
    config: TrainConfig,
    *,
    seed: int,
    head_seeds: Sequence[int],
    head_states: Sequence[Mapping[str, Tensor]] | None = None,
    checkpoints: Sequence[Checkpoint] | None = None,
    report: Callable[[int, History], object] = lambda *_: None,
) -> list[FitResult]:
    """Train heads on the same batches, one after another.

    Args:
        heads: Heads, trained in place.
        data: Training and validation bags.
        losses: Weight of each loss term.
        config: Section `train` of the recipe.
        seed: Random seed of the order of bags and their sampling.
        head_seeds: Random seed of each head's dropout and masking.
        head_states: Torch's random states after each head was initialised, from which
            its dropout and masking draw on; None: those of its seed.
        checkpoints: Checkpoint of each head; None: none.
        report: Called with a head's index and its history after each of its epochs.

    Raises:
        ConfigError: No loss term depends on the heads.
        DatasetError: A loss or metric is NaN or infinite.
    """
    results: list[FitResult] = []
    for index, head in enumerate(heads):
        if head_states is None:
            torch.manual_seed(head_seeds[index])
        else:
            restore_torch(head_states[index], data.device)
        result = fit(
            head,
            data,
            losses,
            config,
            seed=seed,
            checkpoint=None if checkpoints is None else checkpoints[index],
            report=partial(report, index),
        )
        results.append(result)
    return results


def validation_loss(history: History) -> float | None:
    """Validation loss of the selected epoch, nats; None without validation bags."""
    metrics = history.valid[history.best_epoch - 1] if history.valid else {}
    return metrics.get("loss")


def kept_restarts(members: Sequence[Member], keep_within: float) -> list[int]:
    """Positions of the restarts to keep, the one of least validation loss first.

    Args:
        members: Restarts of one part.
        keep_within: Margin above the least loss within which others are kept too, nats.
    """
    losses = [member.validation_loss for member in members]
    known = [loss for loss in losses if loss is not None]
    if len(known) < len(losses):
        return [0]
    # Stable: of equal losses the first restart is the best.
    by_loss = sorted(range(len(known)), key=known.__getitem__)
    if keep_within == 0:
        return by_loss[:1]
    return [position for position in by_loss if known[position] <= min(known) + keep_within]
