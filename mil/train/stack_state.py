"""The state of the training of a stack, and its part of a checkpoint."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mil.config import TrainConfig
from mil.train.random_state import RandomState
from mil.train.stack import HeadGroup, Single, Stack
from mil.train.state import Checkpoint, History, Snapshot, weights_of


@dataclass
class Member:
    """One head of a stack, with what is its own.

    Attributes:
        head: Head in training.
        history: Losses and metrics so far.
        selected_weights: Weights of the best epoch; empty as long as none was selected.
        last_weights: Weights of its last epoch, once it is over.
        diverged_in: Epoch in which its loss became NaN or infinite; None: it is finite.
    """

    head: nn.Module
    history: History = field(default_factory=History)
    selected_weights: dict[str, Tensor] = field(default_factory=dict)
    last_weights: dict[str, Tensor] = field(default_factory=dict)
    diverged_in: int | None = None

    def is_over(self, config: TrainConfig) -> bool:
        """Whether nothing changes any more, though the head remains in its stack."""
        return self.diverged_in is not None or self.history.is_over(config)

    def end_epoch(
        self, means: dict[str, float], metrics: dict[str, float], config: TrainConfig
    ) -> None:
        """Add an epoch to the history, and keep the weights that it decides about.

        Args:
            means: Mean of each loss term.
            metrics: Validation metrics.
            config: Section `train` of the recipe.
        """
        if not all(map(math.isfinite, [*means.values(), *metrics.values()])):
            self.diverged_in = len(self.history.train) + 1
            self.selected_weights = {}
            return
        self.history.train.append(means)
        self.history.valid.append(metrics)
        if self.history.note_best(config.select) and config.select != "last":
            self.selected_weights = weights_of(self.head)
        if self.is_over(config):
            self.last_weights = weights_of(self.head)
            self.selected_weights = self.selected_weights or self.last_weights


class StackedState:
    """Everything that changes while heads are trained in stacks.

    Args:
        heads: Heads of one class and one set of options.
        head_seeds: Random seed of each.
        seed: Random seed of the order of bags.
        size: Most heads of a stack; 1: each is computed by itself.
        config: Section `train` of the recipe.

    Attributes:
        members: The heads.
        random_states: Random state of the dropout and masking of each head.
        stacks: Groups of the heads, in their order.
        rng: Random state of the order of bags and of their sampling.
        epochs_done: Number of epochs so far.
    """

    def __init__(
        self,
        heads: Sequence[nn.Module],
        head_seeds: Sequence[int],
        *,
        seed: int,
        size: int,
        config: TrainConfig,
    ) -> None:
        self.device = next(heads[0].parameters()).device
        self.members = [Member(head) for head in heads]
        self.random_states = [RandomState(head_seed, self.device) for head_seed in head_seeds]
        self.rng = torch.Generator().manual_seed(seed)
        self.epochs_done = 0
        bounds = [*range(0, len(heads), size), len(heads)]
        self.stacks: list[HeadGroup] = []
        for first, end in pairwise(bounds):
            states = self.random_states[first:end]
            make = Stack if end - first > 1 else Single
            self.stacks.append(make(heads[first:end], states, config))

    def is_over(self, config: TrainConfig) -> bool:
        """Whether all heads are over."""
        return all(member.is_over(config) for member in self.members)

    def histories(self) -> list[History]:
        """History of each head."""
        return [member.history for member in self.members]

    def save(self, checkpoint: Checkpoint) -> None:
        """Write everything at the end of an epoch."""
        tensors = {"chance/order": self.rng.get_state()}
        for number, stack in enumerate(self.stacks):
            tensors |= _prefixed(f"stack {number}", stack.tensors)
            tensors |= _prefixed(f"optimiser {number}", stack.optimiser.state())
        for number, member in enumerate(self.members):
            tensors |= _prefixed(f"chance {number}", self.random_states[number].tensors)
            tensors |= _prefixed(f"kept {number}", member.selected_weights)
            tensors |= _prefixed(f"last {number}", member.last_weights)
        facts = {
            "sizes": self._sizes(),
            "epochs_done": self.epochs_done,
            "histories": [_facts_of(member.history) for member in self.members],
            "diverged_in": [member.diverged_in for member in self.members],
            "scalers": [stack.scaler.state_dict() for stack in self.stacks],
        }
        checkpoint.save(Snapshot(tensors, facts))

    def restore(self, checkpoint: Checkpoint, epochs: int) -> None:
        """Resume from a checkpoint of the same training, if there is one.

        Args:
            checkpoint: Checkpoint of this training.
            epochs: Epochs of the whole training, for the message.
        """
        snapshot = checkpoint.load()
        # Heads that turn out to be no stack after all start over, one by one.
        if snapshot is None or snapshot.facts["sizes"] != self._sizes():
            return
        self.rng.set_state(snapshot.part("chance")["order"])
        for number, stack in enumerate(self.stacks):
            stack.restore(snapshot.part(f"stack {number}"))
            stack.optimiser.restore(snapshot.part(f"optimiser {number}"))
            if stack.scaler.is_enabled():
                stack.scaler.load_state_dict(snapshot.facts["scalers"][number])
        for number, member in enumerate(self.members):
            self.random_states[number].tensors = snapshot.part(f"chance {number}")
            member.selected_weights = self._on_device(snapshot.part(f"kept {number}"))
            member.last_weights = self._on_device(snapshot.part(f"last {number}"))
            member.history = _history_of(snapshot.facts["histories"][number])
            member.diverged_in = snapshot.facts["diverged_in"][number]
        self.epochs_done = snapshot.facts["epochs_done"]
        checkpoint.report_resumed(self.epochs_done, epochs)

    def release(self) -> None:
        """Leave each head with the weights of its last epoch, in tensors of its own."""
        for stack in self.stacks:
            stack.release()
        for member in self.members:
            if member.last_weights:
                member.head.load_state_dict(member.last_weights)

    def _sizes(self) -> list[int]:
        return [len(stack.heads) for stack in self.stacks]

    def _on_device(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.device) for name, tensor in tensors.items()}


def _prefixed(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}/{name}": tensor for name, tensor in tensors.items()}


def _facts_of(history: History) -> dict[str, Any]:
    """History as JSON values, which know no infinity: without an epoch, no score."""
    facts = asdict(history)
    return facts if history.best_epoch else {**facts, "best_score": None}


def _history_of(facts: dict[str, Any]) -> History:
    if facts["best_score"] is None:
        return History(**{**facts, "best_score": float("-inf")})
    return History(**facts)
