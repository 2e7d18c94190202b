"""Which bag comes when: the order of an epoch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mil.config import TrainConfig


def epoch_length(labels: Sequence[str], config: TrainConfig) -> int:
    """How many bags an epoch has.

    Args:
        labels: of each bag.
        config: how is sampled.
    """
    if config.sampling == "shuffle":
        return len(labels)
    present = len(set(labels))
    return present * (len(labels) // present)


def epoch_order(labels: Sequence[str], config: TrainConfig, chance: torch.Generator) -> list[int]:
    """Numbers of the bags in the order of one epoch.

    Shuffled, each comes once. Balanced, each class comes equally often: of a class with
    more bags than its share some are left out this time, and those of a smaller one
    come again, each as often as any other or once more. Classes are told apart by who
    comes first, not by name.
    """
    if config.sampling == "shuffle":
        return torch.randperm(len(labels), generator=chance).tolist()
    members = [
        torch.tensor([i for i, one in enumerate(labels) if one == c]) for c in dict.fromkeys(labels)
    ]
    share = len(labels) // len(members)
    drawn = torch.cat([_drawn(of_class, share, chance) for of_class in members])
    return drawn[torch.randperm(len(drawn), generator=chance)].tolist()


def _drawn(members: Tensor, count: int, chance: torch.Generator) -> Tensor:
    rounds = -(-count // len(members))
    return torch.cat(
        [members[torch.randperm(len(members), generator=chance)] for _ in range(rounds)]
    )[:count]
