"""What is wrong with the slides, by remedy, and what is doubtful."""

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mil.doctor.diagnosis import Diagnosis
from mil.doctor.findings import ABSENT, SlideFinding
from mil.doctor.text import indented, printable

# More slides than this that are missing, or share a reason or a warning, are named in one
# paragraph instead of a line each.
MANY = 10


def problems(diagnosis: Diagnosis, width: int | None) -> Iterable[RenderableType]:
    """A heading for each state and remedy with a line for each slide; notes; warnings.

    Args:
        diagnosis: Findings to show.
        width: Width of the terminal, columns; None: a file or a pipe.
    """
    yield from _lost_slides(diagnosis, width)
    if diagnosis.table_notes:
        yield ""
        yield Text(f"slide table ({len(diagnosis.table_notes)})", "bold yellow")
        for note in diagnosis.table_notes:
            yield indented(printable(note))
    warnings = [(slide.slide, text) for slide in diagnosis.slides for text in slide.warnings]
    if warnings:
        yield ""
        yield Text(f"warnings ({len(warnings)})", "bold yellow")
        yield from _by_text(warnings, width)


def _lost_slides(diagnosis: Diagnosis, width: int | None) -> Iterable[RenderableType]:
    # Slides of one state may need different remedies.
    by_remedy: dict[tuple[str, str], list[SlideFinding]] = {}
    for slide in diagnosis.lost:
        by_remedy.setdefault((slide.state, diagnosis.advice(slide)), []).append(slide)
    for (state, remedy), slides in by_remedy.items():
        yield ""
        if state == "missing" and diagnosis.how_to_get:
            remedy += f". {diagnosis.how_to_get}"
        heading = Text.assemble((f"{state} ({len(slides)})", "bold red"))
        yield heading + printable(f": {remedy}")
        if state in ABSENT and len(slides) > MANY:
            yield indented(printable(", ".join(slide.slide for slide in slides)))
        else:
            yield from _by_text([(slide.slide, slide.reason) for slide in slides], width)


def _by_text(pairs: Sequence[tuple[str, str]], width: int | None) -> Iterable[RenderableType]:
    """A line for each slide; what is true of many is one paragraph with all their names."""
    slides: dict[str, list[str]] = {}
    for name, text in pairs:
        slides.setdefault(text, []).append(name)
    for text, names in slides.items():
        if len(names) > MANY:
            yield indented(printable(f"{len(names)} slides: {text}"))
            yield indented(indented(printable(", ".join(names))))
    few = [(name, text) for name, text in pairs if len(slides[text]) <= MANY]
    if few:
        yield _lines(few, width)


def _lines(pairs: Sequence[tuple[str, str]], width: int | None) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    # A long name may take two fifths of the line; the reason has the rest.
    widest_name = None if width is None else max(12, width * 2 // 5)
    grid.add_column(overflow="fold", max_width=widest_name)
    grid.add_column(overflow="fold")
    for name, text in pairs:
        grid.add_row(printable(name), printable(text))
    return indented(grid)
