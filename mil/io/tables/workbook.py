"""Excel's workbooks: cells as they are shown, merged cells filled, all of it within bounds."""

import io
import re
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from openpyxl import load_workbook
from openpyxl.utils import column_index_from_string

from mil.errors import DatasetError, FormatError, some
from mil.io.guard import run_guarded
from mil.io.tables.text_files import RawTable, check_num_cells, read_bytes

# The parts of a workbook that are read, unpacked: some 40 bytes a cell. A workbook of
# 0.6 MB may claim gigabytes.
LARGEST_UNPACKED_BYTES = 60_000_000
# Most files in a workbook.
MOST_PARTS = 5000
# Cells with formats count too, though they hold nothing.
MOST_VISITED = 10_000_000
# Rows without cells after which no more are looked for.
MOST_BLANK_ROWS = 20_000
# Time to read a workbook of no size, and more of it for each byte: 200 000 cells are about
# a megabyte, and take 2 seconds.
SECONDS = 5.0
SECONDS_PER_BYTE = 4e-6
GIGABYTES = 0.75
SAVE_AGAIN = "open it in a spreadsheet program and save it as .xlsx or .csv again"

MERGED = re.compile(rb"<(?:\w+:)?mergeCell\s[^>]*?ref=[\"']([A-Z]+)(\d+):[A-Z]+(\d+)[\"']")
# A formula without the value that it had when the workbook was saved.
NO_VALUE = re.compile(
    rb"</(?:\w+:)?f>\s*(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v></(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)


def read_workbook(path: Path) -> RawTable:
    """Cells of the first visible sheet with cells of an .xlsx, as texts.

    A cell merged over several rows counts in each of them.

    Raises:
        DatasetError: It is no workbook, is damaged, or unpacks to more than is allowed.
    """
    data = read_bytes(path)
    # Damaged workbooks end openpyxl in any exception; bombs take all memory.
    try:
        lines, notes = run_guarded(
            _read,
            data,
            str(path),
            path=path,
            seconds=round(SECONDS + SECONDS_PER_BYTE * len(data), 1),
            gigabytes=GIGABYTES,
        )
    except FormatError as error:
        message = str(error)
        # Refusals of ours say what to do.
        if "; " not in message:
            reason = message.removeprefix(f"{path}: ")[:200]
            message = f"{path}: not an .xlsx file, or damaged ({reason}); {SAVE_AGAIN}"
        raise DatasetError(message) from None
    return RawTable([(number, cells) for number, cells in lines], "", notes)


def _read(data: bytes, name: str) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Rows with their numbers, and notes; runs in the guarded process."""
    path = Path(name)
    _check_unpacked(data, path)
    book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
    lines: list[tuple[int, list[str]]] = []
    for index, sheet in enumerate(sheets or book.worksheets):
        # Some programs write wrong ones, and rows would be missing.
        sheet.reset_dimensions()
        lines, notes = _rows(sheet, path)
        if any(any(cells) for _, cells in lines):
            part = ZipFile(io.BytesIO(data)).read(_path_of(sheet))
            notes += [*_filled(lines, part, path), *_without_value(part)]
            others = [other.title for other in (sheets or book.worksheets) if other is not sheet]
            if others:
                ordinal = "sheet" if index == 0 else "first sheet with cells"
                notes.append(f"{ordinal} {sheet.title!r} was read, not {some(others)}")
            return lines, notes
    return [], []


def _path_of(sheet: Any) -> str:
    """Path of a sheet's part in the workbook."""
    return str(sheet._worksheet_path)


def _check_unpacked(data: bytes, path: Path) -> None:
    parts = ZipFile(io.BytesIO(data)).infolist()
    # Pictures and the like are not unpacked. What a part claims is all that is unpacked of it.
    unpacked = sum(part.file_size for part in parts if part.filename.endswith((".xml", ".rels")))
    if len(parts) > MOST_PARTS or unpacked > LARGEST_UNPACKED_BYTES:
        raise DatasetError(
            f"{path}: unpacks to {unpacked / 1e6:.0f} MB in {len(parts)} parts, at most "
            f"{LARGEST_UNPACKED_BYTES / 1e6:.0f} MB are read; copy the cells into a new workbook"
        )


def _rows(sheet: Any, path: Path) -> tuple[list[tuple[int, list[str]]], list[str]]:
    lines: list[tuple[int, list[str]]] = []
    num_cells = 0
    num_visited = 0
    for number, row in enumerate(sheet.iter_rows(), 1):
        # What a damaged file claims: the last row and the last column.
        num_visited += 1 + len(row)
        if num_visited > MOST_VISITED:
            raise DatasetError(f"{path}: over a million rows or columns; {SAVE_AGAIN}")
        if number - (lines[-1][0] if lines else 0) > MOST_BLANK_ROWS:
            note = f"rows below {MOST_BLANK_ROWS} blank ones were not read"
            return lines, [note]
        cells = [_text(cell) for cell in row]
        # Formatted rows of thousands of empty cells are common.
        while cells and not cells[-1]:
            cells.pop()
        num_cells += len(cells)
        check_num_cells(num_cells, path)
        if cells:
            lines.append((number, cells))
    return lines, []


def _filled(lines: list[tuple[int, list[str]]], part: bytes, path: Path) -> list[str]:
    """Fill cells merged over rows with the value of their first, and say how many."""
    by_number = dict(lines)
    last = lines[-1][0]
    filled: list[str] = []
    num_visited = 0
    for top, bottom, letters in _merged_ranges(part):
        column = column_index_from_string(letters)
        name = f"{letters}{top}:{letters}{bottom}"
        first = by_number.get(top, [])
        value = first[column - 1] if column <= len(first) else ""
        if not value:
            continue
        # Rows that stand only in the range have nothing else, and are not there.
        for number in range(top + 1, min(bottom, last) + 1):
            cells = by_number.get(number, [])
            cells += [""] * (column - len(cells))
            num_visited += len(cells)
            check_num_cells(num_visited, path)
            if not cells[column - 1]:
                cells[column - 1] = value
                filled.append(name)
    if not filled:
        return []
    return [f"{len(filled)} cells filled from merged cells ({some(list(dict.fromkeys(filled)))})"]


def _merged_ranges(part: bytes) -> list[tuple[int, int, str]]:
    """First row, last row and first column of merged cells, from top to bottom."""
    ranges = {
        (int(top), int(bottom), column.decode()) for column, top, bottom in MERGED.findall(part)
    }
    return sorted(ranges)


def _without_value(part: bytes) -> list[str]:
    count = sum(1 for _ in NO_VALUE.finditer(part))
    if not count:
        return []
    return [f"{count} formulas have no stored value and count as empty; {SAVE_AGAIN}"]


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
