"""What the kernels are to reach on an H100 or H200: `mil bench kernels --bars`."""

from collections.abc import Callable
from typing import Any, NamedTuple

from mil.bench.kernels import NOTHING, PASSES, Found, How, Rates, measured
from mil.bench.kernels_cases import Case, work
from mil.bench.outcome import Outcome, Row
from mil.errors import ConfigError

NOTE = (
    "of copy: least bytes a second over those of a copy in this run; of floor: time over the larger of those bytes at "
    "the copy's rate and the products at the rate of one of square matrices; extra memory: peak beyond the inputs and "
    "the gradients, over the largest input."
)
BACKWARD = 1
POOL = Case("attn_pool", 1_000_000, 512, 5, 1, "bf16")
TRUNK = Case("gated_attn_pool", 160_000, 1024, 5, 16, "bf16")


class Bar(NamedTuple):
    """A number that a case is to reach, or not to pass."""

    case: Case
    place: int  # of `PASSES`
    measure: str
    limit: float
    at_least: bool


BARS = (
    Bar(POOL, 0, "of copy", 0.85, at_least=True),
    Bar(POOL, BACKWARD, "of copy", 0.70, at_least=True),
    Bar(POOL, BACKWARD, "extra memory", 0.05, at_least=False),
    Bar(TRUNK, BACKWARD, "times eager", 3.0, at_least=True),
    Bar(TRUNK, BACKWARD, "times compiled", 1.5, at_least=True),
    Bar(TRUNK, BACKWARD, "of floor", 2.0, at_least=False),
    Bar(TRUNK, BACKWARD, "extra memory", 0.05, at_least=False),
)


def run(how: How) -> Outcome:
    """Measure all bars.

    Raises:
        ConfigError: there is no GPU to measure them on.
    """
    if how.device != "cuda":
        raise ConfigError(
            "--bars are of an H100 or H200, and no CUDA device is used here; leave it out for a CPU's table"
        )
    found, rates = measured(list(dict.fromkeys(bar.case for bar in BARS)), how)
    rows = [row_of(bar, found[bar.case], rates) for bar in BARS]
    held = sum(row["held"] == "yes" for row in rows)
    return Outcome(f"mil bench kernels --bars, {rates.gpu}: {held} of {len(rows)} hold", rows, NOTE, rates.gpu)


def row_of(bar: Bar, found: dict[str, Found], rates: Rates) -> Row:
    """What was measured of a bar, and whether it holds; what could not be measured does not."""
    case = bar.case
    failed = next((found[way]["failed"] for way in ("ours", *NEEDS.get(bar.measure, ())) if "failed" in found[way]), "")
    got = None if failed else MEASURE[bar.measure](bar, found, rates)
    held = got is not None and (got >= bar.limit if bar.at_least else got <= bar.limit)
    return {
        "op": case.operation, "pass": PASSES[bar.place], "sizes": f"{case.tiles} x {case.dim}, {case.bags} bags, "
        f"M = {case.branches}, {case.dtype}", "bar": f"{bar.measure} {'≥' if bar.at_least else '≤'} {bar.limit:g}",
        "measured": NOTHING if got is None else got, "held": "yes" if held else "no", "failed": failed,
    }  # fmt: skip


def _of_copy(bar: Bar, found: dict[str, Found], rates: Rates) -> float:
    return work(bar.case, backward=bar.place == BACKWARD).moved / _seconds(found["ours"], bar) / rates.copy


def _of_floor(bar: Bar, found: dict[str, Found], rates: Rates) -> float:
    floor = work(bar.case, backward=bar.place == BACKWARD).floor_s(rates.copy, rates.products[bar.case.dtype])
    return _seconds(found["ours"], bar) / floor


def _times(way: str) -> Callable[[Bar, dict[str, Found], Rates], float]:
    return lambda bar, found, _: _seconds(found[way], bar) / _seconds(found["ours"], bar)


def _extra_memory(bar: Bar, found: dict[str, Found], _: Rates) -> float:
    ours = found["ours"]
    gradients = ours["gradients_MB"] if bar.place == BACKWARD else 0.0
    return max(0.0, ours["memory_MB"][bar.place] - gradients) / ours["largest_MB"]


def _seconds(answer: dict[str, Any], bar: Bar) -> float:
    return answer["ms"][bar.place] * 1e-3


NEEDS = {"times eager": ("eager",), "times compiled": ("compiled",)}
MEASURE: dict[str, Callable[[Bar, dict[str, Found], Rates], float]] = {
    "of copy": _of_copy, "of floor": _of_floor, "times eager": _times("eager"), "times compiled": _times("compiled"),
    "extra memory": _extra_memory,
}  # fmt: skip
