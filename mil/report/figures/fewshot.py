"""Section of the report: AUROC of a linear probe by the number of its training slides."""

from collections.abc import Mapping

import numpy as np

from mil.io.fewshot import Curve
from mil.report.figures.blocks import Block, Figure, Key, Note, Table, section
from mil.report.figures.style import BAND, COLOURS, GREY, figure, panels, styled
from mil.report.page_section import PageSection
from mil.report.study_files import StudyFiles

WIDE, HIGH = 4.4, 2.3  # of the panel, inches
SHOWN = len(COLOURS)  # curves that have a colour of their own
# Least range of the axis: the noise of draws would fill a smaller one.
LOWEST = 0.45


def build(study: StudyFiles) -> PageSection | None:
    """Few-shot curves; None where none were computed."""
    if not study.fewshot:
        return None
    blocks: list[Block] = [_figure(study.fewshot), Note(_sentence(study.fewshot))]
    learned = [name for name, curve in study.fewshot.items() if curve.learned]
    if learned:
        blocks.append(
            Note(
                f"{', '.join(learned)}: not a curve of few labels, for the heads that make these "
                "vectors have seen the labels of all training slides."
            )
        )
    blocks.append(_table(study.fewshot))
    return section("fewshot", "Training slides that a probe needs", blocks)


def _sentence(curves: Mapping[str, Curve]) -> str:
    """The best curve at its end, of those that know few labels if there are any."""
    few = {name: curve for name, curve in curves.items() if not curve.learned} or curves
    among = " of the vectors that are made without labels" if len(few) < len(curves) else ""
    most = max(curve.points[-1].shots for curve in few.values())
    ends = {name: curve for name, curve in few.items() if curve.points[-1].shots == most}
    best = max(ends, key=lambda name: ends[name].points[-1].mean)
    points = ends[best].points
    slides = "training slide" if most == 1 else "training slides"
    text = f"With {most} {slides} of each class, the most that every fold has, {best} is highest"
    text += f"{among}: AUROC {points[-1].mean:.3f}"
    if len(points) < 2:
        return f"{text}."
    change = f"{points[-1].mean - points[-2].mean:+.3f}".replace("-", "−")
    return f"{text} ({points[0].mean:.3f} with {points[0].shots}; {change} by the last doubling)."


@styled
def _figure(curves: Mapping[str, Curve]) -> Figure:
    canvas, (axes,) = panels(1, width=WIDE, height=HIGH)
    keys = []
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        shots = [point.shots for point in curve.points]
        mean = np.array([point.mean for point in curve.points])
        sd = np.array([point.sd for point in curve.points])
        top = np.minimum(mean + sd, 1)
        axes.fill_between(shots, mean - sd, top, color=colour, alpha=BAND, linewidth=0)
        axes.plot(shots, mean, color=colour, marker="o", markersize=3.5)
        keys.append(Key(colour, name))
    axes.axhline(0.5, color=GREY, linewidth=1, linestyle=":")
    axes.set_xscale("log", base=2)
    ticks = sorted({point.shots for curve in curves.values() for point in curve.points})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    low = min(point.mean - point.sd for curve in curves.values() for point in curve.points)
    axes.set_ylim(min(LOWEST, low), 1.01)
    axes.set_xlabel("training slides of each class")
    axes.set_ylabel("AUROC")
    draws = max(point.draws for curve in curves.values() for point in curve.points)
    caption = (
        "AUROC on the test slides of a logistic regression of slide vectors, by the number of "
        f"training slides of each class that are drawn: mean over folds and {draws} draws, band of "
        "one standard deviation over draws. Dotted: chance."
    )
    if len(curves) > SHOWN:
        caption += f" The first {SHOWN} of {len(curves)} curves are drawn."
    return figure(canvas, caption, keys)


def _table(curves: Mapping[str, Curve]) -> Table:
    shots = sorted({point.shots for curve in curves.values() for point in curve.points})
    rows = []
    for name, curve in curves.items():
        cells = {point.shots: f"{point.mean:.3f} (± {point.sd:.3f})" for point in curve.points}
        rows.append([name, *(cells.get(number, "–") for number in shots)])
    return Table(
        "AUROC by number of training slides of each class, mean and standard deviation of draws. "
        "A number is left out where a fold has too few patients for it.",
        ["vectors", *map(str, shots)],
        rows,
    )
