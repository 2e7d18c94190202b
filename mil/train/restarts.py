"""Restarts of a training: the same batches, other initialisations; the best are kept."""

from collections.abc import Sequence

from mil.train.loop import FitResult
from mil.trained import MemberRecord


def validation_loss(result: FitResult) -> float | None:
    """Validation loss of the selected epoch, nats.

    None without validation bags, and of a training that diverged.
    """
    if result.failed:
        return None
    history = result.history
    metrics = history.valid[history.best_epoch - 1] if history.valid else {}
    return metrics.get("loss")


def kept_restarts(members: Sequence[MemberRecord], keep_within: float) -> list[int]:
    """Positions of the restarts to keep, the one of least validation loss first.

    Args:
        members: Restarts of one part.
        keep_within: Margin above the least loss within which others are kept too, nats.
    """
    losses = {
        position: member.validation_loss
        for position, member in enumerate(members)
        if member.validation_loss is not None
    }
    # One training without validation bags.
    if not losses:
        return [0]
    # Stable: of equal losses the first restart is the best.
    by_loss = sorted(losses, key=losses.__getitem__)
    if keep_within == 0:
        return by_loss[:1]
    largest = losses[by_loss[0]] + keep_within
    return [position for position in by_loss if losses[position] <= largest]
