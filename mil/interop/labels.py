"""Labels and patients from any tool's tables: CLAM's, STAMP's two, ACMIL's, TRIDENT's, ours; ids are strings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mil.errors import DatasetError
from mil.interop.external import Source
from mil.interop.pixel_size import as_found
from mil.io.tables.matching import match
from mil.io.tables.spreadsheet import Sheet, find_column, need_column, read_sheet

Columns = Mapping[str, str | None]  # slide, label, patient: what the user calls them


@dataclass(frozen=True)
class Row:
    """What a table says of one slide."""

    slide: str
    patient: str
    label: str
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """Rows of the slides that have a label, and what is left over, by name."""

    rows: list[Row]
    without_label: list[str]
    without_bag: list[str]


def read_labels(
    labels: Path, slide_table: Path | None, columns: Columns, sources: Sequence[Source], root: Path
) -> Labels:
    """The label and the patient of each slide.

    Args:
        labels: a table with a row a slide; or STAMP's of patients, with `slide_table`.
        slide_table: STAMP's table of slides and patients.
        columns: names of columns that cannot be told by themselves.
        sources: the slides.
        root: folder of the features; the table may name slides by their path in it.

    Raises:
        DatasetError: a table cannot be read, or could mean two things.
    """
    sheet = read_sheet(labels)
    label = need_column(sheet, "label", columns["label"])
    if slide_table is not None:
        sheet = _joined(read_sheet(slide_table), sheet, label, columns)
    elif find_column(sheet, "slide", columns["slide"]) is None and find_column(
        sheet, "patient", columns["patient"]
    ):
        raise DatasetError(
            f"{labels}: a table of patients; give the table of their slides too: --slide-table FILE"
        )
    slide = need_column(sheet, "slide", columns["slide"])
    patient = find_column(sheet, "patient", columns["patient"])
    slides = as_found(sources, root)
    matches = match(sheet, slides, slide, label)
    ids = {str(each.path): each.slide for each in slides}
    rows = [
        Row(
            each.slide,
            (patient and cells[patient]) or each.slide,
            cells[label],
            _others(cells, slide, label, patient),
        )
        for each, cells in matches.pairs
    ]
    without_label = [ids[path] for path in matches.without_row + matches.without_label]
    return Labels(rows, without_label, matches.without_slide)


def _others(cells: dict[str, str], *used: str | None) -> dict[str, str]:
    return {name: cell for name, cell in cells.items() if name not in used}


def _joined(slides: Sheet, patients: Sheet, label: str, columns: Columns) -> Sheet:
    """The table of slides with the label of each slide's patient."""
    there = need_column(slides, "patient", columns["patient"])
    here = need_column(patients, "patient", columns["patient"])
    labels: dict[str, str] = {}
    for line, cells in patients.rows:
        if labels.setdefault(cells[here], cells[label]) != cells[label]:
            raise DatasetError(
                f"{patients.path}: line {line}: patient {cells[here]} has two labels; keep one"
            )
    rows = [(line, {**cells, label: labels.get(cells[there], "")}) for line, cells in slides.rows]
    return Sheet(slides.path, [*dict.fromkeys([*slides.header, label])], rows)


def labels_inside(labels: Mapping[str, str]) -> Labels:
    """Labels that the files of features carry themselves, by slide; each slide is a patient of its own."""
    rows = [Row(slide, slide, label) for slide, label in labels.items() if label]
    return Labels(rows, [slide for slide, label in labels.items() if not label], [])
