"""Targets of the kernels on an H100 or H200: `mil bench kernels --bars`."""

from collections.abc import Callable
from typing import NamedTuple

from mil.bench.kernels import NOTHING, PASSES, Measurements, Setup, measured
from mil.bench.kernels_cases import Case, Work, work
from mil.bench.kernels_results import Measurement, Rates
from mil.bench.results_table import BenchmarkTable, Row
from mil.errors import ConfigError

NOTE = (
    "of copy: bytes that must be moved per second, relative to those of a copy in this run. "
    "of floor: time relative to the larger of those bytes at the copy's rate and the matrix "
    "products at the rate of square matrices. memory that grows: additional memory for twice as "
    "many tiles, beyond inputs, their gradients and results, relative to the growth of the inputs."
)
BACKWARD = 1
POOL = Case("attn_pool", 1_000_000, 512, 5, 1, "bf16")
TRUNK = Case("gated_attn_pool", 160_000, 1024, 5, 16, "bf16")
LONG = TRUNK._replace(tiles=1_000_000)  # more than is kept for the gradient
Results = dict[Case, Measurements]


class Bar(NamedTuple):
    """Limit for a number of a case, from below or from above."""

    case: Case
    pass_index: int  # in `PASSES`
    measure: str
    limit: float
    at_least: bool

    def needs(self) -> list[tuple[Case, str]]:
        """Cases and ways to compute that it compares."""
        if self.measure == GROWS:
            return [(self.case, "ours"), (twice(self.case), "ours")]
        ways = ("ours", *WAYS.get(self.measure, ()))
        return [(self.case, way) for way in ways]


GROWS = "memory that grows"
WAYS = {"times eager": ("eager",), "times compiled": ("compiled",)}
BARS = (
    Bar(POOL, 0, "of copy", 0.85, at_least=True),
    Bar(POOL, BACKWARD, "of copy", 0.70, at_least=True),
    Bar(POOL, BACKWARD, GROWS, 0.05, at_least=False),
    Bar(TRUNK, BACKWARD, "times eager", 3.0, at_least=True),
    Bar(TRUNK, BACKWARD, "times compiled", 1.5, at_least=True),
    Bar(TRUNK, BACKWARD, "of floor", 2.0, at_least=False),
    Bar(LONG, BACKWARD, GROWS, 0.05, at_least=False),
)


def twice(case: Case) -> Case:
    """The case with twice as many tiles in as many bags."""
    return case._replace(tiles=2 * case.tiles)


def run(setup: Setup) -> BenchmarkTable:
    """Measure all targets.

    Raises:
        ConfigError: the device is not a GPU.
    """
    if setup.device != "cuda":
        raise ConfigError(
            "--bars are of an H100 or H200, and no CUDA device is used here; leave it out for a "
            "CPU's table"
        )
    results, rates = measured([POOL, TRUNK], setup._replace(ways=("ours", "eager", "compiled")))
    larger, _ = measured([twice(POOL), LONG, twice(LONG)], setup._replace(ways=("ours",)))
    rows = [row_of(bar, results | larger, rates) for bar in BARS]
    held = sum(row["held"] == "yes" for row in rows)
    title = f"mil bench kernels --bars, {rates.gpu}: {held} of {len(rows)} hold"
    return BenchmarkTable(title, rows, NOTE, rates.gpu)


def row_of(bar: Bar, results: Results, rates: Rates) -> Row:
    """Measured number of a target, and whether it holds; it does not if a measurement failed."""
    case = bar.case
    failures = [results[needed][way].failed for needed, way in bar.needs()]
    failed = next(filter(None, failures), "")
    value = None if failed else MEASURE[bar.measure](bar, results, rates)
    held = False
    if value is not None:
        held = value >= bar.limit if bar.at_least else value <= bar.limit
    return {
        "op": case.operation,
        "pass": PASSES[bar.pass_index],
        "sizes": f"{case.tiles} x {case.dim}, {case.bags} bags, M = {case.branches}, {case.dtype}",
        "bar": f"{bar.measure} {'≥' if bar.at_least else '≤'} {bar.limit:g}",
        "measured": NOTHING if value is None else value,
        "held": "yes" if held else "no",
        "failed": failed,
    }


def _of_copy(bar: Bar, results: Results, rates: Rates) -> float:
    return _least(bar).moved / _seconds(results, bar) / rates.copy


def _of_floor(bar: Bar, results: Results, rates: Rates) -> float:
    floor = _least(bar).floor_s(rates.copy, rates.products[bar.case.dtype])
    return _seconds(results, bar) / floor


def _times(way: str) -> Callable[[Bar, Results, Rates], float]:
    return lambda bar, results, _: _seconds(results, bar, way) / _seconds(results, bar)


def _growth(bar: Bar, results: Results, _: Rates) -> float:
    single = results[bar.case]["ours"]
    double = results[twice(bar.case)]["ours"]
    extra = _extra_mb(double, bar) - _extra_mb(single, bar)
    return extra / (double.largest_mb - single.largest_mb)


def _extra_mb(measurement: Measurement, bar: Bar) -> float:
    """Peak memory beyond inputs, gradients and results."""
    peak = measurement.memory_mb[bar.pass_index]
    return peak - measurement.gradients_mb - measurement.results_mb


def _least(bar: Bar) -> Work:
    return work(bar.case, backward=bar.pass_index == BACKWARD)


def _seconds(results: Results, bar: Bar, way: str = "ours") -> float:
    return results[bar.case][way].ms[bar.pass_index] * 1e-3


MEASURE: dict[str, Callable[[Bar, Results, Rates], float]] = {
    "of copy": _of_copy,
    "of floor": _of_floor,
    "times eager": _times("eager"),
    "times compiled": _times("compiled"),
    GROWS: _growth,
}
