"""What the kernels are to reach on an H100 or H200: `mil bench kernels --bars`."""

from collections.abc import Callable
from typing import NamedTuple

from mil.bench.kernels import NOTHING, PASSES, Found, How, Rates, measured
from mil.bench.kernels_cases import Case, work
from mil.bench.results_table import Outcome, Row
from mil.errors import ConfigError

NOTE = (
    "of copy: least bytes a second over those of a copy in this run; of floor: time over the "
    "larger of those bytes at "
    "the copy's rate and the products at the rate of one of square matrices; memory that grows: "
    "how much more is taken "
    "for twice as many tiles, beyond the inputs, their gradients and the results, over how much "
    "more the inputs are."
)
BACKWARD = 1
POOL = Case("attn_pool", 1_000_000, 512, 5, 1, "bf16")
TRUNK = Case("gated_attn_pool", 160_000, 1024, 5, 16, "bf16")
LONG = TRUNK._replace(tiles=1_000_000)  # past what is kept for the gradient
All = dict[Case, dict[str, Found]]


class Bar(NamedTuple):
    """A number that a case is to reach, or not to pass."""

    case: Case
    place: int  # of `PASSES`
    measure: str
    limit: float
    at_least: bool

    def needs(self) -> list[tuple[Case, str]]:
        """What has to be measured for it, and in which way."""
        if self.measure == GROWS:
            return [(self.case, "ours"), (twice(self.case), "ours")]
        return [(self.case, "ours"), *((self.case, way) for way in WAYS.get(self.measure, ()))]


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
    """Of as many bags with twice as many tiles."""
    return case._replace(tiles=2 * case.tiles)


def run(how: How) -> Outcome:
    """Measure all bars.

    Raises:
        ConfigError: there is no GPU to measure them on.
    """
    if how.device != "cuda":
        raise ConfigError(
            "--bars are of an H100 or H200, and no CUDA device is used here; leave it out for a "
            "CPU's table"
        )
    found, rates = measured([POOL, TRUNK], how._replace(ways=("ours", "eager", "compiled")))
    more, _ = measured([twice(POOL), LONG, twice(LONG)], how._replace(ways=("ours",)))
    rows = [row_of(bar, found | more, rates) for bar in BARS]
    held = sum(row["held"] == "yes" for row in rows)
    return Outcome(
        f"mil bench kernels --bars, {rates.gpu}: {held} of {len(rows)} hold", rows, NOTE, rates.gpu
    )


def row_of(bar: Bar, found: All, rates: Rates) -> Row:
    """What was measured of a bar, and whether it holds; what could not be measured does not."""
    case = bar.case
    failed = next(
        (found[one][way]["failed"] for one, way in bar.needs() if "failed" in found[one][way]), ""
    )
    got = None if failed else MEASURE[bar.measure](bar, found, rates)
    held = got is not None and (got >= bar.limit if bar.at_least else got <= bar.limit)
    return {
        "op": case.operation,
        "pass": PASSES[bar.place],
        "sizes": f"{case.tiles} x {case.dim}, {case.bags} bags, M = {case.branches}, {case.dtype}",
        "bar": f"{bar.measure} {'≥' if bar.at_least else '≤'} {bar.limit:g}",
        "measured": NOTHING if got is None else got,
        "held": "yes" if held else "no",
        "failed": failed,
    }


def _of_copy(bar: Bar, found: All, rates: Rates) -> float:
    return work(bar.case, backward=bar.place == BACKWARD).moved / _seconds(found, bar) / rates.copy


def _of_floor(bar: Bar, found: All, rates: Rates) -> float:
    floor = work(bar.case, backward=bar.place == BACKWARD).floor_s(
        rates.copy, rates.products[bar.case.dtype]
    )
    return _seconds(found, bar) / floor


def _times(way: str) -> Callable[[Bar, All, Rates], float]:
    return lambda bar, found, _: _seconds(found, bar, way) / _seconds(found, bar)


def _grows(bar: Bar, found: All, _: Rates) -> float:
    less, more = (found[case]["ours"] for case in (bar.case, twice(bar.case)))
    extra = [
        one["memory_MB"][bar.place] - one["gradients_MB"] - one["results_MB"]
        for one in (less, more)
    ]
    return (extra[1] - extra[0]) / (more["largest_MB"] - less["largest_MB"])


def _seconds(found: All, bar: Bar, way: str = "ours") -> float:
    seconds: float = found[bar.case][way]["ms"][bar.place] * 1e-3
    return seconds


MEASURE: dict[str, Callable[[Bar, All, Rates], float]] = {
    "of copy": _of_copy,
    "of floor": _of_floor,
    "times eager": _times("eager"),
    "times compiled": _times("compiled"),
    GROWS: _grows,
}
