"""Jobs made in a process of their own, such as one for each GPU, as if made in this one."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from mil.errors import MilError
from mil.io.disk import one_line
from mil.io.part_jobs import Make, Output
from mil.progress import hide_progress

# Kinds of answers: a line about the outputs, an error of the slide, one that stops all slides.
DONE, FAILED, STOPPED = "done", "failed", "stopped"


class WorkerProcess:
    """A function of jobs that runs in another process.

    The process starts at the first job and keeps what it loads. One that ends while it
    works costs its slide alone: the next job starts another. It ends with this process,
    however that ends.

    Args:
        name: Name of the worker in messages, such as `GPU 1`.
        make: Function that makes the outputs of a job; picklable, as are its jobs.
        environment: Environment variables of the process.
    """

    def __init__(self, name: str, make: Make[Any], environment: Mapping[str, str]) -> None:
        self._name = name
        self._make = make
        self._environment = dict(environment)
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def __call__(self, job: Any, stale: Sequence[Output]) -> str:
        """Make outputs of a job that are not current, and return a line about them.

        Raises:
            MilError: The job failed, or its process ended.
            SystemExit: An error that other jobs would meet too, such as a full disk.
        """
        connection = self._connection or self._start()
        try:
            connection.send((job, stale))
            kind, text = connection.recv()
        except (EOFError, ConnectionError):
            raise MilError(f"{job.slide}: {self._end()}") from None
        if kind == FAILED:
            raise MilError(text)
        if kind == STOPPED:
            raise SystemExit(f"mil: {text}")
        return text

    def close(self) -> None:
        """Let the process end; it is idle."""
        if self._connection is not None and self._process is not None:
            self._connection.close()
            self._process.join()
            self._connection = None

    def _start(self) -> Connection:
        # Forked processes cannot use CUDA, nor locks that other threads hold.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._make, self._environment), daemon=True
        )
        self._process.start()
        # Else the end of the process would not end the connection.
        theirs.close()
        self._connection = ours
        return ours

    def _end(self) -> str:
        assert self._process is not None
        self.close()
        code = self._process.exitcode or 0
        if code == -signal.SIGKILL:
            return (
                f"the process of {self._name} was killed, as when memory runs out; run the "
                "command again, with fewer --devices or --threads"
            )
        end = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return f"the process of {self._name} ended {end}; run the command again"


def _serve(connection: Connection, make: Make[Any], environment: Mapping[str, str]) -> None:
    """Make jobs as they come, until the connection ends."""
    # First: CUDA reads its variables once.
    os.environ.update(environment)
    # Ctrl-C reaches all processes of a terminal: this one has nothing to tell.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    hide_progress()
    while True:
        try:
            job, stale = connection.recv()
        except EOFError:
            return
        connection.send(_answer(make, job, stale))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    # Outputs are written whole or not at all.
    os._exit(1)


def _answer(make: Make[Any], job: Any, stale: Sequence[Output]) -> tuple[str, str]:
    try:
        return DONE, make(job, stale)
    # As text: not every error can be pickled, nor does its traceback cross.
    except MilError as error:
        return FAILED, str(error)
    except (OSError, RuntimeError) as error:
        message = one_line(error)
        if message is None:
            raise
        return STOPPED, message
