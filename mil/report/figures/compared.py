"""Figures of the report: heads side by side, and the differences of pairs of them."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from mil.io.results import Comparison, Pair
from mil.report.figures.blocks import Block, Figure, Note
from mil.report.figures.style import COLOURS, QUIET, figure, shorten, styled
from mil.statistics.text import probability, title

PAIRS = 28  # of eight heads; more are in the table of pairs alone
ROW = 0.24  # height of a line, inches
NAMES = 3.4  # room for names, inches
WIDE = 4.4  # of the axes, inches
NOTES = 1.4  # room for p values, inches
LETTERS = 30
LOW, TOP = 0.5, 0.3


def blocks(comparison: Comparison) -> list[Block]:
    """Main metric of each head and differences of pairs, with intervals."""
    blocks: list[Block] = []
    if len(comparison.rows) > 1:
        blocks.append(_heads(comparison))
    pairs = comparison.tests.pairs
    tested = [pair for pair in pairs if pair.ci95 is not None]
    if tested and len(pairs) <= PAIRS:
        blocks.append(_pairs(comparison, tested))
    elif len(pairs) > PAIRS:
        text = f"{len(pairs)} pairs of heads are too many for a figure; the table has them all."
        blocks.append(Note(text))
    return blocks


@styled
def _heads(comparison: Comparison) -> Figure:
    main = comparison.metrics[0]
    canvas, axes = _frame(len(comparison.rows))
    names = []
    for number, row in enumerate(comparison.rows):
        names.append(f"{row.recipe} · {row.encoder}")
        metric = row.slides.get(main)
        ends = row.range_over_runs.get(main)
        if ends is not None:
            axes.plot(ends, [number + 0.22] * 2, color=COLOURS[4], linewidth=3, alpha=0.7)
        if metric is not None and metric.value is not None:
            _point(axes, number, metric.value, metric.ci95, COLOURS[0])
    _finish(axes, names)
    axes.set_xlabel(title(main))
    caption = (
        f"{title(main)} of each head with its 95 % interval on {comparison.n_slides} test slides "
        f"of {comparison.n_patients} patients."
    )
    if any(row.range_over_runs.get(main) for row in comparison.rows):
        caption += " Orange: range of single runs (seeds and folds)."
    return figure(canvas, caption + " Intervals that overlap do not show that heads are equal.")


@styled
def _pairs(comparison: Comparison, pairs: Sequence[Pair]) -> Figure:
    canvas, axes = _frame(len(pairs))
    axes.axvline(0, color=QUIET, linewidth=0.8, linestyle=":")
    for number, pair in enumerate(pairs):
        _point(axes, number, pair.difference, pair.ci95, COLOURS[0])
        p = probability(pair.p_holm)
        text = f"p {p}" if p.startswith("<") else f"p = {p}"
        axes.text(1.02, number, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    _finish(axes, [f"{pair.one} − {pair.other}" for pair in pairs])
    main = title(comparison.tests.metric)
    axes.set_xlabel(f"difference of {main}")
    # Pairs in which nothing varies have no p value, and count for nothing.
    num_tested = sum(pair.p_holm is not None for pair in comparison.tests.pairs)
    corrected = f", corrected for {num_tested} pairs by Holm" if num_tested > 1 else ""
    caption = (
        f"Differences of {main} of pairs of heads on the same slides with 95 % intervals: right of "
        f"0 the first is better if a larger {main} is better. p values are of "
        f"{comparison.tests.method}{corrected}."
    )
    return figure(canvas, caption)


def _frame(rows: int) -> tuple[Canvas, Axes]:
    high = TOP + ROW * rows + LOW
    wide = NAMES + WIDE + NOTES
    canvas = Canvas(figsize=(wide, high))
    axes = canvas.add_axes((NAMES / wide, LOW / high, WIDE / wide, ROW * rows / high))
    axes.set_ylim(rows - 0.5, -0.5)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return canvas, axes


def _point(axes: Axes, row: int, number: float, ends: Sequence[float] | None, colour: str) -> None:
    if ends is not None:
        axes.plot(ends, [row, row], color=colour, linewidth=1.2)
    axes.plot([number], [row], "o", color=colour, markersize=5)


def _finish(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [shorten(name, 2 * LETTERS) for name in names])
    axes.grid(axis="x", color="#e6e8eb", linewidth=0.6)
    axes.set_axisbelow(True)
