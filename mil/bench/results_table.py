"""Results of a benchmark: a table and the machine, printed and written as JSON."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mil.io.atomic import write_json
from mil.versions import TOOL_VERSION

# Libraries whose version changes the speed.
LIBRARIES = (
    "openslide-python",
    "openslide-bin",
    "tifffile",
    "imagecodecs",
    "simplejpeg",
    "pillow",
    "numpy",
    "torch",
    "timm",
)
FORMAT = "mil.bench"
VERSION = 1
# Rows with more values are printed as columns, if there are fewer rows than values.
MAX_COLUMNS = 13
# Characters of a line; narrower, numbers would be broken into pieces.
MIN_WIDTH = 160
# Values of one row by column, with units in the names of the columns.
Row = dict[str, str | int | float]


@dataclass(frozen=True)
class BenchmarkTable:
    """Results of one benchmark.

    Attributes:
        title: the benchmark and its settings.
        rows: rows of the table; all have the same keys, which carry their units.
        note: meaning of the columns.
        gpu: name of the GPU that was used; empty: none was.
    """

    title: str
    rows: Sequence[Row]
    note: str = ""
    gpu: str = ""


def machine(gpu: str = "") -> dict[str, str | int]:
    """Description of this machine: processor, cores, GPU, system, versions of libraries.

    Args:
        gpu: name of the GPU that was used; empty: none was.
    """
    description: dict[str, str | int] = {}
    if gpu:
        description |= {"gpu": gpu, "triton": version("triton")}
    description |= {
        "cpu": _processor(),
        "cores": _usable_cores(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    return description | {name: version(name) for name in LIBRARIES}


def _usable_cores() -> int:
    # A container or a job may be allowed fewer cores than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or "unknown"


def show(outcome: BenchmarkTable, json: Path | None, console: Console | None = None) -> None:
    """Print a benchmark's table and the machine.

    Args:
        outcome: results of the benchmark.
        json: file to write both to; None: none.
        console: where to print; None: the terminal.
    """
    console = console or Console(width=max(Console().width, MIN_WIDTH))
    console.print(escape(outcome.title), style="italic", highlight=False)
    console.print(_table_of_columns(outcome) if _is_wide(outcome) else _table_of_rows(outcome))
    description = machine(outcome.gpu)
    if outcome.note:
        console.print(escape(outcome.note), highlight=False)
    chips = "; ".join(filter(None, [outcome.gpu, str(description["cpu"])]))
    about = f"{chips}, {description['cores']} cores; {description['system']}"
    console.print(escape(about), highlight=False)
    if json is not None:
        content = {
            "format": FORMAT,
            "version": VERSION,
            "tool_version": TOOL_VERSION,
            "title": outcome.title,
            "machine": description,
            "note": outcome.note,
            "rows": list(outcome.rows),
        }
        write_json(json, content)


def _is_wide(outcome: BenchmarkTable) -> bool:
    return bool(outcome.rows) and len(outcome.rows) < len(outcome.rows[0]) > MAX_COLUMNS


def _table_of_rows(outcome: BenchmarkTable) -> Table:
    table = Table(box=None, pad_edge=False)
    first = outcome.rows[0] if outcome.rows else {}
    for name, value in first.items():
        numbers = isinstance(value, int | float)
        table.add_column(
            name.replace("_", " "),
            justify="right" if numbers else "left",
            overflow="fold",
            no_wrap=numbers,
        )
    for row in outcome.rows:
        table.add_row(*(escape(_text(value)) for value in row.values()))
    return table


def _table_of_columns(outcome: BenchmarkTable) -> Table:
    """A column for each row of the results, a line for each value."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    for _ in outcome.rows:
        table.add_column(justify="right", overflow="fold")
    for name in outcome.rows[0]:
        table.add_row(name.replace("_", " "), *(escape(_text(row[name])) for row in outcome.rows))
    return table


def _text(value: str | int | float) -> str:
    # Three digits are enough to compare.
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)
