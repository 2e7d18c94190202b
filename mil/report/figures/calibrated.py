"""Section of the report: calibration plots with slope and intercept."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from mil.report.figures.blocks import Block, Figure, Note, Table, section
from mil.report.figures.style import (
    BAND,
    COLOURS,
    PANELS,
    QUIET,
    figure,
    name_axes,
    panels,
    shorten,
    styled,
    unit_square,
)
from mil.report.figures.tested import Tested, heads_tested, size_of
from mil.report.page_section import PageSection
from mil.report.study_files import StudyFiles
from mil.statistics.arrays import Labels, Numbers
from mil.statistics.calibration import confidence_and_outcome
from mil.statistics.intervals import Interval, proportion
from mil.statistics.recalibration import Recalibration, recalibrate
from mil.statistics.text import value

BINS = 10  # of equal width, those of the calibration error
STRIP = 0.16  # height of the histogram inside a panel
LARGEST_POINT = 60.0  # area of the point of a bin with all slides


class Fitted(NamedTuple):
    """Probabilities of the event of a head, what came true, and the fit; or why there is none."""

    head: Tested
    probability: Numbers
    outcome: Labels
    fit: Recalibration | None
    reason: str


def build(study: StudyFiles) -> PageSection | None:
    """Calibration of the probability of the positive class, or of the most probable one."""
    task = study.task
    if not task.one_of_classes:
        return None
    heads = heads_tested(study)
    if not heads:
        return None
    fitted = [_fit(study, head) for head in heads]
    blocks: list[Block] = [_plots(study, fitted), _table(fitted)]
    reasons: dict[str, list[str]] = {}
    for one in fitted:
        if one.reason:
            reasons.setdefault(one.reason, []).append(one.head.name)
    blocks += [
        Note(f"No slope and intercept of {', '.join(names)}: {reason}.")
        for reason, names in reasons.items()
    ]
    return section("calibration", "Calibration", blocks)


def _fit(study: StudyFiles, head: Tested) -> Fitted:
    task = study.task
    if len(task.classes) == 2:
        probability = head.column(f"p_{task.positive}")
        outcome = head.positives(task, task.positive)
    else:
        labels = np.array([list(task.classes).index(label) for label in head.labels])
        probability, right = confidence_and_outcome(labels, head.predictions)
        outcome = right.astype(int)
    try:
        return Fitted(
            head, probability, outcome, recalibrate(outcome, probability, head.member), ""
        )
    except ValueError as error:
        return Fitted(head, probability, outcome, None, str(error))


@styled
def _plots(study: StudyFiles, fitted: Sequence[Fitted]) -> Figure:
    shown = fitted[:PANELS]
    canvas, axes = panels(len(shown))
    for one, calibration in zip(axes, shown, strict=True):
        _plot(one, calibration)
    two = len(study.task.classes) == 2
    event = f"p({study.task.positive})" if two else "probability of the most probable class"
    shown_event = f"predicted {shorten(event)}" if two else "probability (most probable class)"
    name_axes(axes, shown_event, "observed frequency")
    heads = [one.head for one in fitted]
    caption = (
        f"Calibration of the {'predicted ' if two else ''}{event} on {size_of(heads, study)}. "
        "Points: slides in bins of width 0.1, mean prediction against observed frequency with "
        "Wilson's 95 % interval, area by number of slides. Line and band: logistic regression on "
        "the log odds with its 95 % interval. Dotted: perfect calibration. Bars at the bottom: "
        "number of slides."
    )
    if len(fitted) > PANELS:
        caption += f" The first {PANELS} of {len(fitted)} heads have a panel."
    return figure(canvas, caption)


def _plot(axes: Axes, calibration: Fitted) -> None:
    unit_square(axes, diagonal=True)
    axes.set_title(shorten(calibration.head.name))
    probability = calibration.probability
    if calibration.fit is not None:
        grid = np.linspace(probability.min(), probability.max(), 41)
        middle, low, high = calibration.fit.curve(grid)
        axes.fill_between(grid, low, high, color=COLOURS[0], alpha=BAND, linewidth=0)
        axes.plot(grid, middle, color=COLOURS[0])
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    axes.bar(
        (np.arange(BINS) + 0.5) / BINS,
        STRIP * counts / counts.max(),
        width=0.9 / BINS,
        bottom=-0.02,
        color=QUIET,
        alpha=0.35,
        linewidth=0,
    )
    for number in np.flatnonzero(counts):
        _point(axes, calibration, bins == number)


def _point(axes: Axes, calibration: Fitted, inside: np.ndarray) -> None:
    """Mean prediction and observed frequency of the slides of a bin."""
    x = calibration.probability[inside].mean()
    y = calibration.outcome[inside].mean()
    ends = proportion(calibration.outcome[inside].astype(float), calibration.head.member[inside])
    if ends is not None:
        axes.plot([x, x], ends, color=QUIET, linewidth=0.8)
    area = max(9.0, LARGEST_POINT * inside.mean())
    axes.scatter([x], [y], s=area, color=COLOURS[1], linewidths=0, zorder=3)


def _table(fitted: Sequence[Fitted]) -> Table:
    rows = []
    for one in fitted:
        metrics = one.head.metrics.test.metrics
        slope = intercept = "–"
        if one.fit is not None:
            slope = _number(one.fit.slope, one.fit.slope_ci95)
            intercept = _number(one.fit.intercept, one.fit.intercept_ci95)
        brier = metrics.get("brier")
        ece = metrics.get("ece")
        rows.append([one.head.name, slope, intercept, value(brier), value(ece)])
    return Table(
        "Calibration slope (1 is perfect; below 1: predictions too extreme) and intercept "
        "(calibration in the large; 0 is perfect; below 0: predictions too high) with 95 % "
        "intervals that count patients, Brier score and expected calibration error (both: 0 is "
        "perfect). Van Calster et al. 2019, BMC Med. 17:230.",
        ["head · encoder", "slope", "intercept", "Brier", "ECE"],
        rows,
    )


def _number(number: float, ends: Interval) -> str:
    return f"{number:.2f} ({ends[0]:.2f} to {ends[1]:.2f})".replace("-", "−")
