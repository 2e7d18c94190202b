"""Sections of the report: lost slides, heads on the test slides, their comparison, all slides."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mil.report.figures import compared
from mil.report.links import link, page_path
from mil.report.page_section import PageSection
from mil.report.slides import SlideCell, SlideRow
from mil.report.study_files import StudyFiles
from mil.report.thumbnails import Thumbnails
from mil.statistics.text import column_title


def lost_section(study: StudyFiles, qc_images: Mapping[str, Path]) -> PageSection | None:
    """Slides that could not be used, with reason and remedy; None where there are none."""
    lost = [state for state in study.states if state.state != "ok"]
    if not lost:
        return None
    links = _links(qc_images, study.out)
    rows = [(state, state.advice, links.get(state.slide)) for state in lost]
    return PageSection("lost", "Slides that could not be used", {"lost": rows})


def section(study: StudyFiles) -> PageSection:
    """Metrics of each head on the test slides."""
    heads = study.heads
    findings = [head.metrics.named_finding for head in heads if head.metrics.named_finding]
    # Heads are held against the same annotations.
    notes = list(dict.fromkeys(note for head in heads for note in head.metrics.annotations))
    return PageSection(
        "heads",
        "Heads on the test slides",
        {
            "heads": heads,
            "headlines": study.task.headlines,
            "interval_note": study.task.interval_note,
            "positive": study.settings.positive_class,
            "several_runs": any(len(head.metrics.runs) > 1 for head in heads),
            "cross_validated": any(head.metrics.cross_validated for head in heads),
            "localised": any(head.metrics.localisation for head in heads),
            "findings": findings,
            "annotation_notes": notes,
        },
    )


def comparison_section(study: StudyFiles) -> PageSection | None:
    """Heads beside each other, and paired tests; None where they were not compared."""
    if study.comparison is None:
        return None
    findings = {head.metrics.named_finding for head in study.heads}
    notes = [note for note in study.comparison.notes if note not in findings]
    content = {
        "compared": study.comparison,
        "notes": notes,
        "blocks": compared.blocks(study.comparison),
    }
    return PageSection("comparison", "Heads compared", content)


def slides_section(
    study: StudyFiles,
    rows: Sequence[SlideRow],
    qc_images: Mapping[str, Path],
    thumbnails: Thumbnails,
) -> PageSection:
    """All slides with their predictions and heatmaps."""
    # Test slides are shown first, and get the thumbnails that are left.
    uris = {
        (row.slide, cell.head): thumbnails.uri(cell.images.heatmap)
        for row in rows
        for cell in row.cells
        if cell.images is not None and cell.split == "test"
    }
    return PageSection(
        "all-slides",
        "Slides",
        {
            "rows": rows,
            "names": [head.metrics.name for head in study.heads],
            "prediction": column_title(study.task.column_of_interest),
            "pages": {
                row.slide: link(page_path(study.pages, row.slide), study.out) for row in rows
            },
            "qc_images": _links(qc_images, study.out),
            "heatmaps": _heatmaps(rows, study.out),
            "uris": uris,
            "embedded": sum(bool(uri) for uri in uris.values()),
            "marked": bool(study.task.classes),
        },
        "slides",
    )


def _heatmaps(rows: Sequence[SlideRow], page: Path) -> dict[tuple[str, str], str]:
    """Link to the heatmap of each slide and head."""

    def cells() -> list[tuple[str, SlideCell]]:
        return [(row.slide, cell) for row in rows for cell in row.cells]

    return {
        (slide, cell.head): link(cell.images.heatmap, page)
        for slide, cell in cells()
        if cell.images is not None
    }


def _links(paths: Mapping[str, Path], page: Path) -> dict[str, str]:
    return {name: link(path, page) for name, path in paths.items()}
