"""What every benchmark prints and writes: a table, the machine, and a JSON with both."""

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
MOST_COLUMNS = (
    13  # more values in a row are printed as a column, if there are fewer rows than values
)
LEAST_COLUMNS = 160  # narrower, numbers would be broken into pieces
Row = dict[str, str | int | float]


@dataclass(frozen=True)
class Outcome:
    """Rows of one benchmark; all have the same keys, which carry their units."""

    title: str
    rows: Sequence[Row]
    note: str = ""
    gpu: str = ""  # that did the work, if one did


def machine(gpu: str = "") -> dict[str, str | int]:
    """Processor, cores that this process may use, the GPU if one was used, and versions of what does the work."""
    return {
        **({"gpu": gpu, "triton": version("triton")} if gpu else {}),
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        **{name: version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), ""
    )
    return named or platform.processor() or "unknown"


def show(outcome: Outcome, json: Path | None, console: Console | None = None) -> None:
    """Print a benchmark's table and the machine it ran on; write both to `json` if given."""
    console = console or Console(width=max(Console().width, LEAST_COLUMNS))
    console.print(escape(outcome.title), style="italic", highlight=False)
    console.print(_standing(outcome) if _is_wide(outcome) else _lying(outcome))
    about = machine(outcome.gpu)
    if outcome.note:
        console.print(escape(outcome.note), highlight=False)
    chips = f"{outcome.gpu}; {about['cpu']}" if outcome.gpu else about["cpu"]
    console.print(escape(f"{chips}, {about['cores']} cores; {about['system']}"), highlight=False)
    if json is not None:
        written = {
            "format": FORMAT,
            "version": VERSION,
            "tool_version": TOOL_VERSION,
            "title": outcome.title,
        }
        write_json(
            json, {**written, "machine": about, "note": outcome.note, "rows": list(outcome.rows)}
        )


def _is_wide(outcome: Outcome) -> bool:
    return bool(outcome.rows) and len(outcome.rows) < len(outcome.rows[0]) > MOST_COLUMNS


def _lying(outcome: Outcome) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in outcome.rows[0] if outcome.rows else ():
        numbers = isinstance(outcome.rows[0][name], int | float)
        table.add_column(
            name.replace("_", " "),
            justify="right" if numbers else "left",
            overflow="fold",
            no_wrap=numbers,
        )
    for row in outcome.rows:
        table.add_row(*(escape(_text(value)) for value in row.values()))
    return table


def _standing(outcome: Outcome) -> Table:
    """Rows as columns, where there are too many values in a row."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    for _ in outcome.rows:
        table.add_column(justify="right", overflow="fold")
    for name in outcome.rows[0]:
        table.add_row(name.replace("_", " "), *(escape(_text(row[name])) for row in outcome.rows))
    return table


def _text(value: str | int | float) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)
