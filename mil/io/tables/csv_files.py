"""CSV files of ours: UTF-8, commas, one header line, written whole or not at all."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from mil.errors import FormatError
from mil.io.atomic import atomic_path
from mil.io.tables.text_files import irregular


def write_csv(
    path: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None
) -> None:
    """Write rows as a CSV file, whole or not at all.

    Args:
        path: file to write.
        rows: rows by column name.
        columns: columns in their order; None: the keys of the first row.
    """
    with atomic_path(path) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        # One line end on every system, so that files are comparable byte by byte.
        writer = csv.DictWriter(file, columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


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
            return list(csv.DictReader(file))
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise FormatError(f"{path}: not a CSV file in UTF-8") from None
