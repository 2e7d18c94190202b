"""Parts of a section of the report: figures, tables and sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from mil.report.page_section import PageSection


@dataclass(frozen=True)
class Key:
    """Colour and name of a line of a figure."""

    colour: str
    text: str


@dataclass(frozen=True)
class Figure:
    """Inline SVG with a caption that says what it shows."""

    svg: str
    caption: str
    keys: Sequence[Key] = ()
    kind: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Table:
    """A table of text; the first `names` columns are names, the others numbers."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1
    folded: bool = False  # shown after a click: long, and not needed at first sight
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Matrix:
    """Confusion matrix: rows are labels, columns predictions."""

    title: str
    classes: Sequence[str]
    counts: Sequence[Sequence[int]]

    kind: ClassVar[str] = "matrix"

    def share(self, row: int, column: int) -> float:
        """Share of a label's slides that have this prediction; 0 of no slides."""
        total = sum(self.counts[row])
        return self.counts[row][column] / total if total else 0.0


@dataclass(frozen=True)
class Matrices:
    """Confusion matrices side by side."""

    caption: str
    matrices: Sequence[Matrix]
    kind: ClassVar[str] = "matrices"


@dataclass(frozen=True)
class Note:
    """A sentence, such as why a figure cannot be drawn."""

    text: str
    kind: ClassVar[str] = "note"


Block = Figure | Table | Matrices | Note


def section(anchor: str, title: str, blocks: Sequence[Block]) -> PageSection | None:
    """Section of these blocks; None without any."""
    return PageSection(anchor, title, {"blocks": blocks}, "blocks") if blocks else None
