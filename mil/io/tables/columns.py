"""Which column of a table holds slides, labels and patients: by its name, or as the user says."""

from collections.abc import Sequence

from mil.errors import some, unknown_name
from mil.io.tables.conventions import FOREIGN, KNOWN, LAST_RESORT, column_key
from mil.io.tables.faults import Faults
from mil.io.tables.spreadsheet import Sheet
from mil.text import clean

# A column with more distinct values is hardly one of classes.
MAX_CLASSES = 20
# Columns that a message lists.
MOST_SHOWN = 12
# Names of columns of this length and more are known by their beginning: `diagnose_2020`.
LONG_NAME = 4


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
    faults = Faults(sheet.path)
    column = choose_column(sheet, ours, user_column, faults)
    faults.check()
    return column


def need_column(sheet: Sheet, ours: str, user_column: str | None) -> str:
    """Like `find_column`, for a column that must exist.

    Raises:
        DatasetError: also when it does not exist; columns that could be meant are
            listed.
    """
    faults = Faults(sheet.path)
    column = require_column(sheet, ours, user_column, faults)
    faults.check()
    return str(column)


def choose_column(sheet: Sheet, ours: str, user_column: str | None, faults: Faults) -> str | None:
    """Like `find_column`, but faults are collected and the likeliest column is returned."""
    # The user's word counts, but a misspelt one must not fall back to a guess.
    if user_column is not None:
        name = clean(user_column)
        if name in sheet.header:
            return name
        faults.add(f"--{ours}-column: {unknown_name('column', name, sheet.header[:MOST_SHOWN])}")
        return None
    by_key = {column_key(name): name for name in reversed(sheet.header)}
    candidates = [by_key[name] for name in KNOWN[ours] if name in by_key]
    if not candidates:
        candidates = [by_key[name] for name in LAST_RESORT[ours] if name in by_key]
    if not candidates:
        return None
    # Our own name says enough, but `label` beside `diagnosis` does not.
    certain = ours != "label" and candidates[0].lower() == ours
    if len(candidates) > 1 and not certain:
        faults.add(
            f"the {ours} could be in {' or '.join(map(repr, candidates))}; say which "
            f"with --{ours}-column NAME"
        )
    return candidates[0]


def require_column(
    sheet: Sheet,
    ours: str,
    user_column: str | None,
    faults: Faults,
    by_content: Sequence[str] = (),
) -> str | None:
    """Like `need_column`, but faults are collected and the likeliest column is proposed.

    Args:
        sheet: the table.
        ours: slide, label or patient.
        user_column: name of the column by the user; None: to be found.
        faults: faults of the table, to which others may be added.
        by_content: columns whose cells are what is sought.
    """
    column = choose_column(sheet, ours, user_column, faults)
    if column is not None:
        return column
    likely = list(by_content) or likely_columns(sheet, ours)
    if user_column is None:
        could_be = some(likely or sheet.header, MOST_SHOWN)
        faults.add(
            f"no column for the {ours}; it could be one of: {could_be}; "
            f"say which with --{ours}-column NAME"
        )
    if len(likely) != 1:
        return None
    faults.propose(f"--{ours}-column", likely[0])
    return likely[0]


def likely_columns(sheet: Sheet, ours: str) -> list[str]:
    """Columns that could be meant: by words of other languages, or by a few distinct values."""
    words = (*KNOWN[ours], *FOREIGN[ours])
    long_words = tuple(word for word in words if len(word) >= LONG_NAME)
    keys = {name: column_key(name) for name in sheet.header}
    exact = [name for name, key in keys.items() if key in words]
    if exact:
        return exact
    named = [name for name, key in keys.items() if key.startswith(long_words)]
    if named or ours != "label":
        return named
    return [name for name in sheet.header if _could_be_label(sheet, name)]


def _could_be_label(sheet: Sheet, column: str) -> bool:
    taken = {"split", "mpp", "annotation", *KNOWN["slide"], *KNOWN["patient"]}
    return column_key(column) not in taken and 2 <= len(sheet.values(column)) <= MAX_CLASSES
