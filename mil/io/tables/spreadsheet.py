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
from mil.io.tables.formulas import unescaped
from mil.io.tables.slides import check_no_duplicates

# Columns that may hold the slide where none of `KNOWN` does.
LAST_RESORT = {"slide": ("path", "slide_path", "file_path"), "label": (), "patient": ()}
WHAT_IT_LOOKS_LIKE = (
    "a .csv, .tsv or .xlsx with one row a slide and the columns slide (the file's name), label, "
    "and patient where patients have several slides"
)
# A column with more distinct values is hardly one of classes.
MAX_CLASSES = 20
SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        path: the spreadsheet's file.
        header: names of its columns; columns without a name are left out.
        rows: line number, and cells by column, of each row that is not empty.
    """

    path: Path
    header: list[str]
    rows: list[tuple[int, dict[str, str]]]

    def values(self, column: str) -> set[str]:
        """The distinct values of a column, the empty one left out."""
        return {row[column] for _, row in self.rows} - {""}


def read_sheet(path: Path) -> Sheet:
    """Read a .csv or .tsv (UTF-8; comma, semicolon or tab) or the first sheet of an .xlsx.

    Raises:
        DatasetError: the file cannot be read, or has no rows.
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
    read = readers.get(path.suffix.lower())
    if read is None:
        raise DatasetError(
            f"{path}: cannot read a {path.suffix or 'file without extension'}; save it as .csv "
            "or .xlsx"
        )
    lines = [(number, cells) for number, cells in read(path) if any(cells)]
    if len(lines) < 2:
        raise DatasetError(f"{path}: the table has no rows; --labels wants {WHAT_IT_LOOKS_LIKE}")
    (_, header), *body = lines
    check_no_duplicates(header, path)
    rows = []
    for line, cells in body:
        if any(cells[len(header) :]):
            raise DatasetError(
                f"{path}: line {line} has more cells than the header; put text with a comma in "
                "quotes"
            )
        padded = cells + [""] * (len(header) - len(cells))
        named = {name: cell for name, cell in zip(header, padded, strict=False) if name}
        rows.append((line, named))
    return Sheet(path, [name for name in header if name], rows)


def _read_text(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        head = next((line for line in text.splitlines() if line.strip()), "")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(head))
        for cells in reader:
            yield reader.line_num, [unescaped(cell.strip()) for cell in cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path}: not a csv in UTF-8 ({error}); save it as 'CSV UTF-8' or as .xlsx"
        ) from None


def _separator(head: str) -> str:
    """The separator that cuts the header into the most columns."""

    def num_columns(separator: str) -> int:
        return len(next(csv.reader([head], delimiter=separator), []))

    return max(SEPARATORS, key=num_columns)


def _read_xlsx(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Row number and cells of each row."""
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, InvalidFileException, KeyError, ValueError, OSError) as error:
        raise DatasetError(
            f"{path}: not an .xlsx file ({error}); save it as .xlsx or .csv again"
        ) from None
    try:
        sheet = book.worksheets[0]
        # Some programs write wrong ones, and rows would be missing.
        sheet.reset_dimensions()
        for number, cells in enumerate(sheet.iter_rows(), 1):
            yield number, [_text(cell) for cell in cells]
    finally:
        book.close()


def _text(cell: Any) -> str:
    """A cell as it is shown."""
    value = cell.value
    if value is None:
        return ""
    # Before numbers, since Python's truth values are integers.
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
    if isinstance(value, date):
        return value.isoformat()
    return str(value).strip()


def find_column(sheet: Sheet, ours: str, user_column: str | None) -> str | None:
    """Find the column of the slides, the labels or the patients.

    Args:
        sheet: the table.
        ours: slide, label or patient.
        user_column: name of the column by the user; None: to be found.

    Returns:
        The column's name; None if there is no such column.

    Raises:
        DatasetError: the user's column does not exist, or several could be meant.
    """
    # The user's word counts, but a misspelt one must not fall back to a guess.
    if user_column is not None:
        if user_column not in sheet.header:
            message = unknown_name("column", user_column, sheet.header)
            raise DatasetError(f"{sheet.path}: --{ours}-column: {message}")
        return user_column
    by_key = {column_key(name): name for name in sheet.header}
    candidates = [by_key[name] for name in KNOWN[ours] if name in by_key]
    if not candidates:
        candidates = [by_key[name] for name in LAST_RESORT[ours] if name in by_key]
    if not candidates:
        return None
    # Our own name says enough, but `label` beside `diagnosis` does not.
    certain = ours != "label" and candidates[0].lower() == ours
    if len(candidates) > 1 and not certain:
        raise DatasetError(
            f"{sheet.path}: the {ours} could be in {' or '.join(map(repr, candidates))}; say which "
            f"with --{ours}-column NAME"
        )
    return candidates[0]


def need_column(sheet: Sheet, ours: str, user_column: str | None) -> str:
    """Like `find_column`, for a column that must exist.

    Raises:
        DatasetError: also when it does not exist; columns that could be meant are
            listed.
    """
    column = find_column(sheet, ours, user_column)
    if column is None:
        could_be: Sequence[str] = sheet.header
        if ours == "label":
            likely = [name for name in sheet.header if _could_be_label(sheet, name)]
            could_be = likely or sheet.header
        raise DatasetError(
            f"{sheet.path}: no column for the {ours}; it could be one of: {', '.join(could_be)}; "
            f"say which with --{ours}-column NAME"
        )
    return column


def _could_be_label(sheet: Sheet, column: str) -> bool:
    taken = {"split", "mpp", "annotation", *KNOWN["slide"], *KNOWN["patient"]}
    return column_key(column) not in taken and 2 <= len(sheet.values(column)) <= MAX_CLASSES
