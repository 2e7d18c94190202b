"""Trained heads whose files were changed after their manifest was written."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mil.errors import FormatError
from mil.trained.manifest import FILES, MANIFEST, changed_files

# Heads that are read to their end: of a folder that was copied all files are new.
MOST_READ = 16


def damaged_heads(folders: Sequence[Path]) -> list[str]:
    """Files that differ from the manifest beside them, a line each with what to do.

    Only heads with a file that is newer than their manifest are read.

    Args:
        folders: Folders of heads, whether they exist or not.
    """
    newer = [folder for folder in folders if _is_newer(folder)]
    lines: list[str] = []
    for folder in newer if len(newer) <= MOST_READ else []:
        with suppress(FormatError, OSError):
            lines += changed_files(folder)
    return lines


def _is_newer(folder: Path) -> bool:
    try:
        sealed = (folder / MANIFEST).stat().st_mtime_ns
        times = [(folder / name).stat().st_mtime_ns for name in FILES]
    # A training that is not finished, or a head that was imported.
    except OSError:
        return False
    return max(times) > sealed
