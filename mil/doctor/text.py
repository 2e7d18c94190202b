"""Pieces of the doctor's text: printable text of untrusted files, counts, sizes and times."""

from collections import Counter
from collections.abc import Iterable

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

# Width of a file or a pipe, in which no line is broken.
UNBOUND = 100_000


def printable(text: str, style: str = "") -> Text:
    """Text from an untrusted file, safe to print, in a style of rich."""
    # A Text, not a string, in which rich would take [red] of a file's text for markup.
    return Text(_without_control(text), style)


def _without_control(text: str) -> str:
    """Text whose control and formatting characters are replaced.

    They could steer a terminal or hide text.
    """
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def indented(part: RenderableType) -> Padding:
    """A part of the text, moved in by two columns."""
    return Padding(part, (0, 0, 0, 2), expand=False)


def count_of_each(names: Iterable[str]) -> str:
    """How often each name occurs, the commonest first."""
    return ", ".join(f"{count} {name}" for name, count in Counter(names).most_common())


def tiling_label(tiling: str) -> str:
    """Tiling in words: `224px 0.5mpp`."""
    return tiling.replace("_", " ")


def mm_label(length: float) -> str:
    """Length of a slide, mm."""
    return f"{length:.1f}" if length >= 1 else f"{length:.1g}"


def bytes_label(count: int | float) -> str:
    """Number of bytes with its unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def duration_label(seconds: float) -> str:
    """Time in seconds, minutes or hours."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
