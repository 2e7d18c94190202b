"""Section of the report: predicted against observed numbers, and how far they differ."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from mil.report.figures.blocks import Figure, Table, section
from mil.report.figures.style import (
    COLOURS,
    QUIET,
    figure,
    panels,
    points,
    shorten,
    styled,
    thinned,
)
from mil.report.figures.tested import Tested, heads_tested, size_of
from mil.report.page_section import PageSection
from mil.report.study_files import StudyFiles
from mil.statistics.arrays import Numbers
from mil.statistics.normal import CI_Z
from mil.statistics.text import with_interval

SHOWN = 4  # heads with panels, two each
POINTS = 300  # most points of a panel


def build(study: StudyFiles) -> PageSection | None:
    """Scatter and Bland-Altman plots of regression; None for other tasks."""
    if study.task.kind != "regression":
        return None
    heads = heads_tested(study)
    if not heads:
        return None
    return section("agreement", "Predicted and observed", [_figure(study, heads), _table(heads)])


@styled
def _figure(study: StudyFiles, heads: Sequence[Tested]) -> Figure:
    shown = heads[:SHOWN]
    canvas, axes = panels(2 * len(shown), share="none", width=1.95)
    for number, head in enumerate(shown):
        observed = _observed(head)
        predicted = head.column(study.task.column_of_interest)
        _scatter(axes[2 * number], observed, predicted)
        _differences(axes[2 * number + 1], observed, predicted)
        axes[2 * number].set_title(shorten(head.name))
    caption = (
        f"Predicted and observed numbers of {size_of(heads, study)}. Left of each pair: predicted "
        "against observed, dotted where both are equal. Right: predicted less observed against the "
        "mean of both (Bland and Altman 1986), with the mean difference and the limits between "
        "which 95 % of differences lie if they are normal (dashed)."
    )
    if len(heads) > SHOWN:
        caption += f" The first {SHOWN} of {len(heads)} heads are drawn."
    return figure(canvas, caption)


def _observed(head: Tested) -> Numbers:
    return np.array([float(label.replace(",", ".")) for label in head.labels])


def _scatter(axes: Axes, observed: Numbers, predicted: Numbers) -> None:
    both = np.concatenate([observed, predicted])
    ends = [both.min(), both.max()]
    axes.plot(ends, ends, color=QUIET, linewidth=1, linestyle=":")
    points(axes, *thinned(observed, predicted, POINTS), COLOURS[0])
    axes.set(xlabel="observed", ylabel="predicted")


def _differences(axes: Axes, observed: Numbers, predicted: Numbers) -> None:
    difference = predicted - observed
    mean, low, high = _limits(difference)
    axes.axhline(0, color=QUIET, linewidth=0.6)
    axes.axhline(mean, color=COLOURS[1])
    for end in (low, high):
        axes.axhline(end, color=COLOURS[1], linewidth=1, linestyle="--")
    middle = (predicted + observed) / 2
    points(axes, *thinned(middle, difference, POINTS), COLOURS[0])
    axes.set(xlabel="mean of both", ylabel="predicted - observed")


def _limits(difference: Numbers) -> tuple[float, float, float]:
    """Mean difference, and the limits of agreement; of one slide, all the same."""
    mean = float(difference.mean())
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    return mean, mean - CI_Z * spread, mean + CI_Z * spread


def _table(heads: Sequence[Tested]) -> Table:
    rows = []
    for head in heads:
        predicted = head.predictions[:, 0]
        mean, low, high = _limits(predicted - _observed(head))
        metrics = head.metrics.test.metrics
        cells = [with_interval(metrics.get(name)) for name in ("mae", "r2", "spearman")]
        difference = f"{mean:.3g} ({low:.3g} to {high:.3g})".replace("-", "−")
        rows.append([head.name, str(len(head.slides)), difference, *cells])
    return Table(
        "Mean difference of predicted and observed numbers with limits of agreement, and metrics "
        "with 95 % intervals.",
        ["head · encoder", "n", "mean difference", "MAE", "R²", "Spearman"],
        rows,
    )
