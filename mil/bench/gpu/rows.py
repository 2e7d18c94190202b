"""Rows of `mil bench gpu`, and the sizes of its two forms."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Literal, NamedTuple

import torch

from mil.kernels.dispatch import Backend

Verdict = Literal["", "ok", "missed", "failed"]


class GpuRow(NamedTuple):
    """A figure, or a check."""

    part: str
    name: str
    value: float | str = ""
    unit: str = ""
    # What `value` is held against; empty: a figure without a bar.
    bar: str = ""
    verdict: Verdict = ""
    note: str = ""


@dataclass
class Bench:
    """Device, sizes and time of a run, and the rates that floors are reckoned from."""

    device: torch.device
    dry: bool
    until: float
    # File of block sizes to write.
    tuned: Path | None = None
    copy: float = 0.0
    products: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Time to spend on each timing, about."""
        return 0.001 if self.dry else 0.2

    @property
    def backend(self) -> Backend:
        """Form of the operations: Triton's, on a CPU its interpreter's."""
        return "triton"

    @property
    def is_late(self) -> bool:
        """Whether the time is used up."""
        return perf_counter() > self.until

    def size(self, real: int, dry: int) -> int:
        """Size of an input: a real one, or one that an interpreter can bear."""
        return dry if self.dry else real


Part = Callable[[Bench], Iterator[GpuRow]]


def at_least(
    part: str, name: str, value: float, bar: float, unit: str = "", note: str = ""
) -> GpuRow:
    """Row of a figure that should reach a bar."""
    verdict: Verdict = "ok" if value >= bar else "missed"
    return GpuRow(part, name, value, unit, f"at least {bar:g}", verdict, note)


def at_most(
    part: str, name: str, value: float, bar: float, unit: str = "", note: str = ""
) -> GpuRow:
    """Row of a figure that should not exceed a bar."""
    verdict: Verdict = "ok" if value <= bar else "missed"
    return GpuRow(part, name, value, unit, f"at most {bar:g}", verdict, note)
