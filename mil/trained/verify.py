"""Folders of trained heads in; differences from their seals out."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mil.errors import FormatError
from mil.trained.seal import FILES, SEAL, verify
from mil.trained.seal import seal as seal_head


class VerifiedHeads(NamedTuple):
    """A line or more for each head, and the number of heads that are not as sealed."""

    lines: list[str]
    faults: int


def run(folders: Sequence[Path], *, seal: bool = False) -> VerifiedHeads:
    """Verify heads against their seals, or seal them.

    Args:
        folders: Folders of heads, or folders that hold some.
        seal: Whether to seal the heads as they are now instead.

    Raises:
        FormatError: there is no head in one of the folders.
    """
    lines = []
    faults = 0
    for folder in [head for parent in folders for head in _heads(parent)]:
        try:
            differences = _seal(folder) if seal else verify(folder)
        except FormatError as error:
            differences = [str(error)]
        if seal:
            good = "sealed"
        else:
            good = "ok: its files are as sealed, and it predicts the example bag as it did"
        lines += differences or [f"{folder}: {good}"]
        faults += bool(differences)
    return VerifiedHeads(lines, faults)


def _seal(folder: Path) -> list[str]:
    seal_head(folder)
    return []


def _heads(folder: Path) -> list[Path]:
    """Folders that are a head, or that lack some of its files."""
    # A folder whose weights were lost is found by its other files, and reported.
    heads = sorted({path.parent for name in (SEAL, *FILES) for path in folder.rglob(name)})
    if not heads:
        reason = "has no trained head in it" if folder.is_dir() else "no such folder"
        raise FormatError(
            f"{folder}: {reason}; give a folder with recipe.json and head.safetensors"
        )
    return heads
