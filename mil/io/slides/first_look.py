"""A slide that is met for the first time is opened in a child process, within limits.

OpenSlide ends the process when memory is refused, and libraries loop over what a damaged
file claims. A plainly well-formed TIFF needs no such trial, which costs some 20 ms.
"""

from collections.abc import Callable
from pathlib import Path

from mil.errors import FormatError, ReadingError, UnreadableSlideError
from mil.io.guard import run_guarded
from mil.io.slides.soundness import impossible_blocks, is_sound

# Time of computing that opening may take. A good slide takes a few milliseconds.
COMPUTING_S = 3.0
GIGABYTES = 1.0

# Files that opened: path, size and time of change.
_known: set[tuple[str, int, int]] = set()
_in_trial = False


def look_first(path: Path, try_out: Callable[[], None]) -> None:
    """Try a file out in a child process, once for each file and process.

    Args:
        path: the file.
        try_out: opens it and reads a little. What it raises is left to this process,
            which will meet it too.

    Raises:
        UnreadableSlideError: the file claims what cannot be, or the child crashed or went
            beyond the limits.
    """
    status = path.stat()
    file = (str(path.absolute()), status.st_size, status.st_mtime_ns)
    if _in_trial or file in _known:
        return
    if is_sound(path):
        _known.add(file)
        return
    if fault := impossible_blocks(path):
        raise UnreadableSlideError(path, fault)
    try:
        run_guarded(_trial, try_out, path=path, seconds=COMPUTING_S, gigabytes=GIGABYTES)
    except FormatError as error:
        reason = str(error).removeprefix(f"{path}: ").replace("reading takes", "opening it takes")
        raise UnreadableSlideError(path, reason) from None
    except ReadingError:
        # A slow disk is no fault of the slide: it is opened without a trial.
        pass
    _known.add(file)


def _trial(try_out: Callable[[], None]) -> None:
    global _in_trial
    _in_trial = True
    try:
        try_out()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  the parent meets it too, and names it
        return
