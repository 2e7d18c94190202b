"""Files that appear whole or not at all."""

import errno
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from glob import escape
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from mil.errors import DatasetError
from mil.io.disk import system_error

# Bytes of a file's name on nearly every file system.
LONGEST_NAME = 255
# Machine, process, start of the process and a random number, hexadecimal.
SCRATCH = re.compile(r"\.partial-([0-9a-f]{8})-([0-9a-f]{1,6})-([0-9a-f]{1,10})-[0-9a-f]{8}-")
# Bytes that a scratch file's name has more than its target's.
LONGEST_SCRATCH = len(".partial-") + 8 + 6 + 10 + 8 + 4
# Start of a process that the system does not tell, such as of another user's.
UNKNOWN = 0
# Whether a process of another machine lives is not known. A file that nobody wrote to for
# so long is abandoned; the longest jobs write more often.
ABANDONED_S = 24 * 3600


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A scratch path beside `target`, moved onto `target` when the block ends well.

    The scratch name begins with a dot and keeps the suffix of `target`, since writers
    choose their format by it. Close the file inside the block: the move must come after
    the last byte. Scratch files that killed runs left for the same target are removed
    first. Of several live writers the last one's file stays.

    Raises:
        OSError: the folder cannot be written to, the disk is full, or `target` is itself a
            folder; it names `target`.
        DatasetError: the scratch file was removed meanwhile.
    """
    # Before the work, and with the name that the user knows.
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    scratch = target.with_name(f".partial-{_owner()}-{uuid4().hex[:8]}-{target.name}")
    try:
        yield scratch
        # Without it a crash of the machine could leave the name without the content.
        try:
            with scratch.open("rb+") as written:
                os.fsync(written.fileno())
            scratch.replace(target)
        except FileNotFoundError:
            raise DatasetError(
                f"{target}: another run removed it while it was written; let one of them end, "
                "then run again"
            ) from None
    except BaseException as error:
        fault = system_error(error, scratch, target)
        # A failing disk may refuse this too, which must not hide the first error.
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        if fault is not None:
            raise fault from None
        raise


def _remove_abandoned(target: Path) -> None:
    """Remove scratch files of `target` whose writer is dead, and no others."""
    # Escaped, since names of slides may hold brackets.
    for file in target.parent.glob(f".partial-*-{escape(target.name)}"):
        owner = file.name.removesuffix(target.name)
        with suppress(OSError):
            if _is_abandoned(file, owner):
                file.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove all scratch files of a folder whose writer is dead.

    For files that may never be written again, such as a checkpoint: those of other targets
    are removed when the target is written.
    """
    for file in folder.glob(".partial-*"):
        owner = SCRATCH.match(file.name)
        with suppress(OSError):
            if owner is not None and _is_abandoned(file, owner[0]):
                file.unlink(missing_ok=True)


def _is_abandoned(file: Path, owner: str) -> bool:
    match = SCRATCH.fullmatch(owner)
    if match is None:
        # Of a version that stated no owner, or of another target whose name ends alike.
        is_ours = re.fullmatch(r"\.partial-[0-9a-f]{32}-", owner)
        return bool(is_ours) and _is_old(file)
    machine, pid, start = match.groups()
    if machine != _machine():
        return _is_old(file)
    if not _is_alive(int(pid, 16)):
        return True
    # A number is given again to later processes, which started at another time.
    return _start_of(int(pid, 16)) not in (int(start, 16), UNKNOWN)


def _is_old(file: Path) -> bool:
    return time.time() - file.stat().st_mtime > ABANDONED_S


def _owner() -> str:
    """Machine, process and start of this process, as scratch names state them."""
    pid = os.getpid()
    return f"{_machine()}-{pid:x}-{_start_of(pid):x}"


@cache
def _machine() -> str:
    """Digest of what makes a process number unique: machine, its start, and container."""
    facts = [os.uname().nodename]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    return sha256("\n".join(facts).encode()).hexdigest()[:8]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Of another user.
        pass
    return True


def _start_of(pid: int) -> int:
    """Start of a process, in ticks of the system's clock, or `UNKNOWN`."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The name of the program stands in brackets and may hold blanks.
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return UNKNOWN


def check_not_inputs(outputs: Iterable[Path], inputs: Iterable[Path | None]) -> None:
    """Refuse to write over a file that the same command reads, such as the slide.

    Args:
        outputs: files that will be written, those beside the named one included.
        inputs: files that are read; None: not used.

    Raises:
        DatasetError: a file is both.
    """
    # Not `Path.resolve`, which raises for links that lead in a circle: they name no file.
    read = {os.path.realpath(path) for path in inputs if path is not None}
    for output in outputs:
        if os.path.realpath(output) in read:
            raise DatasetError(
                f"{output}: is read by this command, and would be lost; give another --out"
            )


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with atomic_path(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all, indented, keys in their order."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
