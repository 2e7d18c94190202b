"""Records that `mil bench kernels` exchanges with the processes that measure; as JSON."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from mil.kernels.dispatch import Backend

Job = tuple[str, Sequence[object]]  # "rates" and types, or a way to compute and a `Case`


class Request(NamedTuple):
    """Jobs of one process."""

    device: Literal["cpu", "cuda"]
    backend: Backend
    threads: int
    seconds: float  # time to spend on each timing, about
    jobs: Sequence[Job]


class Measurement(NamedTuple):
    """Time and memory of one way to compute a case; without times the way does not apply."""

    ms: Sequence[float] = ()  # of forward, and of forward with backward
    memory_mb: Sequence[float] = ()  # peak beyond the inputs, of the same
    results_mb: float = 0.0
    largest_mb: float = 0.0  # largest input
    gradients_mb: float = 0.0  # inputs that get a gradient
    failed: str = ""


class Rates(NamedTuple):
    """Rates of the device at its best in this run."""

    copy: float = 0.0  # bytes per second, read and written
    products: Mapping[str, float] = MappingProxyType(
        {}
    )  # operations per second of a matrix product, by type
    gpu: str = ""  # name
    failed: str = ""
