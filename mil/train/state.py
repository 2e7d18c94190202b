"""The state of a training, and the checkpoint file from which it resumes.

While a head is trained, `checkpoint.safetensors` in its folder holds everything that
the next epoch depends on. A resumed training ends in the same bits.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.amp import GradScaler

from mil.config import TrainConfig
from mil.errors import brief
from mil.io.atomic import atomic_path
from mil.io.disk import raise_of_machine
from mil.train.checksum import snapshot_checksum
from mil.train.optim import AdamW

# Format and version, and the key of the JSON in the metadata of the file.
FORMAT = "mil.checkpoint 1"
# Training time that may be lost, besides the current epoch, seconds. Writing a
# checkpoint takes 0.05 to 0.4 s.
EVERY_S = 20.0


@dataclass
class History:
    """Mean of each loss term and validation metrics by epoch, and the best epoch."""

    train: list[dict[str, float]] = field(default_factory=list)
    valid: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0  # From 1; 0: no epoch yet.
    best_score: float = float("-inf")

    def is_over(self, config: TrainConfig) -> bool:
        """Whether all epochs are done, or `patience` epochs passed without a better one."""
        num_epochs = len(self.train)
        if num_epochs >= config.epochs:
            return True
        return config.patience is not None and num_epochs - self.best_epoch >= config.patience

    def note_best(self, select: str) -> bool:
        """Whether the epoch that was just added is the best one; it is noted then.

        Args:
            select: `last`: each epoch is better than the one before; else the `score` of
                the validation decides.
        """
        epoch = len(self.train)
        score = float(epoch) if select == "last" else self.valid[-1]["score"]
        if score <= self.best_score:
            return False
        self.best_epoch = epoch
        self.best_score = score
        return True


@dataclass(frozen=True)
class Snapshot:
    """Content of a checkpoint file.

    Attributes:
        tensors: Tensors by `PART/NAME`.
        facts: The rest, as JSON values, such as the history up to the last epoch.
    """

    tensors: dict[str, Tensor]
    facts: Mapping[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """Tensors of one part by their names there."""
        prefix = f"{name}/"
        return {
            key.removeprefix(prefix): tensor
            for key, tensor in self.tensors.items()
            if key.startswith(prefix)
        }


class Checkpoint:
    """Checkpoint file of one training; no other training resumes from it.

    Args:
        path: File of the checkpoint.
        inputs: Everything that decides the last bit of the weights, as JSON values.
        title: Name of the training in messages.
        save_last: Whether to save after the last epoch in any case, because another
            training follows before the head is saved.
    """

    def __init__(
        self, path: Path, inputs: Mapping[str, object], title: str, *, save_last: bool = False
    ) -> None:
        self.path = path
        self.title = title
        self._save_last = save_last
        self.digest = digest_of_inputs(inputs)
        # Monotonic, since the clock of a machine may be set while it trains.
        self._saved_at = monotonic()

    def load(self) -> Snapshot | None:
        """Snapshot of this training; None, with a message, if the file is another's."""
        if not self.path.exists():
            return None
        try:
            # Tensors and JSON alone: nothing is unpickled.
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads((file.metadata() or {}).get(FORMAT, "{}"))
                if facts.get("digest") == self.digest:
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                    # A changed bit would be in the head, and nobody would know.
                    checksum = facts.pop("checksum", "")
                    if checksum != snapshot_checksum(tensors, facts):
                        raise ValueError("its content differs from its checksum")
                    return Snapshot(tensors, facts)
        except (OSError, SafetensorError, ValueError) as error:
            raise_of_machine(error, self.path)
            # A damaged file costs time, not the run: training can always start over.
            reason = brief(error)
            self._print(f"{self.path} cannot be read ({reason}); training starts over")
            return None
        self._print(
            f"{self.path} belongs to another recipe, other bags or another machine; "
            "training starts over"
        )
        return None

    def report_resumed(self, epoch: int, epochs: int) -> None:
        """Print after which epoch the training resumes."""
        self._print(f"resumes after epoch {epoch} of {epochs}, from {self.path}")

    def is_due(self, is_over: bool) -> bool:
        """Whether to save now.

        Args:
            is_over: Whether this was the last epoch.
        """
        return (is_over and self._save_last) or monotonic() - self._saved_at >= EVERY_S

    def save(self, snapshot: Snapshot) -> None:
        """Write the file whole or not at all; the one before stays until then."""
        tensors = {name: tensor.contiguous().cpu() for name, tensor in snapshot.tensors.items()}
        facts = {**snapshot.facts, "digest": self.digest}
        facts["checksum"] = snapshot_checksum(tensors, facts)
        content = save(tensors, metadata={FORMAT: json.dumps(facts, allow_nan=False)})
        with atomic_path(self.path) as scratch:
            scratch.write_bytes(content)
        self._saved_at = monotonic()

    def _print(self, message: str) -> None:
        print(f"{self.title}: {message}", file=sys.stderr, flush=True)


