"""Loss weights, learning rate and optimiser step of each batch of an epoch."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from mil.bags import Bags
from mil.config import LossWeight, TrainConfig
from mil.train.optim import learning_rate, loss_weight


class ScheduledBatch(NamedTuple):
    """One batch of an epoch, with the values that depend on its place in the training.

    Attributes:
        bags: Concatenated bags.
        targets: Their stacked targets.
        loss_weights: Weight of each loss term.
        share: Fraction of the bags of its optimiser step that the batch has.
        begins_step: Whether it is the first batch of an optimiser step.
        ends_step: Whether it is the last one.
        lr: Learning rate of the step.
    """

    bags: Bags
    targets: Tensor
    loss_weights: dict[str, float]
    share: float
    begins_step: bool
    ends_step: bool
    lr: float


def scheduled(
    batches: Iterable[tuple[Bags, Tensor]],
    num_bags: int,
    losses: Mapping[str, LossWeight],
    config: TrainConfig,
    epochs_done: int,
) -> Iterator[ScheduledBatch]:
    """Batches of one epoch with their loss weights and learning rates.

    Args:
        batches: Batches of the epoch, `config.batch_bags` bags each.
        num_bags: Number of bags in them.
        losses: Weight of each loss term.
        config: Section `train` of the recipe.
        epochs_done: Number of epochs before this one.
    """
    bags_per_step = config.batch_bags * config.accumulate
    # Rounded up: the last step may have fewer bags.
    num_steps = -(-num_bags // bags_per_step)
    for index, (bags, targets) in enumerate(batches):
        step, position = divmod(index, config.accumulate)
        epoch = epochs_done + step / num_steps
        # Accumulated batches count by their bags: the gradient is that of one large
        # batch, also where the last batch or the last step is smaller.
        bags_in_step = min(bags_per_step, num_bags - step * bags_per_step)
        yield ScheduledBatch(
            bags=bags,
            targets=targets,
            loss_weights={
                name: loss_weight(weight, epoch, config.epochs) for name, weight in losses.items()
            },
            share=len(targets) / bags_in_step,
            begins_step=position == 0,
            ends_step=position * config.batch_bags + len(targets) == bags_in_step,
            lr=learning_rate(config, epoch),
        )
