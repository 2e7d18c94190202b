"""`mil bench kernels`: each operation beside its floor, the reference and other libraries."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple

from mil.bench.kernels_cases import BYTES, HEADS, OPERATIONS, WITHOUT_BRANCHES, Case, work
from mil.bench.kernels_results import Job, Measurement, Rates, Request
from mil.bench.results_table import BenchmarkTable, Row
from mil.device import choose_device
from mil.errors import ConfigError
from mil.kernels.dispatch import Backend

NOTE = (
    "of copy: bytes that must be read and written per second, relative to those of a copy. "
    "of floor: time relative to the larger of those bytes at the copy's rate and the matrix "
    "products at the rate of square matrices, both measured in this run. "
    "eager, compiled: time of the reference, and of the reference through torch.compile, relative "
    "to this operation. other: the same of torch's scaled_dot_product_attention (attn_pool, one "
    "bag) and of PyTorch Geometric's GATv2 (neighbour_attn), if installed. "
    "memory: peak beyond the inputs; eager MB: that of the reference. Each operation is compared "
    "on small bags with the reference in float64 before it is timed."
)
SECONDS = 0.3  # time to spend on each timing, about
LONGEST_S = 120.0  # longest time of one job; a process that takes longer is ended
NOTHING = ""
PASSES = ("forward", "forward+backward")
Measurements = dict[str, Measurement]  # by way to compute

Record = Mapping[str, Any]  # fields of a `Measurement` or of `Rates`, as decoded from JSON


class KernelSizes(NamedTuple):
    """KernelSizes to measure, in every combination."""

    tiles: Sequence[int]  # number of tiles of all bags together
    dims: Sequence[int]  # length of a feature vector
    branches: Sequence[int]  # number of attention branches
    bags: Sequence[int]  # number of bags
    dtypes: Sequence[str]  # type of the features

    def or_else(self, usual: "KernelSizes") -> "KernelSizes":
        """These sizes, with the usual ones for those that are empty."""
        return KernelSizes(
            self.tiles or usual.tiles,
            self.dims or usual.dims,
            self.branches or usual.branches,
            self.bags or usual.bags,
            self.dtypes or usual.dtypes,
        )


USUAL = {
    "cuda": KernelSizes(
        (1000, 10_000, 100_000, 1_000_000), (512, 1024, 1536, 2560), (1, 5), (1, 16), ("bf16",)
    ),
    "cpu": KernelSizes((1000, 10_000), (512,), (5,), (1, 16), ("fp32",)),
}
QUICK = {
    "cuda": KernelSizes((10_000, 1_000_000), (512, 1536), (5,), (1, 16), ("bf16",)),
    "cpu": KernelSizes((1000,), (512,), (5,), (1, 16), ("fp32",)),
}


class Setup(NamedTuple):
    """Device and settings of a run."""

    device: Literal["cpu", "cuda"]
    backend: Backend
    threads: int
    ways: tuple[str, ...]  # ways to compute, see `kernels_step.measure`


def run(operations: Sequence[str], sizes: KernelSizes, setup: Setup) -> BenchmarkTable:
    """Time operations.

    Args:
        operations: names of operations; none: all.
        sizes: sizes of the inputs.
        setup: device and settings.

    Raises:
        ConfigError: an operation is unknown, or a size does not fit an operation.
    """
    cases = list(cases_of(operations, sizes))
    results, rates = measured(cases, setup)
    rows: list[Row] = []
    for case in cases:
        rows += rows_of(case, results[case], rates)
    processor = rates.gpu or f"threads: {setup.threads}"
    peak = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in rates.products.items())
    title = (
        f"mil bench kernels, backend {setup.backend}, {processor}; "
        f"copy {rates.copy / 1e9:.3g} GB/s, TFLOP/s {peak}"
    )
    return BenchmarkTable(title, rows, NOTE, rates.gpu)


def chosen_device(name: str, backend: Backend) -> Literal["cpu", "cuda"]:
    """Type of the device to compute on.

    Raises:
        ConfigError: the device does not exist, or Triton is asked to compute on a CPU.
    """
    device = choose_device(name).type
    if backend == "triton" and device == "cpu":
        raise ConfigError(
            "--backend triton needs a CUDA device; on a CPU, leave it out or use --backend cpu"
        )
    return "cuda" if device == "cuda" else "cpu"


def cases_of(operations: Sequence[str], sizes: KernelSizes) -> Iterator[Case]:
    """Every combination of sizes that differs for an operation.

    Attention among tiles has no branches, masking of scores no features.

    Raises:
        ConfigError: an operation or type is unknown, or a size does not fit.
    """
    tiles, dims, branches, bags, dtypes = sizes
    _check_known("op", operations, OPERATIONS)
    _check_known("dtype", dtypes, BYTES)
    if max(bags) > min(tiles):
        raise ConfigError(
            f"--bags {max(bags)}: more than --tiles {min(tiles)}, and no bag may be empty"
        )
    odd = [dim for dim in dims if dim % HEADS]
    if odd:
        raise ConfigError(f"--dim {odd[0]}: not a multiple of {HEADS}, the heads of neighbour_attn")
    for operation in operations or OPERATIONS:
        own_branches = [1] if operation in WITHOUT_BRANCHES else branches
        own_dims = dims
        own_dtypes = dtypes
        if operation == "topk_mask":
            own_dims = [dims[0]]
            own_dtypes = ["fp32"]
        for combination in product(tiles, own_dims, own_branches, bags, own_dtypes):
            yield Case(operation, *combination)


def _check_known(option: str, names: Sequence[str], known: Iterable[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"--{option} {unknown[0]}: there are {', '.join(known)}")


def measured(cases: Sequence[Case], setup: Setup) -> tuple[dict[Case, Measurements], Rates]:
    """Measurements of each way to compute each case, and the rates.

    The rates are measured before each operation and at the end, since other processes
    may disturb one of them; the best counts.

    Raises:
        ConfigError: no rate could be measured.
    """
    dtypes = [name for name in BYTES if any(case.dtype == name for case in cases)]
    results: dict[Case, Measurements] = {case: {} for case in cases}
    rates: list[Rates] = []
    for operation in dict.fromkeys(case.operation for case in cases):
        jobs = [(way, case) for case in cases if case.operation == operation for way in setup.ways]
        records = _records([("rates", dtypes), *jobs], setup)
        rates.append(Rates(**next(records)))
        for (way, case), record in zip(jobs, records, strict=True):
            results[case][way] = Measurement(**record)
    rates += [Rates(**record) for record in _records([("rates", dtypes)], setup)]
    return results, _best(rates, dtypes)


def _best(rates: Sequence[Rates], dtypes: Sequence[str]) -> Rates:
    last = rates[-1]
    copy = max(rate.copy for rate in rates)
    products = {name: max(rate.products.get(name, 0.0) for rate in rates) for name in dtypes}
    if not (copy and all(products.values())):
        raise ConfigError(f"no rate could be measured: {last.failed or 'nothing was answered'}")
    return Rates(copy, products, last.gpu)


def _records(jobs: Sequence[Job], setup: Setup) -> Iterator[Record]:
    """Record of each job; where a process ends early, another one continues after its job."""
    pending = list(jobs)
    while pending:
        records, message = _process(pending, setup)
        yield from records
        if len(records) < len(pending):
            yield {"failed": message}
        pending = pending[len(records) + 1 :]


def _process(jobs: Sequence[Job], setup: Setup) -> tuple[list[Record], str]:
    """Answers of a process, and the last line of its errors if it ended early."""
    request = Request(setup.device, setup.backend, setup.threads, SECONDS, jobs)
    program = "from mil.bench.kernels_step import main; main()"
    command = [sys.executable, "-c", program, json.dumps(request._asdict())]
    limit = LONGEST_S * len(jobs)
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as late:
        out = late.stdout or b""
        text = out if isinstance(out, str) else out.decode()
        # The last line may have been cut off in the middle.
        whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [json.loads(line) for line in whole], f"took over {limit:.0f} s"
    records = [json.loads(line) for line in done.stdout.splitlines()]
    errors = done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"]
    return records, errors[-1][:100]


def rows_of(case: Case, results: Measurements, rates: Rates) -> Iterator[Row]:
    """A row for forward, and one for forward with backward."""
    for index, name in enumerate(PASSES):
        row: Row = {
            "op": case.operation,
            "pass": name,
            "dtype": case.dtype,
            "tiles": case.tiles,
            "dim": case.dim,
            "branches": case.branches,
            "bags": case.bags,
        }
        yield row | _numbers(case, index, results, rates) | {"failed": results["ours"].failed}


def _numbers(case: Case, index: int, results: Measurements, rates: Rates) -> Row:
    names = (
        "ms",
        "GB/s",
        "TFLOP/s",
        "of_copy",
        "of_floor",
        "eager",
        "compiled",
        "other",
        "memory_MB",
        "eager_MB",
    )
    numbers: Row = dict.fromkeys(names, NOTHING)
    ours = results["ours"]
    if not ours.ms:
        return numbers
    least = work(case, backward=index == 1)
    ms = ours.ms[index]
    numbers |= {"ms": ms, "GB/s": least.moved / ms / 1e6, "TFLOP/s": least.flops / ms / 1e9}
    numbers["of_copy"] = least.moved / (ms * 1e-3) / rates.copy
    numbers["of_floor"] = ms * 1e-3 / least.floor_s(rates.copy, rates.products[case.dtype])
    numbers["memory_MB"] = ours.memory_mb[index]
    for way in ("eager", "compiled", "other"):
        other = results.get(way, Measurement())
        if other.ms:
            numbers[way] = other.ms[index] / ms
    eager = results.get("eager", Measurement())
    if eager.memory_mb:
        numbers["eager_MB"] = eager.memory_mb[index]
    return numbers
