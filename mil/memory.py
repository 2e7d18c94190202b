"""Memory that is kept for reuse, instead of being returned to the system."""

import ctypes
import sys

# Parameters of mallopt, from glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8


def keep_freed_memory(largest: int = 1 << 30) -> None:
    """Let glibc keep freed memory for the next batch instead of returning it.

    Each batch of tiles, or each step over an overview, frees and requests the same
    hundreds of megabytes. By default they are fresh pages each time, which the kernel
    has to find and to fill with zeros: a third of the time of a small encoder on a CPU,
    a quarter of that of tiling. Other systems than Linux with glibc are left as they
    are.

    Args:
        largest: Largest block that is kept, bytes. Where blocks of many sizes come and
            go, a large one may find its old place fragmented and take a second one.
    """
    if not sys.platform.startswith("linux"):
        return
    # Another libc than glibc, such as musl, has no mallopt.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, largest)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        # The arenas of further threads are too small for such blocks.
        mallopt(M_ARENA_MAX, 1)
