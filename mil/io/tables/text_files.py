"""Tables as text, as people and programs write them: any separator, any usual encoding."""

import codecs
import csv
import io
import re
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mil.errors import DatasetError
from mil.io.tables.conventions import HEADER_KEYS, column_key
from mil.io.tables.formulas import unescaped

# A table of all slides of a large study has a few megabytes; parsed, it takes several
# times its size in memory.
LARGEST_BYTES = 32 << 20
MOST_CELLS = 2_000_000
SEPARATORS = ",;\t|"
NAMES_OF_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
# Lines from which the separator is told.
SAMPLE_LINES = 50
# Cells of a line that may show that it is the header.
MOST_KNOWN = 200
# First line by which Excel is told the separator.
SEP_LINE = re.compile(r'"?sep=(.)"?[,;\t|]*', re.IGNORECASE)
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    # Before UTF-16, whose mark theirs begins with.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SAVE_AS = "save it as 'CSV UTF-8' or as .xlsx"


class RawTable(NamedTuple):
    """Cells of a file, before anything is known of them.

    Attributes:
        lines: Line number and cells of each line.
        separator: Separator of a text; empty for a spreadsheet.
        notes: Sentences that the user should read.
    """

    lines: list[tuple[int, list[str]]]
    separator: str
    notes: list[str]


def irregular(path: Path) -> str:
    """Reason that a path cannot be read as a file; empty: it can.

    A pipe or a device would be waited for without end.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    if stat.S_ISDIR(mode):
        return "is a folder; name a file in it"
    return "" if stat.S_ISREG(mode) else "is a pipe or a device, not a file; write it to a file"


def read_bytes(path: Path) -> bytes:
    """Contents of a table's file, of a bounded size.

    Raises:
        DatasetError: It is no regular file, cannot be read, or is too large.
    """
    reason = irregular(path)
    if reason:
        raise DatasetError(f"{path}: {reason}")
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise DatasetError(
            f"{path}: {size / 1e6:.0f} MB are too large for a table of slides, at most "
            f"{LARGEST_BYTES / 1e6:.0f} MB; leave out columns"
        )
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None


def read_text(path: Path, data: bytes) -> RawTable:
    """Lines of a csv, whatever its separator and encoding.

    UTF-8, UTF-16 and Windows-1252 are told apart; comma, semicolon, tab and bar too, or
    as Excel's line `sep=;` says.

    Args:
        path: The file, for messages.
        data: Its contents.

    Raises:
        DatasetError: It is no text, a quote is not closed, or it has too many cells.
    """
    text, notes = _decoded(path, data)
    lines = text.splitlines()
    first = next((line.strip() for line in lines if line.strip()), "")
    sep_line = SEP_LINE.fullmatch(first)
    # Tables of one row and more columns than cells allow show in their first lines.
    separator = sep_line.group(1) if sep_line else _separator(lines)
    rows = _rows(path, text, separator)
    if sep_line:
        rows = [row for row in rows if not SEP_LINE.fullmatch(separator.join(row[1]).strip())]
    return RawTable(rows, separator, notes)


def _decoded(path: Path, data: bytes) -> tuple[str, list[str]]:
    """Text of a file, and a note where its encoding was guessed."""
    encoding = next((name for mark, name in BOMS if data.startswith(mark)), "utf-8")
    # Text of UTF-16 without a mark: every other byte of Latin letters is zero.
    if encoding == "utf-8" and b"\0" in data[:1000]:
        encoding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    try:
        text = data.decode(encoding)
        guessed = encoding in ("utf-16-le", "utf-16-be")
        if "\0" not in text and not (guessed and not _is_latin(text)):
            return text, []
    except UnicodeDecodeError:
        pass
    if b"\0" in data:
        raise DatasetError(f"{path}: not a text; {SAVE_AS}")
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        text = ""
    words = [word for word in re.split(r"[\s,;|\t\"]+", text) if not word.isascii()]
    if not text or not _is_european("".join(words)):
        raise DatasetError(f"{path}: not a text in UTF-8, UTF-16 or Windows-1252; {SAVE_AS}")
    return text, [f"not in UTF-8, read as Windows-1252, such as {words[0]!r}; if wrong, {SAVE_AS}"]


def _is_latin(text: str) -> bool:
    return sum(char.isascii() for char in text[:1000]) > len(text[:1000]) / 2


def _is_european(text: str) -> bool:
    """Whether letters beyond ASCII stand alone, as in Western languages.

    Chinese, Cyrillic and Greek read as Windows-1252 are runs of them.
    """
    runs = re.findall(r"[^\x00-\x7f]+", text)
    return sum(len(run) == 1 for run in runs) * 2 > len(runs)


def _separator(lines: Sequence[str]) -> str:
    """The separator by which most of a header is known, and lines are of equal width."""
    sample = [line for line in lines if line.strip()][:SAMPLE_LINES]

    def score(separator: str) -> tuple[int, float, int]:
        try:
            rows = list(csv.reader(sample, delimiter=separator))
        except csv.Error:
            return 0, 0.0, 0
        known = max((num_known(cells) for cells in rows), default=0)
        width, count = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
        return known, count / len(rows) if width > 1 else 0.0, max(map(len, rows), default=0)

    return max(SEPARATORS, key=score)


def num_known(cells: Sequence[str]) -> int:
    """Number of cells that are names of columns in common use."""
    return sum(column_key(cell) in HEADER_KEYS for cell in cells[:MOST_KNOWN])


def _rows(path: Path, text: str, separator: str) -> list[tuple[int, list[str]]]:
    try:
        return _parsed(path, text, separator, strict=True)
    except csv.Error as error:
        if "end of data" in str(error):
            raise DatasetError(
                f"{path}: a cell begins with a quote that is never closed ({error}); remove it, "
                "or write it twice"
            ) from None
    # Blanks behind a quote, and quotes inside, are of programs that know csv too little.
    try:
        return _parsed(path, text, separator, strict=False)
    except csv.Error as error:
        raise DatasetError(f"{path}: not a table ({error}); {SAVE_AS}") from None


def _parsed(path: Path, text: str, separator: str, *, strict: bool) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=strict)
    rows = []
    num_cells = 0
    for cells in reader:
        num_cells += len(cells)
        check_num_cells(num_cells, path)
        rows.append((reader.line_num, [unescaped(cell.strip()) for cell in cells]))
    return rows


def check_num_cells(num_cells: int, path: Path) -> None:
    """Refuse a table with more cells than a slide table may have.

    Raises:
        DatasetError: There are too many.
    """
    if num_cells > MOST_CELLS:
        raise DatasetError(
            f"{path}: over {MOST_CELLS // 1_000_000} million cells; leave out columns that are "
            "not needed, such as genes"
        )
