"""Progress bar with a rate and the time left; silent unless a terminal shows it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as RichTask
from rich.table import Column
from rich.text import Text

_hidden = False


def hide_progress() -> None:
    """Show no progress bars from now on: several processes would draw over each other."""
    global _hidden
    _hidden = True


class _RateColumn(ProgressColumn):
    """Rate in the unit of the bar; rich's own column knows bytes alone."""

    def __init__(self, unit: str) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self.unit = unit

    def render(self, task: RichTask) -> Text:
        rate = f"{task.speed:.1f}" if task.speed else "-"
        return Text(f"{rate} {self.unit}/s")


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
    # Without markup: brackets in a note are text.
    note_column = TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True))
    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeRemainingColumn(),
        note_column,
    )
    # Standard output is for results; log files of a workflow need no bars.
    console = Console(file=sys.stderr)
    disable = _hidden or not sys.stderr.isatty()
    with Progress(*columns, console=console, disable=disable) as bar:
        task = bar.add_task(title, total=total, note="")

        def advance(count: int, note: str = "") -> None:
            bar.update(task, advance=count, note=note)

        yield advance
