"""`mil bench start`: processor seconds of each command on a small study, imports and work."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mil.bench.results_table import BenchmarkTable, Row
from mil.bench.small_study import SCRATCH, make_slides, study_commands, timed_commands
from mil.errors import MilError

# Processor seconds that a command may take: `features` up to its first batch, the others
# for one slide.
BARS_S = {"tile": 0.8, "features": 3.0, "heatmap": 0.9}
NOTE = (
    "processor seconds of a process of its own, the least of the repeats. imports: start of "
    "Python and all imports; work: the rest; bar: largest time that is aimed at. tile, score and "
    "heatmap: one slide of about 2000 px; features: up to its first batch; the others: the eight "
    "slides of demo_mini."
)


def run(*, repeats: int) -> BenchmarkTable:
    """Time each command in a fresh process.

    Args:
        repeats: Number of repeats of each command.

    Raises:
        MilError: A command failed.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_slides(folder)
        for command, arguments in study_commands().items():
            _run_command(folder, [sys.executable, "-m", "mil.cli", command, *arguments])
        rows = [
            _row(folder, command, arguments, repeats)
            for command, arguments in timed_commands().items()
        ]
    return BenchmarkTable(f"mil bench start, {repeats} repeats", rows, NOTE)


def _row(folder: Path, command: str, arguments: Sequence[str], repeats: int) -> Row:
    times = [command_times(folder, command, arguments) for _ in range(repeats)]
    least = min(times, key=lambda seconds: seconds["all_s"])
    return {
        "command": command,
        "imports_s": least["imports_s"],
        "work_s": least["all_s"] - least["imports_s"],
        "all_s": least["all_s"],
        "bar_s": f"{BARS_S[command]:g}" if command in BARS_S else "",
    }


def command_times(folder: Path, command: str, arguments: Sequence[str]) -> dict[str, float]:
    """Processor seconds of a command, `imports_s` and `all_s`.

    Args:
        folder: Folder to run it in.
        command: Name of the command.
        arguments: Its arguments.

    Raises:
        MilError: The command failed.
    """
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    out = folder / "times.json"
    out.unlink(missing_ok=True)
    clock = [sys.executable, "-m", "mil.bench.import_clock", str(out)]
    _run_command(folder, [*clock, command, *arguments])
    times: dict[str, float] = json.loads(out.read_text(encoding="utf-8"))
    return times


def _run_command(folder: Path, command: Sequence[str]) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        shown = " ".join(command[2:])
        raise MilError(f"mil bench: {shown} failed: {lines[-1] if lines else 'no message'}")
