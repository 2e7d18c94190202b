"""Section of the report: the test slides that heads predict worst, worst first."""

from collections.abc import Sequence
from typing import NamedTuple

from mil.report.flow import count
from mil.report.links import link, page_path
from mil.report.page_section import PageSection
from mil.report.slides import SlideCell, SlideRow
from mil.report.study_files import StudyFiles
from mil.report.thumbnails import Thumbnails

# Number of slides that a head's list shows; the table of slides has all of them.
MOST = 8


class Picture(NamedTuple):
    """A picture: its thumbnail inside the page, a link to the whole, and what it shows."""

    uri: str
    href: str
    title: str


class WorstSlide(NamedTuple):
    """A slide in the list."""

    row: SlideRow
    cell: SlideCell
    page: str
    pictures: list[Picture]


class WorstOfHead(NamedTuple):
    """List of a head."""

    head: str
    summary: str
    slides: list[WorstSlide]


def section(
    study: StudyFiles, rows: Sequence[SlideRow], thumbnails: Thumbnails
) -> PageSection | None:
    """Test slides with a wrong prediction by each head, the largest error first."""
    if not study.task.error_meaning or not study.heads:
        return None
    lists = [_of_head(study, number, rows, thumbnails) for number in range(len(study.heads))]
    return PageSection(
        "errors",
        "Worst errors first",
        {"heads": lists, "meaning": study.task.error_meaning, "pages": study.pages.name},
    )


def errors_of_head(rows: Sequence[SlideRow], number: int) -> list[SlideRow]:
    """Test slides that a head predicts wrongly, the largest error first."""
    wrong = [row for row in rows if row.cells[number].split == "test" and row.cells[number].wrong]
    return sorted(wrong, key=lambda row: (-(row.cells[number].error or 0), row.slide))


def _of_head(
    study: StudyFiles, number: int, rows: Sequence[SlideRow], thumbnails: Thumbnails
) -> WorstOfHead:
    tested = [row for row in rows if row.cells[number].split == "test"]
    wrong = errors_of_head(rows, number)
    summary = f"{len(wrong):,} of {count(len(tested), 'test slide')} predicted wrongly"
    if not study.task.classes:
        summary = f"{count(len(tested), 'test slide')}, ordered by the difference"
    if len(wrong) > MOST:
        summary += f"; the {MOST} worst are shown"
    slides = [
        WorstSlide(
            row,
            row.cells[number],
            link(page_path(study.pages, row.slide), study.out),
            _pictures(study, row.cells[number], thumbnails),
        )
        for row in wrong[:MOST]
    ]
    return WorstOfHead(study.heads[number].metrics.name, summary, slides)


def _pictures(study: StudyFiles, cell: SlideCell, thumbnails: Thumbnails) -> list[Picture]:
    if cell.images is None:
        return []
    titles = {
        "attention": cell.images.heatmap,
        "effect on the prediction": cell.images.effect,
        "tiles": cell.images.tiles,
    }
    return [
        Picture(thumbnails.uri(path), link(path, study.out), title)
        for title, path in titles.items()
        if path is not None
    ]
