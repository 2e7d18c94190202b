"""Folders of trained heads in, what is not as it was when they were sealed out."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mil.errors import FormatError
from mil.trained.seal import FILES, SEAL, verify
from mil.trained.seal import seal as seal_head


class Found(NamedTuple):
    """A line for each head, and how many of them are not as they were."""

    lines: list[str]
    faults: int


def run(folders: Sequence[Path], *, seal: bool = False) -> Found:
    """Look over heads.

    Args:
        folders: of heads, or folders that hold some.
        seal: seal them as they are now instead.

    Raises:
        FormatError: there is no head in one of them.
    """
    lines = []
    faults = 0
    for folder in [each for given in folders for each in _heads(given)]:
        try:
            wrong = [] if seal else verify(folder)
            if seal:
                seal_head(folder)
        except FormatError as error:
            wrong = [str(error)]
        what = (
            "sealed"
            if seal
            else "ok: its files are as sealed, and it answers the example bag as it did"
        )
        lines += wrong or [f"{folder}: {what}"]
        faults += bool(wrong)
    return Found(lines, faults)


def _heads(folder: Path) -> list[Path]:
    """Folders that are a head or what is left of one."""
    found = sorted({path.parent for name in (SEAL, *FILES) for path in folder.rglob(name)})
    if not found:
        what = "has no trained head in it" if folder.is_dir() else "no such folder"
        raise FormatError(f"{folder}: {what}; give a folder with recipe.json and head.safetensors")
    return found
