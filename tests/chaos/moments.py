"""Moments of a run, told by its progress and not by the clock: no machine is too slow for them."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.chaos.study import SECONDS, Study

POLL_S = 0.01
# Stages in the order of the workflow, and what their files' folder is called in the results.
STAGES = (
    "tile",
    "features",
    "bags",
    "split",
    "train",
    "score",
    "evaluate",
    "heatmap",
    "compare",
    "report",
)
# A stage may begin no file any more.
WRITE_WAIT_S = 3.0


@dataclass(frozen=True)
class Moment:
    """A moment of a run.

    Attributes:
        stage: Stage whose job has begun.
        files: Number of files that the stage has begun or written since, scratch files too.
        delay_s: Time to wait after that.
        in_write: Whether to wait, a while, for one more file to be begun, and for no longer.
    """

    stage: str
    files: int = 0
    delay_s: float = 0.0
    in_write: bool = False

    def __str__(self) -> str:
        writing = ", as the next file is begun" if self.in_write else ""
        return f"{self.stage}, file {self.files} + {self.delay_s:.2f} s{writing}"


def random_moment(random: Random, stage: str, *, files: int) -> Moment:
    """A random moment of a stage.

    Args:
        random: Random numbers.
        stage: Stage.
        files: Number of files that the stage writes.
    """
    # The last file of a stage may be the last of the run.
    number = random.randrange(max(files - 1, 1))
    return Moment(stage, number, random.uniform(0.0, 0.2), random.random() < 0.5)


def reached(study: Study, moment: Moment, process: subprocess.Popen[bytes]) -> bool:
    """Wait for a moment of a run; whether the run was still going on then."""
    before = set(paths_of(study, moment.stage))
    if not _wait(process, lambda: _has_begun(study, moment.stage)):
        return False

    def has_files() -> bool:
        return len(set(paths_of(study, moment.stage)) - before) >= moment.files

    if not _wait(process, has_files):
        return False
    time.sleep(moment.delay_s)
    if moment.in_write:
        seen = set(paths_of(study, moment.stage))
        _wait(process, lambda: bool(set(paths_of(study, moment.stage)) - seen), WRITE_WAIT_S, 0.0)
    return process.poll() is None


def _wait(
    process: subprocess.Popen[bytes],
    condition: Callable[[], bool],
    seconds: float = SECONDS,
    poll_s: float = POLL_S,
) -> bool:
    """Wait until a condition holds; without a pause, for what lasts milliseconds."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        if condition():
            return True
        time.sleep(poll_s)
    return False


def _has_begun(study: Study, stage: str) -> bool:
    """Whether the log of a job of the stage is newer than the run's output file."""
    since = study.began.stat().st_mtime_ns
    logs = study.folder / "logs"
    for folder, _, names in os.walk(logs):
        for name in names:
            path = Path(folder) / name
            words = path.relative_to(logs).parts
            is_of_stage = stage in words or name == f"{stage}.log"
            if is_of_stage and path.stat().st_mtime_ns >= since:
                return True
    return False


def paths_of(study: Study, stage: str) -> Iterator[str]:
    """Results of a stage, those that are being written too."""
    results = study.folder / "results"
    for folder, _, names in os.walk(results):
        parts = Path(folder).relative_to(results).parts
        # The report is written into the folder of the whole study.
        if stage in parts or (stage == "report" and len(parts) == 1):
            yield from (f"{folder}/{name}" for name in names)
