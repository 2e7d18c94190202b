"""A user's table of any kind, all cells as texts: the one reader for `init`, runs and imports."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

from mil.errors import DatasetError, some
from mil.io.tables.faults import Faults
from mil.io.tables.text_files import (
    NAMES_OF_SEPARATORS,
    RawTable,
    irregular,
    num_known,
    read_bytes,
    read_text,
)
from mil.text import clean, is_empty

WHAT_IT_LOOKS_LIKE = (
    "a .csv, .tsv or .xlsx with one row a slide and the columns slide (the file's name), label, "
    "and patient where patients have several slides"
)
# Lines among which the header is sought; titles and dates may stand above it.
HEADER_WITHIN = 20
# First bytes of .xlsx (a zip), and of Excel's old .xls.
ZIP = b"PK\x03\x04"
OLD_EXCEL = b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        path: the table's file.
        header: names of its columns; columns without a name are left out.
        rows: line number, and cells by column, of each row that is not empty.
        notes: sentences on how it was read, for the user.
        separator: separator of a text; empty for a spreadsheet.
    """

    path: Path
    header: list[str]
    rows: list[tuple[int, dict[str, str]]]
    notes: list[str] = field(default_factory=list)
    separator: str = ""

    def values(self, column: str) -> set[str]:
        """The distinct values of a column, empty ones left out."""
        return {row[column] for _, row in self.rows if not is_empty(row[column])}

    def emptied(self, spared: Iterable[str] = ()) -> "Sheet":
        """The table with one form of empty: `NA`, `NULL`, `-`, `#REF!` and the like become "".

        Args:
            spared: columns that stay as they are.
        """
        columns = set(self.header) - set(spared)
        counts: Counter[tuple[str, str]] = Counter()
        rows = []
        for line, row in self.rows:
            words = {name for name in columns if row[name] and is_empty(row[name])}
            counts.update((name, row[name]) for name in words)
            rows.append((line, {**row, **dict.fromkeys(words, "")} if words else row))
        taken = [
            f"{word!r} in {name!r} ({count})" for (name, word), count in sorted(counts.items())
        ]
        notes = [f"cells that count as empty: {some(taken)}"] if taken else []
        return replace(self, rows=rows, notes=[*self.notes, *notes])


def read_sheet(path: Path, user_columns: Sequence[str | None] = ()) -> Sheet:
    """Read a table: text in any usual separator and encoding, or a workbook.

    Args:
        path: the file; its contents tell what it is, not its name.
        user_columns: names of columns by the user, which the header has.

    Raises:
        DatasetError: the file cannot be read, or has a fault.
    """
    faults = Faults(path)
    sheet = examine_sheet(path, faults, user_columns)
    faults.check()
    return sheet


def examine_sheet(path: Path, faults: Faults, user_columns: Sequence[str | None] = ()) -> Sheet:
    """Like `read_sheet`, with faults of rows and header collected; the caller checks them.

    Args:
        path: the file.
        faults: faults of the table, to which others may be added.
        user_columns: names of columns by the user.

    Raises:
        DatasetError: the file cannot be read, or has no rows.
    """
    if irregular(path).endswith("No such file or directory"):
        raise DatasetError(f"{path}: no such file; it should be {WHAT_IT_LOOKS_LIKE}")
    raw = _read(path)
    lines = [
        (number, cells)
        for number, line in raw.lines
        if any(cells := [clean(cell) for cell in line])
    ]
    at = _header_index(lines, {clean(name) for name in user_columns if name})
    notes = list(raw.notes)
    if at:
        header_line = f"line {lines[at][0]}"
        notes.append(f"the header is {header_line}; {at} lines above it left out")
    if len(lines) - at < 2:
        raise DatasetError(f"{path}: the table has no rows; it should be {WHAT_IT_LOOKS_LIKE}")
    header = lines[at][1]
    for name, times in Counter(name for name in header if name).items():
        if times > 1:
            faults.add(f"the column {name!r} is there twice; rename or remove one")
    rows = []
    num_nameless = 0
    for line, cells in lines[at + 1 :]:
        num_surplus = sum(map(bool, cells[len(header) :]))
        if num_surplus and raw.separator:
            separator = NAMES_OF_SEPARATORS.get(raw.separator, "separator")
            faults.add(
                f" has more cells than the header; put text with a {separator} in quotes",
                f"line {line}",
            )
            continue
        # In a workbook nothing has moved: someone wrote beside the table.
        num_nameless += num_surplus
        rows.append((line, _named(header, cells)))
    if num_nameless:
        notes.append(f"{num_nameless} cells right of the header's columns left out")
    return Sheet(path, list(dict.fromkeys(filter(None, header))), rows, notes, raw.separator)


def _named(header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """Cells by column, of two columns of one name the first; short lines are padded."""
    named: dict[str, str] = {}
    for name, cell in zip_longest(header, cells[: len(header)], fillvalue=""):
        if name:
            named.setdefault(name, cell)
    return named


def _read(path: Path) -> RawTable:
    data = read_bytes(path)
    if data.startswith(ZIP):
        # Imported here: a csv needs none of it.
        from mil.io.tables.workbook import read_workbook

        return read_workbook(path)
    suffix = path.suffix.lower()
    if data.startswith(OLD_EXCEL):
        raise DatasetError(
            f"{path}: an old .xls workbook, or one with a password; save it as .xlsx"
        )
    if suffix in (".xlsx", ".xlsm", ".ods", ".xls", ".numbers"):
        raise DatasetError(
            f"{path}: not an .xlsx file, whatever its name; save it as .xlsx or .csv"
        )
    if data.lstrip()[:100].lower().startswith((b"<html", b"<!doctype", b"<table", b"<?xml")):
        raise DatasetError(f"{path}: a web page, not a table; open it and save it as .xlsx or .csv")
    return read_text(path, data)


def _header_index(lines: Sequence[tuple[int, list[str]]], user_columns: set[str]) -> int:
    """Index of the header: the first line with the most known names of columns."""
    sample = [cells for _, cells in lines[:HEADER_WITHIN]]
    known = [len(user_columns.intersection(cells)) + num_known(cells) for cells in sample]
    if max(known, default=0) >= 2:
        return known.index(max(known))
    # A title has one cell.
    wide = [index for index, cells in enumerate(sample) if sum(map(bool, cells)) > 1]
    return wide[0] if wide else 0
