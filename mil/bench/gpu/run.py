"""The parts in their order, within a time; rows are printed and written as they come."""

import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from mil.errors import ConfigError
from mil.io.atomic import write_json

if TYPE_CHECKING:
    from mil.bench.gpu.rows import Bench, GpuRow, Part

MINUTES = 9.0
FORMAT = "mil.bench.gpu"
VERSION = 1
LINE = "{:10} {:48} {:>11} {:9} {:16} {:7} {}"
LONGEST_NOTE = 120


def run(*, minutes: float, json: Path | None, tuned: Path | None, dry: bool) -> int:
    """Run all parts.

    Args:
        minutes: Time for all parts; those that do not fit are named.
        json: File of the rows, written after each row; None: they are printed alone.
        tuned: File of block sizes to write; None: they are measured and printed.
        dry: Tiny sizes on a CPU, where Triton interprets its kernels: everything runs once.

    Returns:
        Exit status: 1 if a check failed or a bar was missed.

    Raises:
        ConfigError: There is no GPU, and it is no dry run.
    """
    if dry:
        # Triton reads it when it is imported.
        os.environ["TRITON_INTERPRET"] = "1"
    import torch

    from mil.bench.gpu.parts import PARTS
    from mil.bench.gpu.rows import Bench, GpuRow

    if not dry and not torch.cuda.is_available():
        raise ConfigError("mil bench gpu: there is no GPU; --dry runs everything once on the CPU")
    device = torch.device("cpu" if dry else "cuda")
    bench = Bench(device, dry, perf_counter() + 60 * minutes, tuned=tuned)
    rows: list[GpuRow] = []
    print(LINE.format(*GpuRow._fields))
    for row in rows_of(PARTS, bench):
        rows.append(row)
        value = row.value if isinstance(row.value, str) else f"{row.value:.4g}"
        print(LINE.format(*row._replace(value=value)), flush=True)
        if json is not None:
            _write(json, rows, bench)
    return int(any(row.verdict in ("missed", "failed") for row in rows))


def rows_of(parts: Sequence["Part"], bench: "Bench") -> Iterator["GpuRow"]:
    """Rows of all parts; what fails is a row, and what has no time left is named."""
    from mil.bench.gpu.rows import GpuRow

    for part in parts:
        name = part.__name__
        if bench.is_late:
            yield GpuRow(name, "all", note="the time is used up; give more --minutes")
            continue
        began = perf_counter()
        try:
            for row in part(bench):
                # An interpreter reaches no bar.
                is_figure = bench.dry and row.verdict == "missed"
                yield row._replace(verdict="") if is_figure else row
        except Exception as error:  # noqa: BLE001  whatever fails on a new chip is a finding
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_NOTE]
            yield GpuRow(name, "the rest", verdict="failed", note=reason)
        yield GpuRow(name, "time of this part", perf_counter() - began, "s")


def _write(json: Path, rows: Sequence["GpuRow"], bench: "Bench") -> None:
    import torch

    gpu = "" if bench.dry else torch.cuda.get_device_name(bench.device)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "dry": bench.dry,
        "machine": {
            "gpu": gpu,
            "torch": torch.__version__,
            "cuda": torch.version.cuda or "",
            "python": platform.python_version(),
        },
        "rows": [row._asdict() for row in rows],
    }
    write_json(json, content)
