"""CSV files of ours: UTF-8, commas, one header line, written whole or not at all."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from mil.errors import FormatError
from mil.io.atomic import atomic_path
from mil.io.tables.formulas import escaped, unescaped
from mil.io.tables.text_files import irregular


def write_csv(
    path: Path,
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[str] | None = None,
    *,
    escape: bool = True,
) -> None:
    """Write rows as a CSV file, whole or not at all.

    Args:
        path: file to write.
        rows: rows by column name.
        columns: columns in their order; None: the keys of the first row.
        escape: whether cells that a spreadsheet program would run get an apostrophe; not
            for programs that know nothing of it.
    """
    cell = escaped if escape else lambda value: value
    with atomic_path(path) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        # One line end on every system, so that files are comparable byte by byte.
        writer = csv.DictWriter(file, columns or list(rows[0]), lineterminator="\n")
        writer.writerow({name: cell(name) for name in writer.fieldnames})
        writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV file of ours, all values as strings.

    Raises:
        FormatError: the file does not exist or is no text.
    """
    reason = irregular(path)
    if reason:
        raise FormatError(f"{path}: {reason}")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = [unescaped(name) for name in reader.fieldnames or []]
            return [_unescaped(row) for row in reader]
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise FormatError(f"{path}: not a CSV file in UTF-8") from None


def _unescaped(row: dict[str, str]) -> dict[str, str]:
    """A row of ours; short rows have None, and long ones a list, which readers refuse."""
    return {name: unescaped(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
