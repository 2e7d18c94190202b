"""A process of its own for jobs: its results, its errors, and what its end costs."""

import os
import signal
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from mil.errors import FormatError, MilError
from mil.io.part_jobs import Output
from mil.io.workers import WorkerProcess
from tests.messages import one_line

pytestmark = pytest.mark.slow

started_for: list[str] = []


@dataclass(frozen=True)
class Job:
    slide: str


def make(job: Job, stale) -> str:
    started_for.append(job.slide)
    if job.slide == "bad":
        raise FormatError("bad.h5: is bad")
    if job.slide == "full disk":
        raise OSError(28, "No space left on device", "/data/x.h5")
    if job.slide == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{' '.join(started_for)} on {os.environ['WORKER']}, {len(stale)} to make"


def test_a_process_keeps_its_state_and_its_end_costs_one_slide():
    with closing(WorkerProcess("GPU 3", make, {"WORKER": "three"})) as worker:
        assert worker(Job("a"), []) == "a on three, 0 to make"
        with pytest.raises(MilError, match=r"^bad\.h5: is bad$"):
            worker(Job("bad"), [])
        with pytest.raises(SystemExit, match=r"^mil: .*No space left.*/data/x\.h5"):
            worker(Job("full disk"), [])
        assert (
            worker(Job("b"), [Output(Path("b.h5"), "1")]) == "a bad full disk b on three, 1 to make"
        )
        with one_line(MilError, "^killed: the process of GPU 3 was killed, as when memory"):
            worker(Job("killed"), [])
        assert worker(Job("c"), []) == "c on three, 0 to make"
    assert "WORKER" not in os.environ
