"""A page for each slide, in a folder beside the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2

from mil.io.bags.patients import FoldBag
from mil.io.bags.status import SlideState
from mil.io.tables import Slide
from mil.io.tiles import TilesSummary
from mil.report.flow import SPLIT_TITLES, count
from mil.report.links import link, page_path
from mil.report.parts import parts_of
from mil.report.slides import SlideCell, SlideRow
from mil.report.study_files import StudyFiles
from mil.statistics.text import column_title

TEMPLATE = "slide.html.j2"
# Begins every page of ours, so that pages of slides that left the study can be removed.
MARK = '<!DOCTYPE html>\n<html lang="en" data-page="mil report slide">'


class Inputs(NamedTuple):
    """What the pages of a study share."""

    study: StudyFiles
    rows: Sequence[SlideRow]
    summaries: Mapping[str, TilesSummary]
    qc_images: Mapping[str, Path]


class Neighbour(NamedTuple):
    """Link to the page of another slide."""

    slide: str
    href: str


def write_pages(inputs: Inputs, template: jinja2.Template) -> None:
    """Write the page of every slide, and remove those of slides that left the study."""
    study = inputs.study
    study.pages.mkdir(parents=True, exist_ok=True)
    folds = _splits_by_fold(study.folds[0] if study.folds else [])
    written = set()
    for number, slide in enumerate(study.slides):
        path = page_path(study.pages, slide.slide)
        context = _context(inputs, number, path, folds.get(slide.slide, {}))
        _write(path, template.render(context))
        written.add(path.name)
    for path in study.pages.glob("*.html"):
        if path.name not in written and _is_ours(path):
            path.unlink()


def _write(path: Path, text: str) -> None:
    # Not `write_text`: a sync for each of thousands of pages takes minutes, and the
    # report, which is written last, is what says that they are complete.
    scratch = path.with_name(f".{path.name}.partial")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def _is_ours(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(len(MARK)) == MARK


def _splits_by_fold(folds: Sequence[FoldBag]) -> dict[str, dict[int, str]]:
    splits: dict[str, dict[int, str]] = {}
    for bag in folds:
        for slide in bag.slides:
            splits.setdefault(slide, {})[bag.fold] = bag.split
    return splits


def _context(
    inputs: Inputs, number: int, path: Path, splits: Mapping[int, str]
) -> dict[str, object]:
    study = inputs.study
    slide = study.slides[number]
    row = inputs.rows[number]
    qc_image = inputs.qc_images.get(slide.slide)
    return {
        "title": study.settings.title or study.dataset,
        "slide": slide.slide,
        "report": link(study.out, path),
        "before": _neighbour(study, number - 1, path),
        "after": _neighbour(study, number + 1, path),
        "position": f"{number + 1:,} of {len(study.slides):,}",
        "facts": _facts(slide, study.states[number], inputs.summaries.get(slide.slide), splits),
        "state": study.states[number],
        "columns": [column_title(column) for column in study.task.columns],
        "cells": row.cells,
        "values": [_values(cell, study) for cell in row.cells],
        "pictures": [_pictures(cell, path) for cell in row.cells],
        "parts": [
            parts_of(
                head,
                slide.patient if head.metrics.fusion == "early" else slide.slide,
                study.task,
            )
            for head in study.heads
        ],
        "qc_image": link(qc_image, path) if qc_image else "",
    }


def _neighbour(study: StudyFiles, number: int, page: Path) -> Neighbour | None:
    if not 0 <= number < len(study.slides):
        return None
    name = study.slides[number].slide
    return Neighbour(name, link(page_path(study.pages, name), page))


def _facts(
    slide: Slide, state: SlideState, summary: TilesSummary | None, splits: Mapping[int, str]
) -> list[tuple[str, str]]:
    facts = [
        ("patient", slide.patient),
        ("label", slide.label),
        ("split", _split(slide, splits)),
        *((f"column {name}", value) for name, value in slide.subgroups.items()),
    ]
    if state.tally is not None:
        unreadable = state.tally.num_unreadable
        note = f", {unreadable:,} of them unreadable" if unreadable else ""
        facts.append(("tiles", f"{state.tally.num_tiles:,}{note}"))
    if summary is not None:
        facts += _of_tiles(summary)
    return [(name, value) for name, value in facts if value]


def _split(slide: Slide, splits: Mapping[int, str]) -> str:
    if not splits:
        return slide.split
    names = {SPLIT_TITLES.get(split, split) for split in splits.values()}
    if len(names) == 1:
        return names.pop()
    return ", ".join(
        f"{SPLIT_TITLES.get(split, split)} in fold {fold}" for fold, split in sorted(splits.items())
    )


def _of_tiles(summary: TilesSummary) -> list[tuple[str, str]]:
    facts = summary.facts
    flags = [f"{flag} {number:,}" for flag, number in summary.num_flagged.items() if number]
    size = f"{facts.width_level0_px:,} × {facts.height_level0_px:,} px"
    source = f" ({facts.mpp_source})" if facts.mpp_source else ""
    return [
        ("scanner", facts.scanner),
        ("size of level 0", size if facts.width_level0_px else ""),
        (
            "pixel size of level 0",
            f"{facts.mpp_level0:.4g} µm{source}" if facts.mpp_level0 else "",
        ),
        ("tissue", f"{facts.tissue_mm2:.2f} mm²" if facts.tissue_mm2 else ""),
        ("tiles flagged", ", ".join(flags)),
    ]


def _values(cell: SlideCell, study: StudyFiles) -> list[str]:
    return [
        f"{cell.predictions[column]:.4g}" if column in cell.predictions else "–"
        for column in study.task.columns
    ]


def _pictures(cell: SlideCell, page: Path) -> list[tuple[str, str]]:
    """Title and link of each picture of a head."""
    if cell.images is None:
        return []
    titles = {
        "attention": cell.images.heatmap,
        "rollout of attention": cell.images.rollout,
        "effect of each tile on the prediction": cell.images.effect,
        "tiles": cell.images.tiles,
    }
    return [(title, link(path, page)) for title, path in titles.items() if path is not None]


def heads_note(cell: SlideCell) -> str:
    """Number of heads behind a prediction."""
    return "" if cell.num_heads < 2 else f"mean of {count(cell.num_heads, 'head')}"
