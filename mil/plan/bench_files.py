"""Rates from the files that `mil bench tile --json` and `mil bench features --json` wrote."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from mil.config.machines import MAX_DEVICES, EncoderRate, MachineConfig, Rate
from mil.errors import FormatError
from mil.io.tables.text_files import irregular

FORMAT = "mil.bench"
MAX_BYTES = 10 << 20
# No rate and no time is larger; larger integers are no floats.
MAX_NUMBER = 1e15


def with_bench_files(machine: MachineConfig | None, paths: Sequence[Path]) -> MachineConfig:
    """A machine with the rates of benchmark files, which override its own.

    Args:
        machine: The machine; None: that of the files.
        paths: Files of `mil bench tile` and `mil bench features`.

    Raises:
        FormatError: A file is of no such benchmark.
    """
    for path in paths:
        content = _read(path)
        cores = content["machine"].get("cores")
        if machine is None:
            machine = MachineConfig(
                title=f"machine of {path}",
                cores=cores if isinstance(cores, int) and 0 < cores <= MAX_DEVICES else 1,
                gpus=1 if "gpu" in content["machine"] else 0,
            )
        machine = machine.model_copy(update=_rates(content, machine, path))
    assert machine is not None, "no machine and no files"
    return machine


def _read(path: Path) -> dict[str, Any]:
    try:
        if irregular(path) or path.stat().st_size > MAX_BYTES:
            raise ValueError("no file, or far too long")
        content = json.loads(path.read_text(encoding="utf-8"))
        is_ours = content["format"] == FORMAT and isinstance(content["machine"], dict)
        if not is_ours or not all(isinstance(row, dict) for row in content["rows"]):
            raise ValueError("another format")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(
            f"{path}: not written by `mil bench tile` or `mil bench features` with --json "
            f"({type(error).__name__})"
        ) from None
    return dict(content)


def _rates(content: Mapping[str, Any], machine: MachineConfig, path: Path) -> dict[str, Any]:
    rows = content["rows"]
    title = str(content.get("title", ""))
    if title.startswith("mil bench tile"):
        seconds = _numbers(rows, "cpu_s", path)
        source = f"mil bench tile, median of {len(seconds)} slides ({path})"
        return {"tile_core_s": Rate(value=median(seconds), source=source)}
    if not title.startswith("mil bench features"):
        raise FormatError(f"{path}: is of {title[:60]!r}; give files of `mil bench tile|features`")
    match = re.search(r"threads: ([1-9]\d{0,4})\b", title)
    threads = int(match[1]) if match else 1
    reading = median(_numbers(rows, "reading_tiles/s", path)) / threads
    source = f"mil bench features, per core of {threads} ({path})"
    rates = {str(row.get("encoder")): row for row in rows}
    encoders = {name: _encoder(name, rows, threads, path) for name in rates}
    return {
        "read_tiles_per_s": Rate(value=reading, source=source),
        "encoders": {**machine.encoders, **encoders},
    }


def _encoder(name: str, rows: Sequence[Mapping[str, Any]], threads: int, path: Path) -> EncoderRate:
    """Rate of one core, or of the GPU, over all slides of a file."""
    own = [row for row in rows if str(row.get("encoder")) == name]
    rate = median(_numbers(own, "encoder_tiles/s", path))
    on_gpu = str(own[0].get("device", "")).startswith("cuda")
    return EncoderRate(
        device="gpu" if on_gpu else "cpu",
        # On a CPU each thread encodes batches of its own.
        tiles_per_s=rate if on_gpu else rate / threads,
        source=f"mil bench features, {own[0].get('device', 'cpu')} ({path})",
    )


def _numbers(rows: Sequence[Mapping[str, Any]], key: str, path: Path) -> list[float]:
    values = [row.get(key) for row in rows]
    numbers = [
        float(value)
        for value in values
        if isinstance(value, int | float) and 0 < value < MAX_NUMBER
    ]
    if not numbers:
        raise FormatError(f"{path}: has no {key}; measure it again with this version of mil")
    return numbers
