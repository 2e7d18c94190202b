"""`mil bench mix`: mixers by the length of a bag, beside full attention."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from math import exp, log
from multiprocessing import get_context
from typing import TypeVar

from mil.bench.mix_measure import (
    Backend,
    Job,
    MachineRates,
    MixFigures,
    machine_rates,
    measure_mixer,
)
from mil.bench.results_table import BenchmarkTable, Row
from mil.device import choose_device
from mil.errors import ConfigError

FULL = "full"
WIDTH = 512  # columns of queries, keys and values
FLOAT32 = 4
NOTHING = ""
# Pairs of a query and a key of N tiles, by the mixers' default options.
PAIRS: dict[str, Callable[[int], float]] = {
    "uniform": lambda n: 0,
    FULL: lambda n: n**2,
    "nystrom": lambda n: 2 * n * min(256, n),
    "landmark": lambda n: n * (min(64, n) + n / 64),
    "neighbourhood": lambda n: 49 * n,
    "agent": lambda n: 2 * 49 * n,
    "dynamic_mask": lambda n: n * min(256, n),
    "hyper": lambda n: n**2 if n <= 4096 else 512 * n,
}
# Backward computes the map again, and four more products.
BACKWARD = 3.5
LENGTHS = (1000, 3000, 10_000, 30_000, 100_000)
NOTE = (
    "ms: forward, and with backward; on a CPU processor time, the least of the repeats. of floor: "
    "that with backward over the least possible: pairs of query and key that the mixer "
    "compares, 4 x 512 operations each and 3.5 times that with backward, at the rate of square "
    "matrices, or its rows at the rate of a copy, whichever is longer. MB: peak beyond queries, "
    "keys and values, with backward. distance: relative Frobenius error of the mixed rows to "
    "full attention. full / this: time of full attention with backward over this one's, by the "
    "same form; with ~, full attention's is reckoned from its longest bag here, by the square of "
    "the length. cheaper from: tiles from which a mixer is cheaper than full attention. 512 "
    "columns in 8 heads, float32, default options; tiles of 24 kinds in patches of 11 x 11."
)
T = TypeVar("T")


def run(
    mixers: Sequence[str],
    lengths: Sequence[int],
    *,
    device: str,
    threads: int,
    full_up_to: int,
    reference_up_to: int,
) -> BenchmarkTable:
    """Measure every mixer at every length, each mixer in a process of its own.

    Args:
        mixers: Names of mixers; none: all. Full attention is always among them.
        lengths: Numbers of tiles; none: 1000 to 100 000.
        device: `cpu`, `cuda` or `auto`.
        threads: Number of CPU threads.
        full_up_to: Largest number of tiles for full attention.
        reference_up_to: Largest number of tiles for the operations' references.

    Raises:
        ConfigError: A mixer is unknown, or full attention has no length.
    """
    unknown = [name for name in mixers if name not in PAIRS]
    if unknown:
        raise ConfigError(f"--mixer {unknown[0]}: there are {', '.join(PAIRS)}")
    lengths = sorted(lengths or LENGTHS)
    if lengths[0] > full_up_to:
        raise ConfigError(
            f"--full-up-to {full_up_to}: less than the shortest bag, {lengths[0]} tiles; mixers "
            "are compared with full attention"
        )
    device_type = choose_device(device).type
    names = [FULL, *(name for name in mixers or PAIRS if name != FULL)]
    rates = _apart(machine_rates, device_type, threads)
    rows: list[Row] = []
    backends: tuple[Backend, ...] = ("fast", "reference")
    for backend in backends:
        limits = {FULL: full_up_to}
        if backend == "reference":
            limits = dict.fromkeys(names, reference_up_to) | {
                FULL: min(full_up_to, reference_up_to)
            }
        figures_by_length: dict[tuple[str, int], MixFigures] = {}
        for name in names:
            own = [tiles for tiles in lengths if tiles <= limits.get(name, tiles)]
            measured = _apart(measure_mixer, Job(name, own, backend, device_type, threads))
            figures_by_length |= {(name, tiles): figures for tiles, figures in measured.items()}
            print(f"{name}, {backend}: {len(own)} lengths", file=sys.stderr, flush=True)
        form = "reference" if backend == "reference" else _form(device_type)
        rows += rows_of(figures_by_length, rates, form)
    title = (
        f"mil bench mix, {device_type}, {threads} threads; copy {rates.copy / 1e9:.3g} GB/s, "
        "products "
        f"{rates.product / 1e9:.3g} GFLOP/s"
    )
    return BenchmarkTable(title, rows, NOTE)


def _form(device_type: str) -> str:
    return "triton" if device_type == "cuda" else device_type


def rows_of(
    figures_by_length: dict[tuple[str, int], MixFigures], rates: MachineRates, backend: str
) -> Iterator[Row]:
    """A row for each mixer and length of one form of the operations.

    Args:
        figures_by_length: Figures by mixer and number of tiles, full attention among them.
        rates: Rates of the machine.
        backend: Form, for the table.
    """
    full = {
        tiles: figures.ms[1]
        for (name, tiles), figures in figures_by_length.items()
        if name == FULL and figures.ms
    }
    of_mixers: dict[str, dict[int, float]] = {}
    for (name, tiles), figures in figures_by_length.items():
        if figures.ms:
            of_mixers.setdefault(name, {})[tiles] = figures.ms[1]
    for (name, tiles), figures in figures_by_length.items():
        row: Row = {"mixer": name, "backend": backend, "tiles": tiles}
        columns = (
            "ms",
            "ms_both",
            "of_floor",
            "MB",
            "distance",
            "support",
            "full/this",
            "cheaper_from",
        )
        row |= dict.fromkeys(columns, NOTHING)
        if figures.ms:
            forward, both = figures.ms
            row |= {"ms": forward, "ms_both": both, "MB": figures.memory_mb}
            row["of_floor"] = both * 1e-3 / floor_s(name, tiles, rates)
            row |= {"distance": figures.distance, "support": figures.support}
            row["full/this"] = _times(full, tiles, both)
            row["cheaper_from"] = cheaper_from(of_mixers[name], full) if name != FULL else NOTHING
        yield row | {"failed": figures.failed}


def floor_s(name: str, tiles: int, rates: MachineRates) -> float:
    """Least time of a mixer, forward and backward, in seconds."""
    products = BACKWARD * 4 * WIDTH * PAIRS[name](tiles) / rates.product
    # Queries, keys, values and mixed rows; backward these, the gradient, and three more.
    moved = 12 * tiles * WIDTH * FLOAT32 / rates.copy
    return max(products, moved)


def _times(full: dict[int, float], tiles: int, ms: float) -> float | str:
    """Time of full attention over a mixer's; reckoned where it was not measured."""
    if tiles in full:
        return full[tiles] / ms
    if not full:
        return NOTHING
    longest = max(full)
    return f"~{full[longest] * (tiles / longest) ** 2 / ms:.3g}"


def cheaper_from(ms: dict[int, float], full: dict[int, float]) -> int | str:
    """Number of tiles from which a mixer is cheaper, between two that were measured.

    Times between them are taken to follow a power of the length.

    Args:
        ms: Time of the mixer by number of tiles.
        full: Time of full attention.
    """
    common = sorted(set(ms) & set(full))
    gains = [log(full[tiles] / ms[tiles]) for tiles in common]
    if not gains or gains[-1] <= 0:
        return NOTHING
    crossing = f"under {common[0]}"
    for (before, gain), (after, next_gain) in pairwise(zip(common, gains, strict=True)):
        if gain <= 0 < next_gain:
            share = -gain / (next_gain - gain)
            crossing = f"{exp(log(before) + share * log(after / before)):.0f}"
    return crossing


def _apart(call: Callable[..., T], *arguments: object) -> T:
    """Result of a function in a new process, whose peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()
