"""Functions on files of strangers, run in a process of their own with limits.

Some libraries cannot be bounded from inside: HDF5 loops on damaged string heaps, OpenSlide
aborts the process when memory is refused, GEOS takes minutes on tangled rings. A forked child
does the call; it is ended when it computes too long, and the parent outlives its crash.
What is limited is time of the processor: a slow disk or a busy machine damages no file.
"""

import faulthandler
import json
import os
import resource
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mil.errors import FormatError, ReadingError

SECONDS = 5.0
# Time in all, as a multiple of the time of the processor: the rest is waiting.
PATIENCE = 24.0
GIGABYTES = 1.0


def run_guarded(
    function: Callable[..., Any],
    *arguments: Any,
    path: Path,
    seconds: float = SECONDS,
    gigabytes: float = GIGABYTES,
) -> Any:
    """Result of `function(*arguments)`, computed in a child process with limits.

    Nothing that the child writes is unpickled: the result crosses as JSON, so tuples become
    lists. Where processes cannot be forked safely (other systems than Linux), the function runs
    in this process without limits.

    Args:
        function: Function whose result is plain JSON: numbers, text, lists, dictionaries.
        *arguments: Its arguments.
        path: File that the function reads, for the message.
        seconds: Time of the processor after which the child is ended.
        gigabytes: Memory that the child may take beyond what this process holds.

    Raises:
        FormatError: The function raised, ran out of time or memory, or crashed.
        ReadingError: It waits: its disk or network does not answer.
    """
    if sys.platform != "linux":
        return _value(_outcome(function, arguments), path)
    readable, writable = os.pipe()
    child = _fork()
    if child == 0:
        os.close(readable)
        _run_child(function, arguments, writable, seconds, gigabytes)
    os.close(writable)
    try:
        sent = _read_until(readable, time.monotonic() + seconds * PATIENCE)
    finally:
        os.close(readable)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if sent is None:
        raise ReadingError(
            f"{path}: no answer in {seconds * PATIENCE:g} s; look at its disk or network, and run "
            "again"
        )
    if not sent and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF:
        raise FormatError(f"{path}: reading takes over {seconds:g} s; the file is damaged")
    if not sent:
        raise FormatError(f"{path}: reading ends in {_end(status)}; the file is damaged")
    return _value(json.loads(sent), path)


def _fork() -> int:
    # Python 3.12 warns of forks beside threads: the child calls no code that takes their locks.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if threading.current_thread() is not threading.main_thread():
            return os.fork()
        return _fork_main_thread()


def _fork_main_thread() -> int:
    # Python ignores exceptions while it forks, KeyboardInterrupt too: Ctrl-C waits until after it.
    interrupted: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: interrupted.append(number))
    try:
        child = os.fork()
    finally:
        signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
    if interrupted and child:
        signal.raise_signal(signal.SIGINT)
    return child


def _run_child(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    writable: int,
    seconds: float,
    gigabytes: float,
) -> None:
    try:
        faulthandler.disable()
        _limit_memory(gigabytes)
        _limit_computing(seconds)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        sent = json.dumps(_outcome(function, arguments)).encode()
        with os.fdopen(writable, "wb") as pipe:
            pipe.write(sent)
    finally:
        os._exit(0)


def _limit_memory(gigabytes: float) -> None:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit = held + int(gigabytes * 2**30)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_computing(seconds: float) -> None:
    # The system ends the process, whichever library is at work.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> dict[str, Any]:
    try:
        return {"value": function(*arguments)}
    except MemoryError:
        return {"error": "the memory that it asks for is over the limit"}
    except Exception as error:  # noqa: BLE001 - whatever a stranger's file provokes
        message = " ".join(str(error).split())
        return {"error": message or type(error).__name__}


def _read_until(readable: int, deadline: float) -> bytes | None:
    """All bytes up to the end of the pipe, or None past the deadline."""
    parts: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        ready, _, _ = select.select([readable], [], [], max(left, 0))
        if not ready:
            return None
        part = os.read(readable, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _end(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"a crash ({signal.Signals(os.WTERMSIG(status)).name})"
    return "a crash"


def _value(outcome: dict[str, Any], path: Path) -> Any:
    if "error" in outcome:
        message = outcome["error"]
        raise FormatError(message if str(path) in message else f"{path}: {message}")
    return outcome["value"]
