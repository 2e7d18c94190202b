"""Time and memory of what runs in this process."""

import ctypes
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

SHARE_OF_MEMORY = 0.8  # that may be taken of what is free; beyond, it does not fit


def times_of(call: Callable[[], Any], seconds: float, least: int = 1) -> list[float]:
    """Seconds of each call, after one that is not counted: so many seconds in all, and calls, at least."""
    call()
    times: list[float] = []
    while len(times) < least or sum(times) < seconds:
        began = perf_counter()
        call()
        times.append(perf_counter() - began)
    return times


def peak_mb() -> float:
    """Most memory that the process has held, since `forget_peak` if that was called."""
    return (
        _told("/proc/self/status", "VmHWM:")
        or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )


def held_mb() -> float:
    """Memory that the process holds now; where the system does not tell, at most so far."""
    return _told("/proc/self/status", "VmRSS:") or peak_mb()


def forget_peak() -> None:
    """Give freed memory back, and let the peak count from now on; where the system can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def limit_memory() -> None:
    """What does not fit gets an error of its own, before the system ends somebody else's process."""
    free = _told("/proc/meminfo", "MemAvailable:")
    if free:
        limit = int((held_mb() + SHARE_OF_MEMORY * free) * 2**20)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _told(path: str, key: str) -> float:
    """A number of kB in one of the system's tables, in MB; 0 where there is none."""
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(key)), 0.0)
