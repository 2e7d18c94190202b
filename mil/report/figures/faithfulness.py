"""Section of the report: how faithful maps are, by patch flipping."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from mil.io.map_metrics import MAP_TITLES, EvidenceCheck, Faithfulness
from mil.report.figures.blocks import Block, Figure, Key, Table, section
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
)
from mil.report.page_section import PageSection
from mil.report.study_files import StudyFiles
from mil.statistics.text import with_interval

MAP_COLOURS = dict(zip(MAP_TITLES, COLOURS, strict=False))
PERCENTS = (1, 5, 10, 25, 50, 100)  # ticks of the logarithmic axis


class Flipped(NamedTuple):
    """Patch flipping of the maps of a head, by kind."""

    name: str
    maps: dict[str, Faithfulness]


def build(study: StudyFiles) -> PageSection | None:
    """Patch-flipping curves of each kind of map; None where scores have none."""
    heads = []
    for head in study.heads:
        maps = {
            kind: metrics.faithfulness
            for kind, metrics in head.metrics.maps.items()
            if kind in MAP_TITLES and metrics.faithfulness is not None
        }
        if maps:
            heads.append(Flipped(head.metrics.name, maps))
    if not heads:
        return None
    blocks: list[Block] = [_figure(heads), _table(heads)]
    checks = {head.metrics.name: head.metrics.evidence_checks for head in study.heads}
    blocks += _checks({name: of for name, of in checks.items() if of})
    return section("faithfulness", "Faithfulness of maps", blocks)


@styled
def _figure(heads: Sequence[Flipped]) -> Figure:
    shown = heads[:PANELS]
    canvas, axes = panels(len(shown))
    kinds = [kind for kind in MAP_TITLES if any(kind in head.maps for head in shown)]
    unit = next(iter(shown[0].maps.values())).unit
    for one, head in zip(axes, shown, strict=True):
        one.axhline(0, color=QUIET, linewidth=0.6)
        for kind, flipped in head.maps.items():
            _curves(one, flipped, MAP_COLOURS[kind])
        one.set_title(shorten(head.name))
    _share_scale(axes, shown)
    name_axes(axes, "tiles taken out, %", f"change of evidence, {unit}")
    slides = sorted({flipped.n_slides for head in shown for flipped in head.maps.values()})
    number = str(slides[0]) if len(slides) == 1 else f"{slides[0]} to {slides[-1]}"
    caption = (
        f"Patch flipping on {number} test slides: mean change of the evidence (of attention: "
        "for the prediction; of other maps: for the class of interest, or the number) when tiles "
        "are taken out, those of the highest value of the map first (solid) or those of the "
        "lowest first (dashed). A faithful map has its solid curve far below its dashed "
        "one; the shaded area between them is the measure, 0 for a random order. The axis is "
        "logarithmic."
    )
    if len(heads) > PANELS:
        caption += f" The first {PANELS} of {len(heads)} heads have a panel."
    return figure(canvas, caption, [Key(MAP_COLOURS[kind], MAP_TITLES[kind]) for kind in kinds])


def _curves(axes: Axes, flipped: Faithfulness, colour: str) -> None:
    curves = flipped.curves
    percent = 100 * np.array(curves.shares, dtype=float)
    most, least = (
        np.array([np.nan if change is None else change for change in changes], dtype=float)
        for changes in (curves.most_first, curves.least_first)
    )
    known = np.isfinite(most) & np.isfinite(least) & (percent > 0)
    if not known.any():
        return
    axes.fill_between(
        percent[known], most[known], least[known], color=colour, alpha=BAND / 2, linewidth=0
    )
    axes.plot(percent[known], most[known], color=colour)
    axes.plot(percent[known], least[known], color=colour, linestyle=(0, (4, 2)), linewidth=1.1)


def _share_scale(axes: Sequence[Axes], heads: Sequence[Flipped]) -> None:
    """The same axes on all panels, so that heads can be compared."""
    shares = [share for head in heads for one in head.maps.values() for share in one.curves.shares]
    least = 100 * min((share for share in shares if share > 0), default=0.01)
    low = min(one.get_ylim()[0] for one in axes)
    high = max(one.get_ylim()[1] for one in axes)
    ticks = [float(percent) for percent in PERCENTS if percent >= least] or [least]
    for one in axes:
        one.set_xscale("log")
        one.set(xlim=(least * 0.9, 110), ylim=(low, high))
        # Names of its own: those of a logarithmic axis are mathematics.
        one.set_xticks(ticks, [f"{percent:g}" for percent in ticks])
        one.minorticks_off()


def _table(heads: Sequence[Flipped]) -> Table:
    rows = [
        [
            head.name,
            MAP_TITLES[kind],
            with_interval(flipped.area).replace("-", "−"),
            flipped.unit,
            str(flipped.n_slides),
        ]
        for head in heads
        for kind, flipped in head.maps.items()
    ]
    return Table(
        "Area between both curves, mean over slides, with its 95 % interval over patients; 0 is a "
        "random order, larger is more faithful.",
        ["head · encoder", "map", "area", "unit", "slides"],
        rows,
        names=2,
    )


def _checks(checks: dict[str, list[EvidenceCheck]]) -> list[Block]:
    """Table of estimated effects against those of tiles that were really taken out."""
    if not checks:
        return []
    rows = [
        [
            name,
            f"seed {check.seed}, fold {check.fold}",
            str(check.n_tiles),
            _number(check.pearson),
            _number(check.spearman),
            _percent(check.completeness_error_mean),
            _percent(check.completeness_error_max),
        ]
        for name, of in checks.items()
        for check in of
    ]
    return [
        Table(
            "Effect of tiles as estimated by integrated gradients against tiles really taken out, "
            "for heads whose tiles look at one another: correlations within a slide, mean over "
            "slides; error of the sum of the gradients.",
            ["head · encoder", "run", "tiles", "Pearson", "Spearman", "error, mean", "error, most"],
            rows,
            names=2,
            folded=len(rows) > PANELS,
        )
    ]


def _number(number: float | None) -> str:
    return "–" if number is None else f"{number:.3f}".replace("-", "−")


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2g} %"
