"""Slides for a while: one that is on the disk as it is, another downloaded and removed again."""

import errno
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from pathlib import Path

import typer
from filelock import FileLock, Timeout

from mil.errors import DatasetError
from mil.fetch.stage import run

# Folder of slides that are to be removed, below that of the slides.
FOLDER = ".streaming"
# Pause before a job that waits for others looks again, seconds.
POLL_S = 0.5
# Polls before a job says that it waits: a slide takes minutes.
SILENT_POLLS = 600
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


@dataclass(frozen=True)
class SlideSource:
    """A slide, and where it comes from.

    Attributes:
        file: File of the slide, below the folder of the slides.
        url: URL that it can be fetched from; empty: none.
        checksum: Its checksum; empty: not known.
    """

    file: Path
    url: str = ""
    checksum: str = ""

    @property
    def key(self) -> str:
        """Name of the folder in a slot that holds this file, and no other of its name."""
        # Files of two centres may share a name, and a corrected table another file's.
        source = "\0".join((self.file.name, self.url, self.checksum))
        return blake2b(source.encode(), digest_size=8).hexdigest()


class SlideStore:
    """Slides of all jobs of a run, of which at most so many are on the disk at a time.

    Each slide that is downloaded has a slot: a folder, and a lock that the system releases
    when its process ends, however it ends.

    Attributes:
        folder: Folder of the slots.
        slots: Number of slots.
    """

    def __init__(self, slides_dir: Path, slots: int) -> None:
        self.folder = slides_dir / FOLDER
        self.slots = slots

    @contextmanager
    def borrow(self, source: SlideSource) -> Iterator[Path]:
        """A slide's file, for as long as the block runs.

        Args:
            source: The slide. Where it is on the disk, or has no URL, the file is itself.

        Raises:
            DatasetError: The slide cannot be fetched, or the file system has no locks.
        """
        if not source.url or source.file.exists():
            yield source.file
            return
        with self._slot(source.key) as slot:
            file = slot / source.key / source.file.name
            # A killed job may have left it whole.
            if not file.exists():
                run(source.url, file, checksum=source.checksum, by_hand=source.file)
            try:
                yield file
            finally:
                shutil.rmtree(slot, ignore_errors=True)

    @contextmanager
    def _slot(self, key: str) -> Iterator[Path]:
        """Folder that holds nothing but what an earlier job left of this slide."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_surplus()
        with ExitStack() as stack:
            slot = self._wait_for_slot(key, stack)
            slot.mkdir(exist_ok=True)
            for path in slot.iterdir():
                if path.name != key:
                    _remove(path)
            (slot / key).mkdir(exist_ok=True)
            yield slot

    def _wait_for_slot(self, key: str, stack: ExitStack) -> Path:
        slots = [self.folder / str(number) for number in range(self.slots)]
        for polls in count():
            if polls == SILENT_POLLS:
                typer.echo(
                    f"stream: waits, since other jobs hold all {self.slots} slots in "
                    f"{self.folder}; if no other job runs, remove that folder"
                )
            # That which has a part of this slide first, then empty ones: what killed jobs left
            # is there for those who take their slides up again.
            for slot in sorted(slots, key=lambda slot: _rank(slot, key)):
                lock = FileLock(slot.with_suffix(".lock"))
                with suppress(Timeout):
                    self._acquire(lock)
                    stack.callback(lock.release)
                    return slot
            time.sleep(POLL_S)
        raise AssertionError("unreachable: the polls never end")

    def _acquire(self, lock: FileLock) -> None:
        try:
            lock.acquire(timeout=0)
        except (NotImplementedError, OSError) as error:
            # A Timeout has no number.
            if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                raise
            raise DatasetError(
                f"{self.folder}: its file system has no locks, by which jobs keep to "
                "fetch.slots; choose slides_dir on another disk"
            ) from None

    def _remove_surplus(self) -> None:
        """Empty the slots that an earlier run had more."""
        for slot in self.folder.iterdir():
            if slot.name.isdecimal() and int(slot.name) >= self.slots:
                with suppress(Timeout), FileLock(slot.with_suffix(".lock"), timeout=0):
                    shutil.rmtree(slot, ignore_errors=True)


def _rank(slot: Path, key: str) -> int:
    try:
        names = [path.name for path in slot.iterdir()]
    except OSError:
        return 1
    if key in names:
        return 0
    return 2 if names else 1


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        # On a network's disk, a file that is open somewhere leaves a name behind.
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()
