"""Files that appear whole or not at all."""

import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any
from uuid import uuid4

from mil.errors import DatasetError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A scratch path beside `target`, moved onto `target` when the block ends well.

    The scratch name begins with a dot and keeps the suffix of `target`, since writers
    choose their format by it. Close the file inside the block: the move must come after
    the last byte. Scratch files that a killed run left for the same target are removed
    first; the workflow never runs two jobs for one file.

    Raises:
        OSError: the folder cannot be written to, or `target` is itself a folder.
        DatasetError: another run writes the same file.
    """
    # Before the work, and with the name that the user knows.
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    # Escaped, since names of slides may hold brackets.
    for abandoned in target.parent.glob(f".partial-{'[0-9a-f]' * 32}-{escape(target.name)}"):
        abandoned.unlink(missing_ok=True)
    scratch = target.with_name(f".partial-{uuid4().hex}-{target.name}")
    try:
        yield scratch
        # Without it a crash of the machine could leave the name without the content.
        try:
            with scratch.open("rb+") as written:
                os.fsync(written.fileno())
            scratch.replace(target)
        except FileNotFoundError:
            # Taken for abandoned: the other run's file is as good as this one.
            raise DatasetError(
                f"{target}: another run writes this file at the same time; let one of them end, "
                "then run again"
            ) from None
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def check_not_inputs(outputs: Iterable[Path], inputs: Iterable[Path | None]) -> None:
    """Refuse to write over a file that the same command reads, such as the slide.

    Args:
        outputs: files that will be written, those beside the named one included.
        inputs: files that are read; None: not used.

    Raises:
        DatasetError: a file is both.
    """
    read = {path.resolve() for path in inputs if path is not None}
    for output in outputs:
        if output.resolve() in read:
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
