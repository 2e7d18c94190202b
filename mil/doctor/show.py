"""The diagnosis as text: table of slides, a line for each problem, totals, verdict."""

from io import StringIO

from rich.console import Console

from mil.doctor.diagnosis import Diagnosis
from mil.doctor.problems import problems
from mil.doctor.slide_table import slide_table
from mil.doctor.text import UNBOUND
from mil.doctor.totals import totals


def show(diagnosis: Diagnosis, width: int | None, *, colour: bool = False) -> str:
    """Text of a diagnosis, with a line break at its end.

    Args:
        diagnosis: Findings to show.
        width: Width of the terminal, columns; None: a file or a pipe, where each problem
            is one line however long.
        colour: Whether to use the terminal's colours.
    """
    out = StringIO()
    console = Console(
        file=out,
        width=width or UNBOUND,
        force_terminal=colour,
        no_color=not colour,
        highlight=False,
    )
    for part in (
        *slide_table(diagnosis, width),
        *problems(diagnosis, width),
        *totals(diagnosis),
    ):
        console.print(part)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
