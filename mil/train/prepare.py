"""What some heads ask for before they are trained."""

from collections.abc import Callable, Iterator

from torch import nn

from mil.bags import Bags
from mil.config import LossWeight
from mil.heads import TwoStage, UsesGraph
from mil.train.bags import Source, batches

FIRST_STAGE = {"cross_entropy": LossWeight(start=1.0)}  # losses of a first head


def prepare(head: nn.Module, train: Source, train_first: Callable[[nn.Module], None]) -> None:
    """Train the first head of a two-stage head, and let a head see the training bags if it wants to.

    Args:
        head: to be trained afterwards; graphs of its bags can be made when this is
            done.
        train: the training bags.
        train_first: trains a head in place with `FIRST_STAGE` and leaves it with the
            weights to keep.
    """
    device = next(head.parameters()).device

    def one_by_one() -> Iterator[Bags]:
        return (bags for bags, _ in batches(train, 1, device))

    if isinstance(head, TwoStage):
        first = head.first_stage().to(device)
        train_first(first)
        head.follow(first.eval(), one_by_one())
    if isinstance(head, UsesGraph):
        head.see_training(one_by_one())
