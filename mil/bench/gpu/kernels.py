"""Times of the operations: first those with a bar, then all beside other ways to compute them."""

from collections.abc import Iterator
from typing import NamedTuple

from mil.bench.gpu.rows import Bench, GpuRow, at_least, at_most
from mil.bench.kernels_cases import OPERATIONS, WITHOUT_BRANCHES, Case, work
from mil.bench.kernels_results import Measurement
from mil.bench.kernels_step import measure

WAYS = ("ours", "eager", "compiled", "other")
PASSES = ("forward", "forward and backward")


class Timed(NamedTuple):
    """Times of an operation, and the least work of both passes."""

    case: Case
    ours: Measurement

    def of_copy(self, backward: bool, copy: float) -> float:
        """Share of the rate of a copy at which bytes are moved."""
        moved = work(self.case, backward=backward).moved
        return moved / (self.ours.ms[backward] * 1e-3) / copy

    def of_floor(self, backward: bool, copy: float, rate: float) -> float:
        """Time over the least possible time."""
        return (
            self.ours.ms[backward] * 1e-3 / work(self.case, backward=backward).floor_s(copy, rate)
        )


def bars(bench: Bench) -> Iterator[GpuRow]:
    """Pooling at the rate of a copy, and the fused trunk beside eager and compiled code."""
    dtype = "fp32" if bench.dry else "bf16"
    tiles = bench.size(1_000_000, 16)
    pool = Case("attn_pool", tiles, bench.size(512, 16), 5, 1, dtype)
    timed = Timed(pool, _measured(bench, pool, "ours"))
    for backward, bar in ((False, 0.85), (True, 0.70)):
        share = timed.of_copy(backward, bench.copy)
        name = f"attn_pool {tiles} x {pool.dim}, {PASSES[backward]}"
        yield at_least("bars", name, share, bar, "of copy", f"{timed.ours.ms[backward]:.3f} ms")
    bags = bench.size(16, 2)
    trunk = Case(
        "gated_attn_pool", bags * bench.size(10_000, 8), bench.size(1024, 16), 5, bags, dtype
    )
    timed = Timed(trunk, _measured(bench, trunk, "ours"))
    name = f"gated_attn_pool {trunk.bags} bags, {trunk.tiles} x {trunk.dim}, {PASSES[1]}"
    for way, bar in (("eager", 3.0), ("compiled", 1.5)):
        if way == "compiled" and bench.dry:
            continue
        other = _measured(bench, trunk, way)
        if other.ms:
            yield at_least("bars", f"{name}, {way}", other.ms[1] / timed.ours.ms[1], bar, "times")
    of_floor = timed.of_floor(True, bench.copy, bench.products[dtype])
    note = f"{timed.ours.ms[1]:.3f} ms"
    yield at_most("bars", f"{name}, floor", of_floor, 2.0, "of floor", note)


def operations(bench: Bench) -> Iterator[GpuRow]:
    """Every operation beside the reference, compiled code and other libraries."""
    dtype = "fp32" if bench.dry else "bf16"
    for operation in OPERATIONS[: bench.size(len(OPERATIONS), 1)]:
        branches = 1 if operation in WITHOUT_BRANCHES else 5
        own = "fp32" if operation == "topk_mask" else dtype
        for tiles in (bench.size(10_000, 8), bench.size(100_000, 16)):
            case = Case(operation, tiles, bench.size(1024, 16), branches, 1, own)
            yield from _compared(bench, case)
            if bench.is_late:
                return


def _compared(bench: Bench, case: Case) -> Iterator[GpuRow]:
    name = f"{case.operation} {case.tiles} x {case.dim} {case.dtype}"
    ours = _measured(bench, case, "ours")
    if not ours.ms:
        yield GpuRow("operations", name, verdict="failed", note=ours.failed)
        return
    timed = Timed(case, ours)
    for backward in (False, True):
        of_floor = timed.of_floor(backward, bench.copy, bench.products[case.dtype])
        note = f"{of_floor:.2f} of floor, {ours.memory_mb[backward]:.0f} MB"
        yield GpuRow(
            "operations", f"{name}, {PASSES[backward]}", ours.ms[backward], "ms", note=note
        )
    for way in WAYS[1:]:
        # Compiling takes half a minute.
        if way == "compiled" and (bench.dry or case.tiles > 10_000):
            continue
        other = _measured(bench, case, way)
        if other.ms:
            ratio = other.ms[1] / ours.ms[1]
            yield GpuRow("operations", f"{name}, {way} over ours", ratio, "times")


def _measured(bench: Bench, case: Case, way: str) -> Measurement:
    try:
        return measure(case, way, bench.backend, bench.device, bench.seconds)
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        return Measurement(failed="does not fit into memory")
