"""Bags split over processes: each holds a share of the tiles, and all get the whole bag's answer.

For bags beyond the memory of one GPU. The processes are those of `torch.distributed`.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn

from mil.bags import Bags, HeadOutput
from mil.errors import ConfigError
from mil.heads import InShards
from mil.heads._shards import Shards

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def forward_shard(head: nn.Module, bags: Bags, group: "ProcessGroup | None" = None) -> HeadOutput:
    """Apply a head to bags of which this process holds a share of the tiles.

    Every process calls it, with the same bags in the same order. Losses and
    `average_gradients` then give each of them the gradients of the whole bags.

    Args:
        head: A head with the same parameters in every process.
        bags: This process's tiles of each bag; a bag may have none here, if it has some in
            another process.
        group: The processes; None: all of `torch.distributed`.

    Returns:
        Logits of the whole bags, the same in every process, and the scores of this
        process's tiles. Statistics of the attention are those of the whole bags.

    Raises:
        ConfigError: The head needs all tiles of a bag in one process.
    """
    if not isinstance(head, InShards):
        name = type(head).__module__.rpartition(".")[2]
        raise ConfigError(
            f"head {name}: needs all tiles of a bag in one process; heads that pool tiles by "
            "attention, such as abmil, do not"
        )
    return head.forward_shard(bags, Shards(group))


def average_gradients(head: nn.Module, group: "ProcessGroup | None" = None) -> None:
    """Replace each gradient of a head by its mean over the processes.

    Args:
        head: A head whose loss was differentiated in every process.
        group: The processes; None: all of `torch.distributed`.
    """
    import torch.distributed as dist

    count = dist.get_world_size(group)
    for parameter in head.parameters():
        if not parameter.requires_grad:
            continue
        # All processes must take part in each sum.
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad, group=group)
        parameter.grad /= count
