"""Progress with a rate and the time left; quiet when nobody watches."""

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


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self.unit = unit

    def render(self, task: RichTask) -> Text:
        return Text(f"{task.speed:.1f} {self.unit}/s" if task.speed else f"- {self.unit}/s")


class Advance(Protocol):
    """To be told how many more are done, and what there is to say meanwhile."""

    def __call__(self, count: int, note: str = "") -> None: ...


@contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Advance]:
    """Show a bar on standard error while the block runs, if that is a terminal.

    Args:
        what: text before the bar.
        total: how many there are.
        unit: of what, for the rate.

    Yields:
        A function to be told how many more are done.
    """
    note_column = TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True))
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
        note_column,
    )
    with Progress(
        *columns, console=Console(file=sys.stderr), disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task(what, total=total, note="")

        def advance(count: int, note: str = "") -> None:
            bar.update(task, advance=count, note=note)

        yield advance
