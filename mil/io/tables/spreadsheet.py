"""A user's spreadsheet, all cells as strings, and which of its columns is which."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from mil.errors import DatasetError, unknown_name
from mil.io.tables.conventions import KNOWN, column_key

LAST_RESORT = {"slide": ("path", "slide_path", "file_path"), "label": (), "patient": ()}
WHAT_IT_LOOKS_LIKE = (
    "a .csv, .tsv or .xlsx with one row a slide and the columns slide (the file's name), label, "
    "and patient where patients have several slides"
)
MAX_CLASSES = 20


@dataclass(frozen=True)
class Sheet:
    """A table: its header, and (line number, cells) of each row that is not empty."""

    path: Path
    header: list[str]
    rows: list[tuple[int, dict[str, str]]]

    def values(self, column: str) -> set[str]:
        """The distinct values of a column, the empty one left out."""
        return {row[column] for _, row in self.rows} - {""}


def read_sheet(path: Path) -> Sheet:
    """Read a .csv or .tsv (UTF-8; comma, semicolon or tab) or the first sheet of an .xlsx.

    Raises:
        DatasetError: it cannot be read, or has no rows.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; --labels wants {WHAT_IT_LOOKS_LIKE}")
    readers = {
        ".csv": _read_text,
        ".tsv": _read_text,
        ".txt": _read_text,
        ".xlsx": _read_xlsx,
        ".xlsm": _read_xlsx,
    }
    if path.suffix.lower() not in readers:
        raise DatasetError(
            f"{path}: cannot read a {path.suffix or 'file without extension'}; save it as .csv "
            "or .xlsx"
        )
    lines = [(i, cells) for i, cells in readers[path.suffix.lower()](path) if any(cells)]
    if len(lines) < 2:
        raise DatasetError(f"{path}: the table has no rows; --labels wants {WHAT_IT_LOOKS_LIKE}")
    header = lines[0][1]
    rows = []
    for name in header:
        if name and header.count(name) > 1:
            raise DatasetError(f"{path}: the column {name!r} is there twice; rename or remove one")
    for line, cells in lines[1:]:
        if any(cells[len(header) :]):
            raise DatasetError(
                f"{path}: line {line} has more cells than the header; put text with a comma in "
                "quotes"
            )
        padded = cells + [""] * (len(header) - len(cells))
        rows.append(
            (line, {name: cell for name, cell in zip(header, padded, strict=False) if name})
        )
    return Sheet(path, [name for name in header if name], rows)


def _read_text(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        head = next((line for line in text.splitlines() if line.strip()), "")
        # The separator is the one that cuts the header into the most columns.
        separator = max(",;\t", key=lambda mark: len(next(csv.reader([head], delimiter=mark), [])))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        for cells in reader:
            yield reader.line_num, [cell.strip() for cell in cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path}: not a csv in UTF-8 ({error}); save it as 'CSV UTF-8' or as .xlsx"
        ) from None


def _read_xlsx(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, InvalidFileException, KeyError, ValueError, OSError) as error:
        raise DatasetError(
            f"{path}: not an .xlsx file ({error}); save it as .xlsx or .csv again"
        ) from None
    try:
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # some programs write wrong ones
        for i, cells in enumerate(sheet.iter_rows(), 1):
            yield i, [_text(cell) for cell in cells]
    finally:
        book.close()


def _text(cell: Any) -> str:
    value = cell.value
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        # A number shown as 007 by its format is meant as 007.
        digits = str(cell.number_format)
        return str(value).zfill(len(digits)) if set(digits) == {"0"} else str(value)
    if isinstance(value, datetime) and (value.hour, value.minute, value.second) == (0, 0, 0):
        value = value.date()
    return (
        value.isoformat()
        if isinstance(value, date)
        else ""
        if value is None
        else str(value).strip()
    )


def find_column(sheet: Sheet, ours: str, given: str | None) -> str | None:
    """Which column holds the slide, the label or the patient.

    Args:
        sheet: the table.
        ours: slide, label or patient.
        given: what the user said.

    Returns:
        The column's name; None if there is no such column.

    Raises:
        DatasetError: the user's column is not there, or several could be meant.
    """
    if given is not None:
        if given not in sheet.header:
            raise DatasetError(
                f"{sheet.path}: --{ours}-column: {unknown_name('column', given, sheet.header)}"
            )
        return given
    by_name = {column_key(name): name for name in sheet.header}
    found = [by_name[name] for name in KNOWN[ours] if name in by_name]
    found = found or [by_name[name] for name in LAST_RESORT[ours] if name in by_name]
    # Our own name says enough, but `label` beside `diagnosis` does not.
    if len(found) > 1 and (ours == "label" or found[0].lower() != ours):
        raise DatasetError(
            f"{sheet.path}: the {ours} could be in {' or '.join(map(repr, found))}; say which "
            f"with --{ours}-column NAME"
        )
    return found[0] if found else None


def need_column(sheet: Sheet, ours: str, given: str | None) -> str:
    """Like `find_column`, for a column that must be there.

    Raises:
        DatasetError: also when it is not there; what could be meant is listed.
    """
    column = find_column(sheet, ours, given)
    if column is None:
        could_be: Sequence[str] = sheet.header
        if ours == "label":
            could_be = [
                name for name in sheet.header if _could_be_label(sheet, name)
            ] or sheet.header
        raise DatasetError(
            f"{sheet.path}: no column for the {ours}; it could be one of: {', '.join(could_be)}; "
            f"say which with --{ours}-column NAME"
        )
    return column


def _could_be_label(sheet: Sheet, column: str) -> bool:
    taken = {"split", "mpp", "annotation", *KNOWN["slide"], *KNOWN["patient"]}
    return column_key(column) not in taken and 2 <= len(sheet.values(column)) <= MAX_CLASSES
