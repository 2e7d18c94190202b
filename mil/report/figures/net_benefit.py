"""Section of the report: decision curves of two classes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from mil.report.figures.blocks import Figure, Key, Note, section
from mil.report.figures.style import (
    BAND,
    COLOURS,
    GREY,
    OVERLAID,
    PANELS,
    QUIET,
    RESAMPLES,
    Turns,
    figure,
    name_axes,
    panels,
    shorten,
    styled,
)
from mil.report.figures.tested import Tested, heads_tested, size_of
from mil.report.page_section import PageSection
from mil.report.study_files import StudyFiles
from mil.statistics.decision_curve import (
    THRESHOLDS,
    NetBenefit,
    net_benefit,
    net_benefit_with_band,
    treat_all,
)


class Drawn(NamedTuple):
    """Decision curve of a head."""

    head: Tested
    prevalence: float
    everyone: np.ndarray  # net benefit of treating all
    benefit: NetBenefit


def build(study: StudyFiles) -> PageSection | None:
    """Decision curves for the positive class of two; None for other tasks."""
    if not (study.task.has_threshold and study.task.has_roc):
        return None
    heads = heads_tested(study)
    if not heads:
        return None
    drawn = [_drawn(study, head, banded=number < PANELS) for number, head in enumerate(heads)]
    drawn = [one for one in drawn if 0 < one.prevalence < 1]
    if not drawn:
        note = Note(f"No decision curve: the {size_of(heads, study)} are of one class.")
        return section("net_benefit", "Decision curves", [note])
    return section("net_benefit", "Decision curves", [_figure(study, drawn)])


def _drawn(study: StudyFiles, head: Tested, *, banded: bool) -> Drawn:
    positive = head.positives(study.task, study.task.positive)
    scores = head.column(f"p_{study.task.positive}")
    if banded:
        benefit = net_benefit_with_band(positive, scores, head.member, resamples=RESAMPLES)
    else:
        benefit = NetBenefit(net_benefit(positive, scores), None, None)
    return Drawn(head, float(positive.mean()), treat_all(positive), benefit)


@styled
def _figure(study: StudyFiles, drawn: Sequence[Drawn]) -> Figure:
    caption = (
        f"Net benefit of acting on a prediction of {study.task.positive}, in true positives a "
        f"slide, on {size_of([one.head for one in drawn], study)} (Vickers and Elkin 2006). The "
        "threshold probability says how many false positives one true positive is worth: at 0.2 "
        "four. A head is useful where it lies above acting on all slides (dashed) and on none "
        "(0). Bands are 95 % intervals from "
        f"{RESAMPLES} resamples of patients. Predictions are read as "
        "probabilities, so that poor calibration costs net benefit; the prevalence is that of "
        "these slides."
    )
    if len(drawn) <= OVERLAID:
        canvas, axes = panels(1, width=6.2, height=3.0)
        _overlay(axes[0], drawn)
        name_axes(axes, "threshold probability", "net benefit")
        keys = [Key(COLOURS[number], one.head.name) for number, one in enumerate(drawn)]
        return figure(canvas, caption, [*keys, Key(QUIET, "act on all (dashed), on none (0)")])
    shown = drawn[:PANELS]
    canvas, axes = panels(len(shown))
    every = np.stack([one.benefit.value for one in drawn])
    for one, own in zip(axes, shown, strict=True):
        _frame(one, own)
        one.fill_between(
            THRESHOLDS[::2],
            every.min(0)[::2],
            every.max(0)[::2],
            color=GREY,
            alpha=0.45,
            linewidth=0,
        )
        _line(one, own, COLOURS[0], "-")
        one.set_title(shorten(own.head.name))
    name_axes(axes, "threshold probability", "net benefit")
    if len(drawn) > PANELS:
        caption += f" The first {PANELS} of {len(drawn)} heads have a panel."
    caption += f" Blue: the head named above the panel; grey: range of all {len(drawn)} heads."
    return figure(canvas, caption)


def _overlay(axes: Axes, drawn: Sequence[Drawn]) -> None:
    _frame(axes, drawn[0])
    turns = Turns([one.benefit.value for one in drawn])
    for number, one in enumerate(drawn):
        _line(axes, one, COLOURS[number], turns.dashes(one.benefit.value))


def _line(axes: Axes, one: Drawn, colour: str, style: object) -> None:
    benefit = one.benefit
    if benefit.low is not None and benefit.high is not None:
        axes.fill_between(
            THRESHOLDS, benefit.low, benefit.high, color=colour, alpha=BAND, linewidth=0
        )
    axes.plot(THRESHOLDS, benefit.value, color=colour, linestyle=style)


def _frame(axes: Axes, one: Drawn) -> None:
    # Far below 0 nothing is to be learnt, and curves above it would be flat.
    axes.set(xlim=(0, 1), ylim=(-0.4 * one.prevalence, 1.15 * one.prevalence))
    axes.axhline(0, color=QUIET, linewidth=0.8)
    axes.plot(THRESHOLDS, one.everyone, color=QUIET, linewidth=1, linestyle="--")
