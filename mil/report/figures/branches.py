"""Section of the report: what each branch of a head does when it is left out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mil.io.branch_metrics import BranchesOfRecipe, BranchMetrics, HeadBranches
from mil.report.figures.blocks import Block, Figure, Note, Table, section
from mil.report.figures.style import (
    COLOURS,
    PANELS,
    QUIET,
    figure,
    name_axes,
    panels,
    shorten,
    styled,
)
from mil.report.page_section import PageSection
from mil.report.study_files import StudyFiles
from mil.statistics.text import interval, title, value, with_interval

# Rows of a table that are read at first sight.
SHOWN = 12
# Changes up to which the axis reaches at least: smaller ones should look small.
LEAST_CHANGE = 0.12


class Named(NamedTuple):
    """Branches of a recipe, with its name in tables."""

    name: str
    of: BranchesOfRecipe


def build(study: StudyFiles) -> PageSection | None:
    """Branches of each head; None where none were left out."""
    shown = [
        Named(head.metrics.name, head.metrics.branches)
        for head in study.heads
        if head.metrics.branches is not None
    ]
    if not shown:
        return None
    blocks: list[Block] = [_figure(shown), _summary(shown), _table(shown)]
    reasons = {head.why_not for named in shown for head in named.of.heads if head.why_not}
    blocks += [Note(f"No interval of the change: {reason}.") for reason in sorted(reasons)]
    return section("branches", "Branches left out", blocks)


@styled
def _figure(shown: Sequence[Named]) -> Figure:
    canvas, axes = panels(min(len(shown), PANELS))
    known = [branch for named in shown for head in named.of.heads for branch in head.branches]
    is_found = any(branch.attention_annotated is not None for branch in known)
    for one, named in zip(axes, shown, strict=False):
        one.axhline(0, color=QUIET, linewidth=0.6)
        for number, head in enumerate(named.of.heads):
            _points(one, head, COLOURS[number % len(COLOURS)], is_found=is_found)
        one.set_title(shorten(named.name))
    # Panels have numbers at the left and at the bottom alone.
    low, high = zip(*(one.get_ylim() for one in axes), strict=True)
    left, right = zip(*(one.get_xlim() for one in axes), strict=True)
    for one in axes:
        one.set(
            xlim=(min(left), max(right)),
            ylim=(min(-LEAST_CHANGE, *low), max(LEAST_CHANGE, *high)),
        )
        # Few and short numbers: the axis's name stands beside them.
        one.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    metric = title(shown[0].of.metric)
    across = "attention on annotated tiles" if is_found else "KL divergence, nats"
    name_axes(axes, across, f"change of {metric}")
    caption = (
        f"Each point is a branch, query or attention head of a trained head: the change of "
        f"{metric} on the test slides when it is left out, with its 95 % interval (below 0: the "
        "head is worse without it), "
    )
    if is_found:
        caption += (
            "against the share of its attention on annotated tiles (dotted: the share of the "
            "tiles that are annotated). Heads have colours of their own."
        )
    else:
        caption += "against how far predictions move. Heads have colours of their own."
    if len(shown) > PANELS:
        caption += f" The first {PANELS} of {len(shown)} heads have a panel."
    return figure(canvas, caption)


def _points(axes: Axes, head: HeadBranches, colour: str, *, is_found: bool) -> None:
    for branch in head.branches:
        x = branch.attention_annotated if is_found else branch.kl
        if x is None or branch.change.value is None:
            continue
        if branch.change.ci95 is not None:
            axes.plot([x, x], branch.change.ci95, color=colour, linewidth=0.7, alpha=0.6)
        axes.plot([x], [branch.change.value], "o", markersize=3.5, color=colour)
    if is_found and head.annotated_by_chance is not None:
        axes.axvline(head.annotated_by_chance, color=colour, linewidth=0.8, linestyle=":")


def _summary(shown: Sequence[Named]) -> Table:
    rows = [[named.name, head.name, *_of_head(head)] for named in shown for head in named.of.heads]
    metric = title(shown[0].of.metric)
    methods = {named.of.method for named in shown if named.of.method}
    by = f" Intervals: {' and '.join(sorted(methods))}." if methods else ""
    return Table(
        f"Branches of each trained head: how many lower, or raise, {metric} when they are left "
        "out, by an interval that does not reach 0 (of many branches one in twenty does by "
        f"chance).{by}",
        [
            "head · encoder",
            "run",
            "branches",
            "worse without",
            "better without",
            f"{metric} with all",
            "largest fall",
            "attention on annotated tiles",
            "by chance",
        ],
        rows,
        names=2,
        folded=len(rows) > SHOWN,
    )


def _of_head(head: HeadBranches) -> list[str]:
    ends = [branch.change.ci95 for branch in head.branches if branch.change.ci95 is not None]
    falls = [branch.change.value for branch in head.branches if branch.change.value is not None]
    shares = [
        branch.attention_annotated
        for branch in head.branches
        if branch.attention_annotated is not None
    ]
    return [
        str(len(head.branches)),
        str(sum(high < 0 for _, high in ends)) if ends else "–",
        str(sum(low > 0 for low, _ in ends)) if ends else "–",
        _number(head.value),
        _number(min(falls)) if falls else "–",
        f"{min(shares):.3f} to {max(shares):.3f}" if shares else "–",
        _number(head.annotated_by_chance),
    ]


def _table(shown: Sequence[Named]) -> Table:
    rows = [
        [named.name, head.name, *_of_branch(branch)]
        for named in shown
        for head in named.of.heads
        for branch in head.branches
    ]
    first = shown[0].of
    ks = [hit.k for hit in next((b.top_hits for b in _branches(shown) if b.top_hits), [])]
    heads = [head for named in shown for head in named.of.heads]
    spreads = [head.spread_by_chance for head in heads if head.spread_by_chance is not None]
    uniform = f" (uniform attention: {np.mean(spreads):.1f})" if spreads else ""
    width = 7 + len(ks)
    return Table(
        f"Each branch: change of {title(first.metric)} when it is left out, mean Kullback-Leibler "
        "divergence of the prediction from that without it, share of its attention on annotated "
        "tiles, annotated slides of which one of its first tiles is annotated, and mean distance "
        f"of its attention from the attention's centre, in tiles{uniform}.",
        [
            "head · encoder",
            "run",
            "branch",
            f"change of {title(first.metric)}",
            "KL, nats",
            "attention on annotated tiles",
            *(f"hit in first {k}" if k > 1 else "hit in first tile" for k in ks),
            "spread, tiles",
        ],
        [row + ["–"] * (width - len(row)) for row in rows],
        names=2,
        folded=len(rows) > SHOWN,
    )


def _branches(shown: Sequence[Named]) -> list[BranchMetrics]:
    return [branch for named in shown for head in named.of.heads for branch in head.branches]


def _of_branch(branch: BranchMetrics) -> list[str]:
    change = value(branch.change)
    between = interval(branch.change)
    return [
        str(branch.branch),
        (f"{change} ({between})" if between else change).replace("-", "−"),
        "–" if branch.kl is None else f"{branch.kl:.3g}",
        _number(branch.attention_annotated),
        *(with_interval(hit.rate) for hit in branch.top_hits),
        "–" if branch.spread is None else f"{branch.spread:.1f}",
    ]


def _number(number: float | None) -> str:
    return "–" if number is None else f"{number:.3f}".replace("-", "−")
