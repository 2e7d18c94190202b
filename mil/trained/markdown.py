"""Text and tables of strangers as Markdown that shows them and does nothing else."""

import re
from collections.abc import Sequence


def md(text: object) -> str:
    """Text as Markdown shows it: on one line, none of its marks in force."""
    # An underscore inside a word is no mark.
    return re.sub(r"[\\`*{}\[\]<>#|~!&]|(?<!\w)_|_(?!\w)", r"\\\g<0>", " ".join(str(text).split()))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; cells are text."""
    lines = [header, ["---"] * len(header), *([md(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
