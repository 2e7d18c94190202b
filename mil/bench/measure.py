"""Time and memory of this process."""

import ctypes
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

# Share of the free memory that a benchmark may take; what needs more does not fit.
SHARE_OF_FREE_MEMORY = 0.8


def times_of(call: Callable[[], Any], seconds: float, least: int = 1) -> list[float]:
    """Seconds of each call.

    Args:
        call: function to time; its first call is not counted.
        seconds: least time of all counted calls together.
        least: least number of counted calls.
    """
    # The first call compiles, allocates and fills caches.
    call()
    times: list[float] = []
    while len(times) < least or sum(times) < seconds:
        began = perf_counter()
        call()
        times.append(perf_counter() - began)
    return times


def peak_mb() -> float:
    """Most memory that the process has held, since `forget_peak` if that was called, MB."""
    peak = _system_mb("/proc/self/status", "VmHWM:")
    # Elsewhere than on Linux; this peak cannot be reset.
    return peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def held_mb() -> float:
    """Memory that the process holds now, MB; its peak where the system has no such figure."""
    return _system_mb("/proc/self/status", "VmRSS:") or peak_mb()


def forget_peak() -> None:
    """Return freed memory to the system and reset the peak, where the system can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    with suppress(OSError):
        # 5 resets VmHWM, see proc(5).
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def limit_memory() -> None:
    """Limit the memory of this process, so that it fails before the system ends another one."""
    free_mb = _system_mb("/proc/meminfo", "MemAvailable:")
    if free_mb:
        limit = int((held_mb() + SHARE_OF_FREE_MEMORY * free_mb) * 2**20)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _system_mb(path: str, key: str) -> float:
    """Size in one of Linux's tables, which state kB, as MB; 0 where there is none."""
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    sizes_kb = (int(line.split()[1]) for line in lines if line.startswith(key))
    return next(sizes_kb, 0) / 1024
