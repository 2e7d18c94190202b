"""Untrusted text in Markdown: shown as it is, never as markup."""

import re
from collections.abc import Sequence

# Characters that begin markup. An underscore inside a word does not, and names of files
# and columns are full of them.
_MARKUP = re.compile(r"[\\`*{}\[\]<>#|~!&]|(?<!\w)_|_(?!\w)")


def escaped(text: object) -> str:
    """Text on one line, with every character of markup escaped."""
    # A line break would end a table's row, and begin a line that may be read as a
    # heading.
    return _MARKUP.sub(r"\\\g<0>", " ".join(str(text).split()))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown table of texts, whose cells are escaped.

    Args:
        header: names of the columns, which may hold markup.
        rows: cells of each row.
    """
    lines = [header, ["---"] * len(header)]
    lines += [[escaped(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
