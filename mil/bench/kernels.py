"""`mil bench kernels`: each operation beside its floor, the reference, `torch.compile` and other libraries."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple

from mil.bench.kernels_cases import BYTES, HEADS, OPERATIONS, Case, work
from mil.bench.results_table import Outcome, Row
from mil.device import choose_device
from mil.errors import ConfigError
from mil.kernels.dispatch import Backend

NOTE = (
    "of copy: bytes that must be read and written, a second, over those of a copy; of floor: "
    "time over the larger of "
    "those bytes at the copy's rate and the products at the rate of one of square matrices, both "
    "measured in this run. "
    "eager, compiled: time of the reference, and of it through torch.compile, over this; other: "
    "of torch's "
    "scaled_dot_product_attention (attn_pool, one bag) and of PyTorch Geometric's GATv2 "
    "(neighbour_attn), if it is "
    "installed. memory: most that is taken beyond the inputs; eager MB: by the reference. Each "
    "is proved on small bags "
    "against the reference in float64 before it is timed."
)
SECONDS = 0.3  # that the timing of one thing takes, about
LONGEST_S = 120.0  # for one thing; a process that takes longer is ended
NOTHING = ""
PASSES = ("forward", "forward+backward")
Found = dict[str, Any]


class Sizes(NamedTuple):
    """What is measured."""

    tiles: Sequence[int]  # of all bags together
    dims: Sequence[int]  # length of a feature vector
    branches: Sequence[int]  # of attention
    bags: Sequence[int]  # in how many the tiles are
    dtypes: Sequence[str]  # of features

    def or_else(self, usual: "Sizes") -> "Sizes":
        """The usual ones in the place of those that were not named."""
        return Sizes(
            self.tiles or usual.tiles,
            self.dims or usual.dims,
            self.branches or usual.branches,
            self.bags or usual.bags,
            self.dtypes or usual.dtypes,
        )


USUAL = {
    "cuda": Sizes(
        (1000, 10_000, 100_000, 1_000_000), (512, 1024, 1536, 2560), (1, 5), (1, 16), ("bf16",)
    ),
    "cpu": Sizes((1000, 10_000), (512,), (5,), (1, 16), ("fp32",)),
}
QUICK = {
    "cuda": Sizes((10_000, 1_000_000), (512, 1536), (5,), (1, 16), ("bf16",)),
    "cpu": Sizes((1000,), (512,), (5,), (1, 16), ("fp32",)),
}


class How(NamedTuple):
    """How all is measured."""

    device: Literal["cpu", "cuda"]
    backend: Backend
    threads: int
    ways: tuple[str, ...]  # of `kernels_step.measure`


class Rates(NamedTuple):
    """What the device does in a second, at its best in this run."""

    copy: float  # bytes, read and written
    products: dict[str, float]  # operations, by type
    gpu: str  # its name


def run(operations: Sequence[str], sizes: Sizes, how: How) -> Outcome:
    """Time operations.

    Args:
        operations: names; none: all.
        sizes: of what they are given; every combination.
        how: see `How`.

    Raises:
        ConfigError: there is no such operation, or a size does not suit.
    """
    cases = list(cases_of(operations, sizes))
    found, rates = measured(cases, how)
    rows = [row for case in cases for row in rows_of(case, found[case], rates)]
    where = rates.gpu or f"threads: {how.threads}"
    peak = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in rates.products.items())
    title = f"mil bench kernels, backend {how.backend}, {where}; copy {rates.copy / 1e9:.3g} GB/s, TFLOP/s {peak}"
    return Outcome(title, rows, NOTE, rates.gpu)


def chosen_device(name: str, backend: Backend) -> Literal["cpu", "cuda"]:
    """Where to compute.

    Raises:
        ConfigError: there is no such device, or Triton is to compute on a CPU.
    """
    device = choose_device(name).type
    if backend == "triton" and device == "cpu":
        raise ConfigError(
            "--backend triton needs a CUDA device; on a CPU, leave it out or say --backend cpu"
        )
    return "cuda" if device == "cuda" else "cpu"


def cases_of(operations: Sequence[str], sizes: Sizes) -> Iterator[Case]:
    """All that differ for an operation: attention over neighbours has no branches, a mask of scores no features."""
    tiles, dims, branches, bags, dtypes = sizes
    for option, given, known in (("op", operations, OPERATIONS), ("dtype", dtypes, BYTES)):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ConfigError(f"--{option} {unknown[0]}: there are {', '.join(known)}")
    if max(bags) > min(tiles):
        raise ConfigError(
            f"--bags {max(bags)}: more than --tiles {min(tiles)}, and no bag may be empty"
        )
    odd = [dim for dim in dims if dim % HEADS]
    if odd:
        raise ConfigError(f"--dim {odd[0]}: not a multiple of {HEADS}, the heads of neighbour_attn")
    for operation in operations or OPERATIONS:
        own_branches = [1] if operation == "neighbour_attn" else branches
        own_dims, own_types = ([dims[0]], ["fp32"]) if operation == "topk_mask" else (dims, dtypes)
        for one in product(tiles, own_dims, own_branches, bags, own_types):
            yield Case(operation, *one)


def measured(cases: Sequence[Case], how: How) -> tuple[dict[Case, dict[str, Found]], Rates]:
    """What each way to compute each case takes, and the rates, measured before each operation and at the end."""
    dtypes = [name for name in BYTES if any(case.dtype == name for case in cases)]
    found: dict[Case, dict[str, Found]] = {case: {} for case in cases}
    rates: list[Found] = []
    for operation in dict.fromkeys(case.operation for case in cases):
        asked = [(way, case) for case in cases if case.operation == operation for way in how.ways]
        answers = _answers([("rates", dtypes), *asked], how)
        rates.append(next(answers))
        for (way, case), answer in zip(asked, answers, strict=True):
            found[case][way] = answer
    rates += _answers([("rates", dtypes)], how)
    best = {name: max(one.get(name, 0.0) for one in rates) for name in ("copy", *dtypes)}
    if not all(best.values()):
        raise ConfigError(
            f"no rate could be measured: {rates[-1].get('failed', 'nothing was answered')}"
        )
    return found, Rates(best.pop("copy"), best, rates[-1].get("gpu", ""))


def _answers(asked: Sequence[tuple[str, Any]], how: How) -> Iterator[Found]:
    """What a process has measured; after one that has ended, another goes on."""
    waiting = list(asked)
    while waiting:
        answers, said = _process(waiting, how)
        yield from answers
        if len(answers) < len(waiting):
            yield {"failed": said}
        waiting = waiting[len(answers) + 1 :]


def _process(batch: Sequence[tuple[str, Any]], how: How) -> tuple[list[Found], str]:
    """All that a process has answered, and its last word if it ended before the end."""
    settings = {**how._asdict(), "seconds": SECONDS, "asked": batch}
    command = [
        sys.executable,
        "-c",
        "from mil.bench.kernels_step import main; main()",
        json.dumps(settings),
    ]
    limit = LONGEST_S * len(batch)
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as late:
        out = late.stdout or b""
        lines = (out if isinstance(out, str) else out.decode()).splitlines(keepends=True)
        return [
            json.loads(line) for line in lines if line.endswith("\n")
        ], f"took over {limit:.0f} s"
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    said = done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"]
    return answers, said[-1][:100]


def rows_of(case: Case, found: dict[str, Found], rates: Rates) -> Iterator[Row]:
    """A row for forward, and one for forward and backward."""
    ours = found["ours"]
    for place, name in enumerate(PASSES):
        row: Row = {
            "op": case.operation,
            "pass": name,
            "dtype": case.dtype,
            "tiles": case.tiles,
            "dim": case.dim,
        }
        row |= {"branches": case.branches, "bags": case.bags}
        yield row | _numbers(case, place, found, rates) | {"failed": ours.get("failed", NOTHING)}


def _numbers(case: Case, place: int, found: dict[str, Found], rates: Rates) -> Row:
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
    ours = found["ours"]
    least = work(case, backward=place == 1)
    if "ms" not in ours:
        return numbers
    ms = ours["ms"][place]
    numbers |= {"ms": ms, "GB/s": least.moved / ms / 1e6, "TFLOP/s": least.flops / ms / 1e9}
    numbers["of_copy"] = least.moved / (ms * 1e-3) / rates.copy
    numbers["of_floor"] = ms * 1e-3 / least.floor_s(rates.copy, rates.products[case.dtype])
    numbers["memory_MB"] = ours["memory_MB"][place]
    for way in ("eager", "compiled", "other"):
        if "ms" in found.get(way, {}):
            numbers[way] = found[way]["ms"][place] / ms
    if "memory_MB" in found.get("eager", {}):
        numbers["eager_MB"] = found["eager"]["memory_MB"][place]
    return numbers
