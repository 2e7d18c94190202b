"""Before anything is fetched: how many GB, how long, and how much disk."""

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mil.errors import DatasetError
from mil.fetch.download import received_bytes
from mil.fetch.remote import CutError, Remote, remote_of

# Requests at a time; a server answers each in a tenth of a second or so.
REQUESTS = 16
# Bytes of one file that are read to see how fast they come, and the longest time for that.
PROBE_BYTES = 8 << 20
PROBE_S = 3.0
# Files that cannot be fetched, of which a line is printed each.
SHOWN_FAULTS = 20
# Free space that is left over, as a fraction of what the files need.
MARGIN = 0.02


@dataclass(frozen=True)
class Wanted:
    """A file to fetch.

    Attributes:
        url: Its URL.
        out: Where it will be.
        checked: Whether its checksum is known.
    """

    url: str
    out: Path
    checked: bool = False


@dataclass(frozen=True)
class _Sized:
    """A file to fetch and its size, or why that is not known.

    Attributes:
        wanted: The file.
        remote: The file at its URL; None: the URL is malformed.
        size: Its size, bytes; 0: not known.
        fault: Why not; empty: the server does not state it.
        unreachable: Whether no server answered.
    """

    wanted: Wanted
    remote: Remote | None = None
    size: int = 0
    fault: str = ""
    unreachable: bool = False

    @property
    def left(self) -> int:
        """Bytes that have not arrived yet."""
        return max(0, self.size - received_bytes(self.wanted.out))


def announce(
    files: Sequence[Wanted], folder: Path, *, slots: int | None, say: Callable[[str], object]
) -> None:
    """Say how much will be fetched, how long that takes, and whether the disk holds it.

    Args:
        files: Files that are not on the disk.
        folder: Folder that they are saved below.
        slots: Number of them on the disk at a time; None: all stay.
        say: Called with each line.

    Raises:
        DatasetError: The disk is too small.
    """
    # What the demo draws comes from no server.
    remote_files = [file for file in files if not file.url.lower().startswith("demo:")]
    if not remote_files:
        return
    sized = _sizes(remote_files)
    if sized[0].unreachable:
        say(f"fetch: {len(remote_files)} files to download, of unknown sizes: {sized[0].fault}")
        return
    faults = [f"fetch {file.wanted.out.name}: {file.fault}" for file in sized if file.fault]
    for line in faults[:SHOWN_FAULTS]:
        say(line)
    if len(faults) > SHOWN_FAULTS:
        say(f"fetch: {len(faults) - SHOWN_FAULTS} more files cannot be fetched")
    if faults:
        say("fetch: the other slides go on, and the run ends with an error")
    known = [file for file in sized if file.size]
    if not known:
        return
    total = sum(file.left for file in known)
    needed = total if slots is None else sum(sorted(file.size for file in known)[-slots:])
    free = shutil.disk_usage(_existing(folder)).free
    unknown = len(sized) - len(known) - len(faults)
    rate = _rate(max(known, key=lambda file: file.size)) if total > PROBE_BYTES else 0.0
    say(
        f"fetch: {len(known)} files to download, {_gigabytes(total)}"
        + (f" and {unknown} of unknown size" if unknown else "")
        + (f", about {_duration(total / rate)} at {rate / 1e6:.1f} MB/s" if rate else "")
        + f"; {_gigabytes(needed)} of disk are needed"
        + ("" if slots is None else f" for at most {slots} at a time")
        + f", {_gigabytes(free)} are free in {folder}"
    )
    if needed * (1 + MARGIN) > free:
        raise DatasetError(_too_small(needed, free, folder, slots))


def _too_small(needed: int, free: int, folder: Path, slots: int | None) -> str:
    fewer = ""
    if slots is None:
        fewer = "remove each slide once it is embedded (--config 'fetch={keep: false}'), or "
    elif slots > 1:
        fewer = "fewer slides at a time (--config 'fetch={keep: false, slots: 1}'), or "
    return (
        f"{folder}: {_gigabytes(needed)} of disk are needed, but {_gigabytes(free)} are free; "
        f"{fewer}choose a folder on a larger disk (slides_dir=DIR)"
    )


def _sizes(files: Sequence[Wanted]) -> list[_Sized]:
    # Without a network, each of hundreds of files would wait for it.
    first = _size(files[0])
    if first.unreachable:
        return [first]
    with ThreadPoolExecutor(REQUESTS) as pool:
        return [first, *pool.map(_size, files[1:])]


def _size(file: Wanted) -> _Sized:
    remote = None
    try:
        remote = remote_of(file.url, file.out, checked=file.checked)
        return _Sized(file, remote, remote.facts().size)
    except CutError as error:
        return _Sized(file, remote, fault=f"{file.url}: {error}", unreachable=True)
    except DatasetError as error:
        return _Sized(file, remote, fault=str(error))


def _rate(file: _Sized) -> float:
    """Bytes per second that arrive over one connection; 0: not known."""
    if file.remote is None:
        return 0.0
    received = 0
    start = time.perf_counter()
    try:
        with file.remote.open(0, "") as response:
            while received < PROBE_BYTES and (block := response.read(1 << 16)):
                received += len(block)
                if time.perf_counter() - start > PROBE_S:
                    break
    except (CutError, DatasetError):
        return 0.0
    return received / (time.perf_counter() - start)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    absolute = folder.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 5e7 else f"{number / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
