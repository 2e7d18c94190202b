"""The manifest of a trained head: `seal.json`, with the SHA-256 of each of its files.

`mil.trained.seal` writes it; whoever loads a head compares the files that it uses.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mil.config import Section, checked
from mil.errors import FormatError, brief

FORMAT = "mil.seal"
VERSION = 1
MANIFEST = "seal.json"
EXAMPLE = "example.safetensors"
# The model card is not among them: it may be edited.
FILES = ("head.safetensors", "last.safetensors", "recipe.json", "history.json", EXAMPLE)
# The files that predictions depend on. A manifest without one of them proves nothing.
REQUIRED_FILES = ("head.safetensors", "recipe.json", EXAMPLE)
READ_BYTES = 1 << 20
# What to do about a folder that cannot be used; that of a run is another matter.
GET_AGAIN = "get the folder again from its source"


class HeadManifest(Section):
    """Content of `seal.json`."""

    tool_version: str
    # Names without a slash: a manifest must not lead to files outside the folder.
    sha256: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$")], str]
    # Both for the example bag; the answers are the task's predictions, calibrated.
    logits: list[float]
    answers: list[float]


def read_manifest(folder: Path) -> HeadManifest:
    """Read the manifest of a head's folder.

    Raises:
        FormatError: there is none, or it is damaged or of another version.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        name = content.pop("format")
        version = content.pop("format_version")
        if (name, version) != (FORMAT, VERSION):
            raise FormatError(
                f"{path}: expected {FORMAT} version {VERSION}, found {brief(name)} version "
                f"{brief(version)}"
            )
        return checked(HeadManifest, content, str(path))
    except FormatError:
        # A ValueError too, so it must not reach the last clause.
        raise
    except FileNotFoundError:
        raise FormatError(
            f"{folder}: has no {MANIFEST}, so nothing to verify it by; `mil heads verify --seal` "
            "writes one for its files as they are now"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = brief(error)
        raise FormatError(f"{path}: not the manifest of a head ({reason}); {GET_AGAIN}") from None


def changed_files(folder: Path) -> list[str]:
    """Files of a head's folder that are missing or changed since its manifest, a line each.

    Raises:
        FormatError: There is no manifest.
    """
    return file_faults(folder, read_manifest(folder))


def check_sealed(folder: Path, names: Sequence[str]) -> None:
    """Refuse a head whose files differ from its manifest.

    Heads without a manifest pass: older ones have none.

    Args:
        folder: folder of the head.
        names: files that will be used.

    Raises:
        FormatError: a file differs, or the manifest is damaged.
    """
    if not (folder / MANIFEST).exists():
        return
    faults = file_faults(folder, read_manifest(folder), names)
    if faults:
        raise FormatError(
            f"{faults[0]}; if the change is meant, `mil heads verify --seal {folder}` writes "
            "the checksums anew"
        )


def file_faults(folder: Path, manifest: HeadManifest, names: Sequence[str] = ()) -> list[str]:
    """Files of a head's folder that are missing or differ from its manifest, a line each.

    Args:
        folder: folder of the head.
        manifest: its manifest.
        names: files to look at; empty: all of them.
    """
    needed = dict.fromkeys((*REQUIRED_FILES, *names))
    unlisted = [name for name in needed if name not in manifest.sha256]
    faults = [f"{folder / MANIFEST}: has no checksum of {name}; {GET_AGAIN}" for name in unlisted]
    for name, digest in manifest.sha256.items():
        path = folder / name
        if names and name not in names:
            continue
        if not path.is_file():
            faults.append(f"{path}: is missing; {GET_AGAIN}")
        elif file_digest(path) != digest:
            faults.append(
                f"{path}: differs from its checksum in {MANIFEST}; delete it and run again where a "
                "run trained it, else get the folder again from its source"
            )
    return faults


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hex."""
    digest = sha256()
    with path.open("rb") as file:
        # In blocks: weights may be larger than the memory of a small machine.
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
