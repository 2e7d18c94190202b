"""A training that was cut off goes on where it was: `checkpoint.safetensors` in the head's folder while it runs."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mil.io.atomic import atomic_path

FORMAT = "mil.checkpoint 1"
# of training that may be lost, besides the epoch that was begun; writing takes 0.05 to
# 0.4 s
EVERY_S = 20.0


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]  # what is no tensor; JSON


class Checkpoint:
    """The checkpoint of one training, taken up only by the same training.

    Args:
        path: the file.
        what: everything that decides the outcome, as JSON can hold it.
        title: of the training, for what is said.
        to_the_end: whether its last epoch is kept in any case, since another training
            follows before anything is saved.
    """

    def __init__(
        self, path: Path, what: Mapping[str, Any], title: str, *, to_the_end: bool = False
    ) -> None:
        self.path = path
        self.title = title
        self._to_the_end = to_the_end
        self.digest = sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        self._last = monotonic()

    def load(self) -> Saved | None:
        """What was saved by this training; None: nothing, or it is of another one. Says which, if there is a file."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads((file.metadata() or {}).get(FORMAT, "{}"))
                if facts.get("digest") == self.digest:
                    return Saved({name: file.get_tensor(name) for name in file.keys()}, facts)  # noqa: SIM118
        except (OSError, SafetensorError, ValueError) as error:
            self._say(f"{self.path} cannot be read ({' '.join(str(error).split())}); starts anew")
            return None
        self._say(f"{self.path} is of another recipe, other bags or another machine; starts anew")
        return None

    def taken_up(self, epoch: int, epochs: int) -> None:
        """Say that the training goes on."""
        self._say(f"goes on after epoch {epoch} of {epochs}, from {self.path}")

    def is_due(self, is_over: bool) -> bool:
        """Whether enough would be lost for a checkpoint to be worth its time.

        Args:
            is_over: whether this was the last epoch.
        """
        return (is_over and self._to_the_end) or monotonic() - self._last >= EVERY_S

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write the file, whole or not at all; the one before it stays until then."""
        stated = {FORMAT: json.dumps({**facts, "digest": self.digest}, allow_nan=False)}
        with atomic_path(self.path) as scratch:
            scratch.write_bytes(
                save({name: t.contiguous().cpu() for name, t in tensors.items()}, metadata=stated)
            )
        self._last = monotonic()

    def remove(self) -> None:
        """The training is done."""
        self.path.unlink(missing_ok=True)

    def _say(self, words: str) -> None:
        print(f"{self.title}: {words}", file=sys.stderr, flush=True)


def chance_state(device: torch.device, order: torch.Generator | None) -> dict[str, Tensor]:
    """States of the random numbers that training draws: torch's own, and those of the order of the bags."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states if order is None else states | {"order": order.get_state()}


def restore_chance(
    states: Mapping[str, Tensor], device: torch.device, order: torch.Generator | None
) -> None:
    """Draw on from those states."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    if order is not None:
        order.set_state(states["order"])
