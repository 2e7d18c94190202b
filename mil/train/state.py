"""All that changes while a head is trained, and how it is kept in a checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from mil.config import TrainConfig
from mil.train.checkpoint import Checkpoint, chance_state, restore_chance
from mil.train.optimiser import AdamW


@dataclass
class History:
    """What happened: mean of each loss term and what validation said, epoch by epoch."""

    train: list[dict[str, float]] = field(default_factory=list)
    valid: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0  # from 1
    best_score: float = float("-inf")

    def is_over(self, config: TrainConfig) -> bool:
        """Whether all epochs are done, or so many without a better one that no more is waited for."""
        done = len(self.train)
        return done >= config.epochs or (
            config.patience is not None and done - self.best_epoch >= config.patience
        )


@dataclass
class Training:
    """A head, its optimiser, what happened so far and where chance stands."""

    head: nn.Module
    optimiser: AdamW
    scaler: GradScaler
    order: torch.Generator | None  # of the bags
    history: History = field(default_factory=History)
    kept: dict[str, Tensor] = field(
        default_factory=dict
    )  # weights of the best epoch; none yet where the last is kept

    def keep(self) -> None:
        """Keep the weights as they are now."""
        self.kept = weights_of(self.head)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write everything at the end of an epoch."""
        parts = {
            "head": self.head.state_dict(),
            "besides": self._besides(),
            "kept": self.kept,
            "optimiser": self.optimiser.state(),
            "chance": chance_state(self._device, self.order),
        }
        tensors = {
            f"{part}/{name}": tensor for part, of in parts.items() for name, tensor in of.items()
        }
        checkpoint.save(
            tensors, {"history": asdict(self.history), "scaler": self.scaler.state_dict()}
        )

    def restore(self, checkpoint: Checkpoint, epochs: int) -> None:
        """Go on from what was saved of the same training, if anything was."""
        saved = checkpoint.load()
        if saved is None:
            return
        self.head.load_state_dict(_part(saved.tensors, "head"))
        for name, buffer in self._besides().items():
            buffer.copy_(saved.tensors[f"besides/{name}"])
        self.optimiser.restore(_part(saved.tensors, "optimiser"))
        self.kept = {
            name: tensor.to(self._device) for name, tensor in _part(saved.tensors, "kept").items()
        }
        self.history = History(**saved.facts["history"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(saved.facts["scaler"])
        restore_chance(_part(saved.tensors, "chance"), self._device, self.order)
        checkpoint.taken_up(len(self.history.train), epochs)

    def _besides(self) -> dict[str, Tensor]:
        """Buffers that are not saved with a head, such as a count of its steps."""
        saved = self.head.state_dict()
        return {name: buffer for name, buffer in self.head.named_buffers() if name not in saved}

    @property
    def _device(self) -> torch.device:
        return next(self.head.parameters()).device


def weights_of(head: nn.Module) -> dict[str, Tensor]:
    """A copy of everything that is saved with a head."""
    return {name: tensor.detach().clone() for name, tensor in head.state_dict().items()}


def _part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(f"{name}/"): tensor
        for key, tensor in tensors.items()
        if key.startswith(f"{name}/")
    }
