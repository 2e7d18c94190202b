"""Notes on a slide table: what is no fault, but what a user should know before a run."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from mil.errors import some
from mil.io.tables.columns import likely_columns
from mil.io.tables.spreadsheet import Sheet
from mil.text import escaped, look

# Columns whose empty cells are told.
MOST_COLUMNS = 10
# Columns of a table that are looked at: those of genes are not for subgroups.
MOST_LOOKED_AT = 200
# A column with more distinct values is no subgroup.
MOST_VALUES = 20
# Cells of these are empty on many slides, and nothing is lost by it.
MAY_BE_EMPTY = (
    "path",
    "url",
    "mpp",
    "annotation",
    "annotation_url",
    "tissue",
    "region",
    "checksum",
)


def notes_on(sheet: Sheet, column_names: Mapping[str, str]) -> list[str]:
    """Notes on patients, empty cells and values that look alike.

    Args:
        sheet: the table, its empty cells in one form.
        column_names: the table's name of each of our columns.
    """
    return [
        *_on_patients(sheet, column_names["patient"]),
        *_on_empty_cells(sheet, column_names),
        *_on_look_alikes(sheet, column_names),
    ]


def _on_patients(sheet: Sheet, column: str) -> Iterator[str]:
    if column in sheet.header and any(row[column] for _, row in sheet.rows):
        return
    likely = [name for name in likely_columns(sheet, "patient") if name != column]
    remedy = f"; if {likely[0]!r} has them: `columns: {{patient: {likely[0]}}}`" if likely else ""
    yield f"no column for the patient: each slide counts as a patient of its own{remedy}"


def _on_empty_cells(sheet: Sheet, column_names: Mapping[str, str]) -> Iterator[str]:
    ours = {column_names[name] for name in MAY_BE_EMPTY}
    slide = column_names["slide"]
    partly_empty = []
    for column in sheet.header[:MOST_LOOKED_AT]:
        without = [row[slide] for _, row in sheet.rows if not row[column]]
        if column not in ours and 0 < len(without) < len(sheet.rows):
            partly_empty.append(
                f"column {column!r}: {len(without)} of {len(sheet.rows)} cells are empty "
                f"({some(without)})"
            )
    yield from partly_empty[:MOST_COLUMNS]
    if len(partly_empty) > MOST_COLUMNS:
        yield f"{len(partly_empty) - MOST_COLUMNS} more columns have empty cells"


def _on_look_alikes(sheet: Sheet, column_names: Mapping[str, str]) -> Iterator[str]:
    for column in sheet.header[:MOST_LOOKED_AT]:
        values = sheet.values(column)
        few = len(values) <= MOST_VALUES and column not in column_names.values()
        if few or column == column_names["patient"]:
            pairs = [" and ".join(alike) for alike in look_alikes(values)]
            if pairs:
                yield f"column {column!r}: values that look alike ({some(pairs)})"


def look_alikes(values: Iterable[str]) -> list[list[str]]:
    """Groups of different values that look alike or differ in case only, with escapes."""
    by_look: dict[str, list[str]] = defaultdict(list)
    for value in sorted(set(values)):
        by_look[look(value)].append(escaped(value))
    return [alike for alike in by_look.values() if len(alike) > 1]
