"""Progress bar with a rate and the time left; silent unless a terminal shows it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress

_hidden = False


def hide_progress() -> None:
    """Show no progress bars from now on: several processes would draw over each other."""
    global _hidden
    _hidden = True


class Advance(Protocol):
    """Function to call with the number of items done since the last call, and a note."""

    def __call__(self, count: int, note: str = "") -> None: ...


@contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Advance]:
    """Show a progress bar on standard error while the block runs, if it is a terminal.

    Args:
        title: Text before the bar.
        total: Number of items.
        unit: Plural noun for the items, used in the rate.

    Yields:
        Function to call as items are done.
    """
    # Jobs of a workflow write to log files, which need no bars.
    if _hidden or not sys.stderr.isatty():
        yield _unseen
        return
    with _bar(title, unit) as bar:
        task = bar.add_task(title, total=total, note="")

        def advance(count: int, note: str = "") -> None:
            bar.update(task, advance=count, note=note)

        yield advance


def _unseen(count: int, note: str = "") -> None:
    """Show nothing."""


def _bar(title: str, unit: str) -> "Progress":
    """The bar; rich is imported here, since most jobs show none."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class RateColumn(ProgressColumn):
        """Rate in the unit of the bar; rich's own column knows bytes alone."""

        def __init__(self) -> None:
            super().__init__(table_column=Column(no_wrap=True))

        def render(self, task: Task) -> Text:
            rate = f"{task.speed:.1f}" if task.speed else "-"
            return Text(f"{rate} {unit}/s")

    # Without markup: brackets in a note are text.
    note_column = TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True))
    return Progress(
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        note_column,
        # Standard output is for results.
        console=Console(file=sys.stderr),
    )
