"""Section of the report: FROC curves of the lesions that maps find."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

from mil.io.map_metrics import MAP_TITLES, Froc, Lesions, TileMetrics
from mil.report.figures.blocks import Block, Figure, Key, Note, Table, section
from mil.report.figures.faithfulness import MAP_COLOURS
from mil.report.figures.style import (
    PANELS,
    figure,
    name_axes,
    panels,
    shorten,
    styled,
)
from mil.report.page_section import PageSection
from mil.report.study_files import StudyFiles
from mil.statistics.text import value, with_interval

MOST_FALSE = 8.0  # false positives a slide at the right end, as CAMELYON16 has it
SIZES = {"itc": "isolated tumour cells", "micro": "micrometastases", "macro": "macrometastases"}
SHOWN = 5  # slides that a sentence names


class Found(NamedTuple):
    """FROC of the maps of a head, by kind."""

    name: str
    maps: dict[str, Froc]


def build(study: StudyFiles) -> PageSection | None:
    """FROC curves and maps against annotated tiles; None where nothing is annotated."""
    heads = []
    tiles = []
    for head in study.heads:
        name = head.metrics.name
        maps = {kind: of for kind, of in head.metrics.maps.items() if kind in MAP_TITLES}
        froc = {kind: of.froc for kind, of in maps.items() if of.froc is not None}
        if froc:
            heads.append(Found(name, froc))
        tiles += [(name, kind, of.tiles) for kind, of in maps.items() if of.tiles is not None]
    blocks: list[Block] = []
    if heads:
        blocks += [_figure(heads), _table(heads)]
    lesions = next((head.metrics.lesions for head in study.heads if head.metrics.lesions), None)
    if lesions is not None:
        blocks += _about(lesions, drawn=bool(heads))
    if tiles:
        blocks.append(_tiles(tiles))
    return section("lesions", "Lesions and annotated tiles", blocks)


@styled
def _figure(heads: Sequence[Found]) -> Figure:
    shown = heads[:PANELS]
    canvas, axes = panels(len(shown))
    for one, head in zip(axes, shown, strict=True):
        for kind, froc in head.maps.items():
            _curve(one, froc, kind)
        one.set(xlim=(-0.1, MOST_FALSE + 0.2), ylim=(-0.02, 1.02))
        one.set_xticks((0, 1, 2, 4, 8))
        one.set_yticks((0, 0.25, 0.5, 0.75, 1), ("0", "", "0.5", "", "1"))
        one.set_title(shorten(head.name))
    name_axes(axes, "false positives a slide", "sensitivity to lesions")
    kinds = [kind for kind in MAP_TITLES if any(kind in head.maps for head in shown)]
    caption = (
        "FROC curves of each kind of map: lesions that detections find against false positives a "
        "slide. Points with 95 % intervals over patients stand at the numbers of false positives "
        "whose mean sensitivity is the score (CAMELYON16)."
    )
    if len(heads) > PANELS:
        caption += f" The first {PANELS} of {len(heads)} heads have a panel."
    return figure(canvas, caption, [Key(MAP_COLOURS[kind], MAP_TITLES[kind]) for kind in kinds])


def _curve(axes: Axes, froc: Froc, kind: str) -> None:
    colour = MAP_COLOURS[kind]
    axes.plot(
        froc.curve.false_per_slide, froc.curve.sensitivity, color=colour, drawstyle="steps-post"
    )
    # Beside each other, or the last interval would hide the others.
    shift = 0.06 * (list(MAP_TITLES).index(kind) - (len(MAP_TITLES) - 1) / 2)
    for false, metric in zip(froc.false_per_slide, froc.sensitivity, strict=True):
        if metric.ci95 is not None:
            axes.plot([false + shift] * 2, metric.ci95, color=colour, linewidth=0.8)
        if metric.value is not None:
            axes.plot([false + shift], [metric.value], "o", markersize=3.5, color=colour)


def _table(heads: Sequence[Found]) -> Table:
    first = next(iter(heads[0].maps.values()))
    sizes = list(first.by_size)
    rows = []
    for head in heads:
        for kind, froc in head.maps.items():
            by_size = [
                f"{froc.by_size[size].mean:.3f} ({froc.by_size[size].n_lesions} lesions)"
                if size in froc.by_size
                else "–"
                for size in sizes
            ]
            at = [value(metric) for metric in froc.sensitivity]
            rows.append([head.name, MAP_TITLES[kind], with_interval(froc.score), *at, *by_size])
    return Table(
        "FROC score (mean sensitivity at the numbers of false positives a slide in the header, "
        "with 95 % interval), and mean sensitivity by size of the lesions.",
        [
            "head · encoder",
            "map",
            "score",
            *(f"at {false:g}" for false in first.false_per_slide),
            *(SIZES.get(size, size) for size in sizes),
        ],
        rows,
        names=2,
    )


def _about(lesions: Lesions, *, drawn: bool) -> list[Block]:
    """Sentences about the slides and lesions that count."""
    counts = ", ".join(
        f"{number} {SIZES.get(size, size)}" for size, number in lesions.n_lesions.items() if number
    )
    text = (
        f"Lesions: {counts} on {lesions.n_slides_with_lesions} of {lesions.n_slides} test slides "
        f"of {lesions.n_patients} patients."
    )
    if not counts:
        text = "No test slide has an annotated lesion that counts, so there are no FROC curves."
    if lesions.left_out:
        slides = list(lesions.left_out)
        more = f" and {len(slides) - SHOWN} more" if len(slides) > SHOWN else ""
        reasons = [f"{slide}: {lesions.left_out[slide]}" for slide in slides[:SHOWN]]
        text += f" Slides left out: {'; '.join(reasons)}{more}."
    blocks: list[Block] = [Note(text)]
    if lesions.note:
        blocks.append(Note(lesions.note))
    return blocks if drawn or lesions.note or lesions.left_out else []


def _tiles(tiles: Sequence[tuple[str, str, TileMetrics]]) -> Table:
    rows = []
    for name, kind, of in tiles:
        hits = [with_interval(hit.rate) for hit in of.top_hits]
        rows.append(
            [
                name,
                MAP_TITLES[kind],
                with_interval(of.tile_auroc),
                f"{value(of.average_precision)} ({of.average_precision_by_chance:.3f} by chance)",
                with_interval(of.dice),
                *hits,
            ]
        )
    # Kinds of map have thresholds in units of their own.
    by_rule: dict[str, list[str]] = {}
    for _, kind, of in tiles:
        kinds = by_rule.setdefault(of.dice_rule, [])
        if MAP_TITLES[kind] not in kinds:
            kinds.append(MAP_TITLES[kind])
    rules = [f"{' and '.join(kinds)}: {rule}" for rule, kinds in by_rule.items()]
    most = max((of for _, _, of in tiles), key=lambda of: len(of.top_hits)).top_hits
    rows = [row + ["–"] * (5 + len(most) - len(row)) for row in rows]
    return Table(
        "Maps against annotated tiles, mean over annotated test slides, with 95 % intervals over "
        f"patients. Dice of {' Of '.join(rules)}",
        [
            "head · encoder",
            "map",
            "tile AUROC (0.5 by chance)",
            "average precision",
            "Dice",
            *(f"hit in the first {hit.k}" if hit.k > 1 else "first tile hits" for hit in most),
        ],
        rows,
        names=2,
    )
