"""Values that change from step to step. Progress is in epochs, fractional: epoch + step / steps per epoch."""

import math

from mil.config import LossWeight, TrainConfig


def learning_rate(config: TrainConfig, epoch: float) -> float:
    """Linear warm-up, then half a cosine from `lr` to `min_lr` (ACMIL, heads' published schedule)."""
    if epoch < config.warmup_epochs:
        return config.lr * epoch / config.warmup_epochs
    falling = config.epochs - config.warmup_epochs
    share = (epoch - config.warmup_epochs) / falling if falling > 0 else 0.0
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (
        1 + math.cos(math.pi * min(share, 1.0))
    )


def loss_weight(weight: LossWeight, epoch: float, epochs: int) -> float:
    """Constant, or half a cosine from `start` to `end` over the whole training (AEM's annealing)."""
    if weight.end is None:
        return weight.start
    return weight.end + (weight.start - weight.end) * 0.5 * (
        1 + math.cos(math.pi * min(epoch / epochs, 1.0))
    )
