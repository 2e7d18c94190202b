"""Which heads can be trained as a stack, and how many at once."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mil.bags import Bags
from mil.config import LossWeight, TrainConfig
from mil.kernels.dispatch import reference_alone
from mil.losses import total_loss
from mil.tasks import AnyTask
from mil.train.data import BagSource, collate, in_order
from mil.train.loop import TrainingData
from mil.train.precision import HALF, choose_dtype, forward_autocast
from mil.train.random_state import RandomState, restored
from mil.train.sampling import sample_tiles
from mil.train.stack import Stack

# Memory for what the gradient of one batch needs, of all heads of a stack, bytes.
STACK_BYTES = 1 << 30
# The same of a single head from which on a stack is not faster: its products are large
# enough by themselves, and the fused operations of a single head save memory traffic.
LARGEST_HEAD_BYTES = 24 << 20
# Heads from which on a stack is faster: vmap takes some milliseconds of each batch.
LEAST_HEADS = 3
TRIAL_BAGS = 2
TRIAL_TILES = 64
# Differences of losses that are rounding.
TOLERANCE = 1e-4
HALF_TOLERANCE = 5e-2


class StackSize(NamedTuple):
    """Size of a stack and of its batches.

    Attributes:
        heads: Heads at once; 1: they are trained apart.
        valid_bags: Validation bags at once.
    """

    heads: int
    valid_bags: int


def choose_size(
    heads: Sequence[nn.Module],
    data: TrainingData,
    losses: Mapping[str, LossWeight],
    config: TrainConfig,
) -> StackSize:
    """Number of heads that are trained as one stack.

    Args:
        heads: Heads of one class and one set of options.
        data: Training and validation bags.
        losses: Weight of each loss term.
        config: Section `train` of the recipe.
    """
    apart = StackSize(heads=1, valid_bags=1)
    if len(heads) < LEAST_HEADS or not can_stack(heads[0], data, losses, config):
        return apart
    tiles_of_bag = _tiles_of(data.train, config.max_tiles)
    order = sorted(range(len(tiles_of_bag)), key=lambda bag: -tiles_of_bag[bag])
    largest = order[: config.batch_bags]
    rng = torch.Generator().manual_seed(0)
    bags = (sample_tiles(bag, config.max_tiles, rng) for bag in in_order(data.train, largest))
    dtype = choose_dtype(config.precision, data.device)
    batch, targets = next(collate(bags, config.batch_bags, data.device, dtype))
    head_bytes = _saved_bytes(heads[0], batch, targets, losses, data.task)
    if head_bytes > LARGEST_HEAD_BYTES:
        return apart
    most = max(1, STACK_BYTES // max(head_bytes, 1))
    num_stacks = -(-len(heads) // most)
    largest_valid = max(_tiles_of(data.valid, None), default=1)
    return StackSize(
        # Stacks of equal size.
        heads=-(-len(heads) // num_stacks),
        valid_bags=max(1, len(batch.features) // largest_valid),
    )


def can_stack(
    head: nn.Module,
    data: TrainingData,
    losses: Mapping[str, LossWeight],
    config: TrainConfig,
) -> bool:
    """Whether heads of this kind give in a stack what they give apart.

    A trial decides: losses and logits of two copies of the head, on a few tiles. Heads
    whose computation depends on the values of a head, or that draw random numbers in a
    way that `mil.train.stack_functions` does not know, cannot be stacked.

    Args:
        head: Head; it is not changed.
        data: Training bags.
        losses: Weight of each loss term.
        config: Section `train` of the recipe.
    """
    # Scaling of the loss would have to be per head.
    if config.precision == "fp16":
        return False
    dtype = choose_dtype(config.precision, data.device)
    batch, targets = _trial_batch(data, dtype)
    weights = {name: weight.start for name, weight in losses.items()}
    copies = [deepcopy(head), deepcopy(head)]
    with torch.no_grad():
        for parameter in copies[1].parameters():
            parameter.mul_(1.1)
    tolerance = HALF_TOLERANCE if dtype in HALF else TOLERANCE
    with restored(data.device):
        try:
            apart = _apart(copies, weights, batch, targets, data.task)
            stacked = _stacked(copies, weights, batch, targets, data.task, config)
        # A head of another package may raise anything; trained apart it will say what.
        except Exception:  # noqa: BLE001
            return False
    return all(
        torch.allclose(mine, other, rtol=tolerance, atol=tolerance)
        for mine, other in zip(stacked, apart, strict=True)
    )


def _trial_batch(data: TrainingData, dtype: torch.dtype) -> tuple[Bags, Tensor]:
    rng = torch.Generator().manual_seed(0)
    indices = range(min(TRIAL_BAGS, len(data.train)))
    bags = (sample_tiles(bag, TRIAL_TILES, rng) for bag in in_order(data.train, indices))
    return next(collate(bags, TRIAL_BAGS, data.device, dtype))


def _apart(
    heads: Sequence[nn.Module],
    weights: Mapping[str, float],
    batch: Bags,
    targets: Tensor,
    task: AnyTask,
) -> list[Tensor]:
    """Losses of each head, and logits in evaluation mode."""
    losses: list[Tensor] = []
    logits: list[Tensor] = []
    whole = batch._replace(features=batch.features.float())
    for seed, head in enumerate(heads):
        torch.manual_seed(seed)
        loss, _ = total_loss(weights, forward_autocast(head.train(), batch), batch, targets, task)
        loss.backward()
        losses.append(loss.detach())
        with torch.inference_mode():
            logits.append(head.eval()(whole).logits)
    return [torch.stack(losses), torch.stack(logits)]


def _stacked(
    heads: Sequence[nn.Module],
    weights: Mapping[str, float],
    batch: Bags,
    targets: Tensor,
    task: AnyTask,
    config: TrainConfig,
) -> list[Tensor]:
    """The same of a stack of the heads."""
    states = [RandomState(seed, batch.features.device) for seed in range(len(heads))]
    stack = Stack(heads, states, config)
    loss, _ = stack.losses(weights, batch, targets, task)
    loss.sum().backward()
    with torch.inference_mode():
        logits = stack.logits(batch._replace(features=batch.features.float()))
    return [loss.detach(), logits]


def _saved_bytes(
    head: nn.Module,
    batch: Bags,
    targets: Tensor,
    losses: Mapping[str, LossWeight],
    task: AnyTask,
) -> int:
    """Memory that the gradient of a batch needs in a stack, bytes of one head."""
    shared = {tensor.data_ptr() for tensor in [*head.parameters(), *head.buffers(), *batch[:2]]}
    bytes_of: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in shared:
            bytes_of[tensor.data_ptr()] = tensor.nbytes
        return tensor

    weights = {name: weight.start for name, weight in losses.items()}
    hooks = saved_tensors_hooks(note, lambda tensor: tensor)
    with restored(batch.features.device), reference_alone(), hooks:
        output = forward_autocast(head.train(), batch)
        loss, _ = total_loss(weights, output, batch, targets, task)
    del loss
    return sum(bytes_of.values())


def _tiles_of(bags: BagSource, max_tiles: int | None) -> list[int]:
    tiles = [len(bag.features) for bag in in_order(bags, range(len(bags)))]
    return tiles if max_tiles is None else [min(count, max_tiles) for count in tiles]