def digest_of_inputs(inputs: Mapping[str, object]) -> str:
    """SHA-256, hex, of everything that decides the last bit of the weights."""
    # Sorted keys: the order in which inputs were collected does not matter.
    return sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


@dataclass
class TrainingState:
    """Everything that changes while a head is trained.

    Attributes:
        head: Head in training.
        optimiser: Optimiser of its parameters.
        scaler: Gradient scaler; disabled without fp16.
        rng: Random state of the order of bags and of their sampling.
        history: Losses and metrics so far.
        selected_weights: Weights of the best epoch; empty as long as none was selected.
    """

    head: nn.Module
    optimiser: AdamW
    scaler: GradScaler
    rng: torch.Generator
    history: History = field(default_factory=History)
    selected_weights: dict[str, Tensor] = field(default_factory=dict)

    def select_weights(self) -> None:
        """Keep a copy of the weights as those of the best epoch."""
        self.selected_weights = weights_of(self.head)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write everything at the end of an epoch."""
        # Names of the parts are of the file format, older than the names in the code.
        parts = {
            "head": self.head.state_dict(),
            "besides": self._unsaved_buffers(),
            "kept": self.selected_weights,
            "optimiser": self.optimiser.state(),
            "chance": rng_states(self._device, self.rng),
        }
        tensors: dict[str, Tensor] = {}
        for part, named_tensors in parts.items():
            tensors |= {f"{part}/{name}": tensor for name, tensor in named_tensors.items()}
        facts = {"history": asdict(self.history), "scaler": self.scaler.state_dict()}
        checkpoint.save(Snapshot(tensors, facts))

    def restore(self, checkpoint: Checkpoint, epochs: int) -> None:
        """Resume from a checkpoint of the same training, if there is one.

        Args:
            checkpoint: Checkpoint of this training.
            epochs: Epochs of the whole training, for the message.
        """
        snapshot = checkpoint.load()
        if snapshot is None:
            return
        self.head.load_state_dict(snapshot.part("head"))
        besides = snapshot.part("besides")
        for name, buffer in self._unsaved_buffers().items():
            buffer.copy_(besides[name])
        self.optimiser.restore(snapshot.part("optimiser"))
        self.selected_weights = {
            name: tensor.to(self._device) for name, tensor in snapshot.part("kept").items()
        }
        self.history = History(**snapshot.facts["history"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(dict(snapshot.facts["scaler"]))
        restore_rng(snapshot.part("chance"), self._device, self.rng)
        checkpoint.report_resumed(len(self.history.train), epochs)

    def _unsaved_buffers(self) -> dict[str, Tensor]:
        """Buffers that are not saved with a trained head, such as a count of its steps."""
        saved = self.head.state_dict()
        # Registered with persistent=False, and yet needed to resume.
        return {name: buffer for name, buffer in self.head.named_buffers() if name not in saved}

    @property
    def _device(self) -> torch.device:
        return next(self.head.parameters()).device


def weights_of(head: nn.Module) -> dict[str, Tensor]:
    """Copies of all tensors that are saved with a trained head."""
    # A state dict holds the very tensors that training goes on changing.
    return {name: tensor.detach().clone() for name, tensor in head.state_dict().items()}


def rng_states(device: torch.device, rng: torch.Generator) -> dict[str, Tensor]:
    """Random states that training draws from: torch's own, and that of sampling."""
    states = {"cpu": torch.get_rng_state(), "order": rng.get_state()}
    # Dropout and masking on a GPU draw from its own generator.
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_rng(states: Mapping[str, Tensor], device: torch.device, rng: torch.Generator) -> None:
    """Set the random states to those of `rng_states`."""
    torch.set_rng_state(states["cpu"])
    rng.set_state(states["order"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
