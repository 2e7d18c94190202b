"""Block sizes by a bounded search: the best of a few for each kernel, type and width."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product

from mil.bench.gpu.rows import Bench, GpuRow
from mil.bench.kernels_cases import Case
from mil.bench.kernels_operations import DTYPES
from mil.bench.kernels_step import measure
from mil.io.atomic import write_text
from mil.kernels.tuning import chip, key, trying
from mil.kernels.tuning import table as known_blocks

Blocks = dict[str, int]
# Kernels, the operation that launches each, and whether it is timed with its gradient.
KERNELS = (
    ("attn_pool.forward", "attn_pool", False),
    ("attn_pool.backward", "attn_pool", True),
    ("gated_scores.forward", "gated_scores", False),
    ("gated_scores.backward", "gated_scores", True),
    ("bag_attn.forward", "bag_attn", False),
    ("bag_attn.backward", "bag_attn", True),
)
# A gain below this is noise.
LEAST_GAIN = 1.03


def tuning(bench: Bench) -> Iterator[GpuRow]:
    """The best blocks found, and how much faster they are than those reckoned."""
    # What was measured on other chips stays.
    table = {name: {**blocks} for name, blocks in known_blocks().items()}
    own = table.setdefault("cpu" if bench.dry else chip(bench.device), {})
    for (kernel, operation, backward), width in product(_kernels(bench), _widths(bench)):
        if operation == "bag_attn" and width != _widths(bench)[0]:
            # Its heads are as wide, whatever the width of all.
            continue
        dtype = "fp32" if bench.dry else "bf16"
        case = Case(operation, bench.size(200_000, 8), width, 5, 1, dtype)
        usual = _ms(bench, case, backward)
        if usual == float("inf"):
            yield GpuRow(
                "tuning", f"{kernel} {dtype} {width}", verdict="failed", note="not launched"
            )
            continue
        best, blocks = usual, Blocks()
        for candidate in _candidates(kernel, bench):
            if bench.is_late:
                break
            with trying(kernel, candidate):
                ms = _ms(bench, case, backward)
            if ms < best:
                best, blocks = ms, candidate
        gain = usual / best
        if gain >= LEAST_GAIN:
            own[key(kernel, DTYPES[dtype], _row_width(case))] = blocks
        note = ", ".join(f"{name} {value}" for name, value in blocks.items()) or "as reckoned"
        yield GpuRow("tuning", f"{kernel} {dtype} {width}", gain, "times", note=note)
        if bench.tuned is not None:
            write_text(bench.tuned, json.dumps(table, indent=1) + "\n")


def _kernels(bench: Bench) -> tuple[tuple[str, str, bool], ...]:
    return KERNELS[: bench.size(len(KERNELS), 1)]


def _row_width(case: Case) -> int:
    """Length of the rows by which the kernels look their blocks up."""
    return case.mix_heads[1] if case.operation == "bag_attn" else case.dim


def _widths(bench: Bench) -> tuple[int, ...]:
    return (16,) if bench.dry else (512, 1024)


def _candidates(kernel: str, bench: Bench) -> Iterator[Blocks]:
    """Blocks near the reckoned ones; what does not compile or fit is passed over."""
    grids: Mapping[str, Mapping[str, tuple[int, ...]]] = {
        "attn_pool.forward": {"BLOCK_N": (32, 64, 128), "BLOCK_D": (64, 128), "num_stages": (2, 4)},
        "attn_pool.backward": {"BLOCK_N": (64, 128), "BLOCK_D": (64, 128), "num_warps": (4, 8)},
        "gated_scores.forward": {
            "BLOCK_N": (64, 128),
            "BLOCK_A": (64, 128),
            "BLOCK_H": (32, 64),
            "num_stages": (3, 4),
        },
        "gated_scores.backward": {
            "BLOCK_N": (32, 64, 128),
            "BLOCK_A": (64, 128),
            "num_warps": (4, 8),
        },
        "bag_attn.forward": {
            "BLOCK_I": (64, 128),
            "BLOCK_J": (32, 64, 128),
            "num_warps": (4, 8),
            "num_stages": (2, 3),
        },
        "bag_attn.backward": {
            "BLOCK_I": (32, 64, 128),
            "BLOCK_J": (32, 64, 128),
            "num_warps": (4, 8),
        },
    }
    grid = grids[kernel]
    combinations = product(*grid.values())
    for number, values in enumerate(combinations):
        if bench.dry and number:
            return
        yield dict(zip(grid, values, strict=True))


def _ms(bench: Bench, case: Case, backward: bool) -> float:
    """Time of a launch; infinite for blocks that cannot be launched or are wrong."""
    timed = partial(measure, case, "ours", bench.backend, bench.device, bench.seconds)
    try:
        measurement = timed()
    except Exception:  # noqa: BLE001  compilers and launchers raise anything
        return float("inf")
    return measurement.ms[backward] if measurement.ms else float("inf")
