"""Section of the report: ROC and precision-recall curves with bands."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from mil.report.figures.blocks import Block, Figure, Key, Note, section
from mil.report.figures.style import (
    BAND,
    COLOURS,
    GREY,
    OVERLAID,
    PANELS,
    RESAMPLES,
    Turns,
    coarse,
    figure,
    name_axes,
    panels,
    shorten,
    styled,
    unit_square,
    vertices,
)
from mil.report.figures.tested import Tested, heads_tested, size_of
from mil.report.page_section import PageSection
from mil.report.study_files import StudyFiles
from mil.statistics.curves import (
    GRID,
    Band,
    Curve,
    precision_recall_band,
    precision_recall_curve,
    roc_band,
    roc_curve,
)
from mil.statistics.text import with_interval

BANDS = (
    f"Bands are 95 % intervals of each height by itself, from {RESAMPLES} resamples of patients "
    "(Wilson's interval of as many patients as the height varies by)."
)


class Kind(NamedTuple):
    """ROC or precision-recall curves."""

    name: str
    x: str
    y: str
    curve: Callable[..., Curve]
    band: Callable[..., Band | None]
    height: Callable[[Curve], np.ndarray]  # at each point of GRID
    metric: str  # in metrics.json, of two classes
    drawstyle: str


def _roc_height(curve: Curve) -> np.ndarray:
    return np.interp(GRID, curve.x, curve.y)


def _pr_height(curve: Curve) -> np.ndarray:
    # Sums of floats end a little below 1.
    place = np.searchsorted(curve.x, GRID - 1e-9)
    return curve.y[np.minimum(place, len(curve.y) - 1)]


ROC = Kind(
    "ROC", "1 - specificity", "sensitivity", roc_curve, roc_band, _roc_height, "auroc", "default"
)  # fmt: skip
PR = Kind(
    "Precision-recall", "recall (sensitivity)", "precision (PPV)", precision_recall_curve,
    precision_recall_band, _pr_height, "auprc", "steps-pre",
)  # fmt: skip


class Drawn(NamedTuple):
    """Curve of a head for a class."""

    head: Tested
    positive: np.ndarray
    scores: np.ndarray


def build(study: StudyFiles) -> PageSection | None:
    """ROC and precision-recall curves of the test slides; None for other tasks."""
    if not study.task.has_roc:
        return None
    return section("discrimination", "ROC and precision-recall curves", _blocks(study))


def _blocks(study: StudyFiles) -> list[Block]:
    heads = heads_tested(study)
    if not heads:
        return []
    names = _classes(study)
    by_class = {name: _with_both(study, heads, name) for name in names}
    undrawn = [name for name, drawn in by_class.items() if not drawn]
    if len(undrawn) == len(names):
        return [Note(f"No curves: all test slides are of one class ({size_of(heads, study)}).")]
    by_class = {name: drawn for name, drawn in by_class.items() if drawn}
    if len(names) == 1:
        drawn = by_class[names[0]]
        blocks: list[Block] = _of_two(study, names[0], drawn)
    else:
        blocks = [_of_many(study, by_class, kind) for kind in (ROC, PR)]
    if undrawn:
        blocks.append(Note(f"No curves of {', '.join(undrawn)}: all test slides agree in them."))
    left_out = list(by_class)[PANELS:]
    if left_out:
        blocks.append(Note(f"Classes without a panel: {', '.join(left_out)}."))
    return blocks


def _classes(study: StudyFiles) -> list[str]:
    """Classes with curves: of two the positive one, else each against the rest."""
    task = study.task
    if task.one_of_classes and len(task.classes) == 2:
        return [task.positive]
    return list(task.classes)


def _with_both(study: StudyFiles, heads: Sequence[Tested], name: str) -> list[Drawn]:
    """Heads whose test slides are of both kinds: else one rate has no denominator."""
    curves = [
        Drawn(head, head.positives(study.task, name), head.column(f"p_{name}")) for head in heads
    ]
    return [curve for curve in curves if 0 < curve.positive.sum() < len(curve.positive)]


def _of_two(study: StudyFiles, name: str, drawn: Sequence[Drawn]) -> list[Block]:
    """Both kinds side by side for few heads; a panel for each of many."""
    if len(drawn) <= OVERLAID:
        return [_side_by_side(study, name, drawn)]
    return [_panel_a_head(study, name, drawn, kind) for kind in (ROC, PR)]


@styled
def _side_by_side(study: StudyFiles, name: str, drawn: Sequence[Drawn]) -> Figure:
    canvas, axes = panels(2, width=3.6, height=3.3, share="none")
    for one, kind in zip(axes, (ROC, PR), strict=True):
        _frame(one, kind, drawn)
        one.set_title(kind.name)
        _overlay(one, kind, drawn, len(axes), bands=True)
        one.set(xlabel=kind.x, ylabel=kind.y)
    return figure(canvas, _caption(study, name, drawn, "ROC and precision-recall"), _keys(drawn))


@styled
def _panel_a_head(study: StudyFiles, name: str, drawn: Sequence[Drawn], kind: Kind) -> Figure:
    """A panel for each head, the range of all of them behind it."""
    shown = drawn[:PANELS]
    canvas, axes = panels(len(shown))
    curves = [kind.curve(curve.positive, curve.scores) for curve in drawn]
    heights = np.stack([kind.height(curve) for curve in curves])
    for one, curve, own in zip(axes, shown, curves, strict=False):
        _frame(one, kind, drawn)
        one.fill_between(GRID, heights.min(0), heights.max(0), color=GREY, alpha=0.45, linewidth=0)
        _shade(one, kind, curve, COLOURS[0])
        one.plot(
            *coarse(*own, vertices(2 * len(shown))), color=COLOURS[0], drawstyle=kind.drawstyle
        )
        one.set_title(shorten(curve.head.name))
        metric = _metric(curve.head, kind)
        one.text(
            0.97, 0.06, metric, transform=one.transAxes, ha="right", fontsize=8, color="#1b1f24"
        )
    name_axes(axes, kind.x, kind.y)
    caption = _caption(study, name, drawn, kind.name)
    others = f"Blue: the head named above the panel; grey: range of all {len(drawn)} heads."
    if len(drawn) > PANELS:
        others += f" The first {PANELS} of {len(drawn)} heads have a panel."
    return figure(canvas, f"{caption} {others}")


@styled
def _of_many(study: StudyFiles, by_class: dict[str, list[Drawn]], kind: Kind) -> Figure:
    """A panel for each class against the rest."""
    shown = dict(list(by_class.items())[:PANELS])
    canvas, axes = panels(len(shown))
    bands = max(map(len, shown.values())) <= OVERLAID
    for one, (name, drawn) in zip(axes, shown.items(), strict=True):
        _frame(one, kind, drawn)
        _overlay(one, kind, drawn[: len(COLOURS)], len(shown), bands=bands)
        one.set_title(shorten(f"{name} ({drawn[0].positive.sum()} of {len(drawn[0].positive)})"))
    name_axes(axes, kind.x, kind.y)
    longest = max(shown.values(), key=len)
    against = "each class against the rest; in brackets the slides that have it"
    heads = [curve.head for curve in longest]
    caption = f"{kind.name} curves, {against}. {size_of(heads, study)}. {_about(kind)}"
    if len(longest) > len(COLOURS):
        caption += f" The first {len(COLOURS)} of {len(longest)} heads are drawn."
    keys = [Key(colour, head.name) for colour, head in zip(COLOURS, heads, strict=False)]
    return figure(canvas, f"{caption}{' ' + BANDS if bands else ''}", keys)


def _overlay(
    axes: Axes, kind: Kind, drawn: Sequence[Drawn], number_of_panels: int, *, bands: bool
) -> None:
    curves = [kind.curve(curve.positive, curve.scores) for curve in drawn]
    most = vertices(2 * number_of_panels * len(drawn))
    lines = [np.stack(coarse(*curve, most)) for curve in curves]
    turns = Turns(lines)
    for colour, curve, line in zip(COLOURS, drawn, lines, strict=False):
        if bands:
            _shade(axes, kind, curve, colour)
        axes.plot(*line, color=colour, linestyle=turns.dashes(line), drawstyle=kind.drawstyle)


def _shade(axes: Axes, kind: Kind, curve: Drawn, colour: str) -> None:
    band = kind.band(curve.positive, curve.scores, curve.head.member, resamples=RESAMPLES)
    if band is not None:
        axes.fill_between(*band, color=colour, alpha=BAND, linewidth=0)


def _frame(axes: Axes, kind: Kind, drawn: Sequence[Drawn]) -> None:
    """The unit square with what chance gives: the diagonal, or the share of positives."""
    unit_square(axes, diagonal=kind is ROC)
    if kind is PR:
        share = float(np.mean(drawn[0].positive))
        axes.plot([0, 1], [share, share], color=GREY, linewidth=1, linestyle=":")


def _keys(drawn: Sequence[Drawn]) -> list[Key]:
    return [
        Key(
            COLOURS[number],
            f"{curve.head.name}: {_metric(curve.head, ROC)}, {_metric(curve.head, PR)}",
        )
        for number, curve in enumerate(drawn)
    ]


def _metric(head: Tested, kind: Kind) -> str:
    """`AUROC 0.931 (0.81 to 1.00)`."""
    metric = head.metrics.test.metrics.get(kind.metric)
    return f"{kind.metric.upper()} {with_interval(metric)}"


def _caption(study: StudyFiles, name: str, drawn: Sequence[Drawn], curves: str) -> str:
    heads = [curve.head for curve in drawn]
    positives = sorted({int(curve.positive.sum()) for curve in drawn})
    between = str(positives[0]) if len(positives) == 1 else f"{positives[0]} to {positives[-1]}"
    kind = ROC if curves == ROC.name else PR
    about = f"{_about(ROC)} {_about(PR)}" if curves.startswith("ROC and") else _about(kind)
    size = f"{size_of(heads, study)}, {between} positive"
    return f"{curves} curves for {name}: {size}. {about} {BANDS}"


def _about(kind: Kind) -> str:
    if kind is ROC:
        return "Dotted in ROC curves: chance."
    return "Dotted in precision-recall curves: the share of positives, which is chance."
