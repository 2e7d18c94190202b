"""Records that `mil bench train` exchanges with the processes that measure; as JSON."""

from collections.abc import Sequence
from typing import NamedTuple


class HeadJob(NamedTuple):
    """Step of a recipe's head on one bag."""

    recipe: str
    tiles: int
    dim: int
    precision: str  # fp32 or bf16
    threads: int
    seconds: float  # least time to spend


class LiteralJob(NamedTuple):
    """Step of the literal ACMIL on one bag."""

    tiles: int
    dim: int
    threads: int
    seconds: float


class ProductsJob(NamedTuple):
    """Products of square matrices."""

    threads: int
    seconds: float


Job = HeadJob | LiteralJob | ProductsJob


class StepMeasurement(NamedTuple):
    """Time and memory of a training step."""

    step_ms: float = float("inf")  # fastest
    median_ms: float = 0.0
    memory_mb: float = 0.0  # peak beyond program, bag and parameters
    bag_mb: float = 0.0
    parameters: int = 0
    losses: Sequence[float] = ()  # of the first steps
    failed: str = ""


class ProductRates(NamedTuple):
    """Rates of a product of square matrices, GFLOP per second."""

    fp32: float = 0.0
    bf16: float = 0.0
    failed: str = ""
