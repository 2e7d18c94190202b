"""`mil heads verify`: heads compared with their manifests, or their manifests written anew."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mil.errors import FormatError
from mil.trained.manifest import FILES, MANIFEST
from mil.trained.seal import verify
from mil.trained.seal import write_manifest as write_manifest


class HeadVerification(NamedTuple):
    """Lines about all heads, and the number of heads that have a fault."""

    lines: list[str]
    faults: int


def run(folders: Sequence[Path], *, seal: bool = False) -> HeadVerification:
    """Verify trained heads.

    Args:
        folders: folders of heads, or folders that hold some.
        seal: write a new manifest of each head instead.

    Raises:
        FormatError: a folder holds no head.
    """
    lines = []
    faulty = 0
    heads = [head for folder in folders for head in _head_folders(folder)]
    for head in heads:
        # One damaged head must not hide the others.
        try:
            faults = _write_manifest(head) if seal else verify(head)
        except FormatError as error:
            faults = [str(error)]
        if faults:
            lines += faults
            faulty += 1
        elif seal:
            lines.append(f"{head}: sealed")
        else:
            lines.append(f"{head}: ok: its files and its predictions for the example are unchanged")
    return HeadVerification(lines, faulty)


def _write_manifest(folder: Path) -> list[str]:
    write_manifest(folder)
    return []


def _head_folders(folder: Path) -> list[Path]:
    """Folders that hold a head, or only some of its files."""
    # Any of the files: a head that lost its weights must be reported too.
    names = (MANIFEST, *FILES)
    heads = sorted({path.parent for name in names for path in folder.rglob(name)})
    if not heads:
        reason = "has no trained head in it" if folder.is_dir() else "no such folder"
        raise FormatError(
            f"{folder}: {reason}; give a folder with recipe.json and head.safetensors"
        )
    return heads
