"""What an output was made from: a digest that the output carries itself.

A job over many slides makes only outputs that are missing or whose digest has changed, so
that a killed job goes on where it was, and a copied folder is not made again.
"""

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import h5py
from PIL import Image

from mil.errors import FormatError, brief

# The text chunks of PNG files have the same names.
from mil.io.digests import FACTS, LONGEST_FACTS, MADE_FROM, MADE_WITH, Digest
from mil.io.probe import check_opens
from mil.versions import STAGE_VERSION

# Bytes read at either end of a large file: headers and directories lie there.
END_BYTES = 64 << 10
TEXTS = (MADE_FROM, FACTS, MADE_WITH)
# Formats of pictures by their ending.
PICTURES = {".png": ("PNG",), ".jpg": ("JPEG",)}


class Provenance(NamedTuple):
    """What an output states about its making; empty: not stated."""

    digest: str
    stage: str
    stage_version: int | None
    facts: dict[str, Any]
    # Releases of mil, Python and libraries.
    made_with: str


def digest_of(stage: str, **facts: Any) -> Digest:
    """Digest of a stage's version and of all that its output depends on.

    Args:
        stage: Name of the stage, a key of `STAGE_VERSION`.
        **facts: Settings, and digests of the input files.
    """
    content = json.dumps([stage, STAGE_VERSION[stage], facts], sort_keys=True)
    return Digest(blake2b(content.encode(), digest_size=16).hexdigest(), content)


def read_provenance(path: Path) -> Provenance:
    """What an output states about its making.

    Args:
        path: HDF5 file of ours, PNG or JPEG; it may come from anywhere.

    Raises:
        FormatError: The file is no picture, or HDF5 cannot visit it.
    """
    texts = _stated(path)
    stage, stage_version, facts = _parsed(texts[FACTS])
    return Provenance(
        texts.get(MADE_FROM, ""), stage, stage_version, facts, texts.get(MADE_WITH, "")
    )


def _texts_of(image: Image.Image) -> dict[str, str]:
    """Texts that a picture carries: those of a PNG, or JSON in the comment of a JPEG."""
    texts = image.info
    if image.format == "JPEG":
        try:
            content = json.loads(image.info.get("comment", b"{}"))
        except ValueError:
            content = {}
        texts = content if isinstance(content, dict) else {}
    return {key: str(texts.get(key, "")) for key in TEXTS}


def _stated(path: Path) -> dict[str, str]:
    if path.suffix in PICTURES:
        try:
            with Image.open(path, formats=PICTURES[path.suffix]) as image:
                return _texts_of(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = brief(error)
            raise FormatError(
                f"{path}: cannot be read as a picture ({reason}); give one that mil wrote"
            ) from None
    check_opens(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            return {key: str(file.attrs.get(key, "")) for key in TEXTS}
    # Attributes of strangers may be of any kind.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):
        return dict.fromkeys(TEXTS, "")


def _parsed(text: str) -> tuple[str, int | None, dict[str, Any]]:
    """Stage, its version and facts; empty where the text is not of ours."""
    try:
        stage, stage_version, facts = json.loads(text[: LONGEST_FACTS + 1])
    # RecursionError: JSON that is nested deeper than Python reads.
    except (ValueError, TypeError, RecursionError):
        return "", None, {}
    if not (isinstance(stage, str) and isinstance(stage_version, int) and isinstance(facts, dict)):
        return "", None, {}
    return stage, stage_version, facts


def file_digest(path: Path | None, end_bytes: int | None = END_BYTES) -> str:
    """Digest of a file's size and both its ends; empty for no file, or a missing one.

    Args:
        path: File; or folder, of which names and sizes of its files count; or None.
        end_bytes: Bytes read at either end; None: the whole file.
    """
    if path is None or not path.exists():
        return ""
    if path.is_dir():
        listing = sorted((file.name, file.stat().st_size) for file in path.iterdir())
        return blake2b(repr(listing).encode(), digest_size=16).hexdigest()
    size = path.stat().st_size
    digest = blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as file:
        if end_bytes is None or size <= 2 * end_bytes:
            while block := file.read(1 << 20):
                digest.update(block)
        else:
            digest.update(file.read(end_bytes))
            file.seek(-end_bytes, 2)
            digest.update(file.read(end_bytes))
    return digest.hexdigest()


def made_from(path: Path) -> str:
    """Digest that an output carries; empty where there is no output or no digest.

    Args:
        path: HDF5 file of ours, PNG or JPEG.
    """
    try:
        if path.suffix in PICTURES:
            with Image.open(path, formats=PICTURES[path.suffix]) as image:
                return _texts_of(image)[MADE_FROM]
        with h5py.File(path, "r", locking=False) as file:
            stored = file.attrs.get(MADE_FROM, "")
            return str(stored) if file.attrs.get("complete", False) else ""
    # A damaged output is made again.
    except (OSError, RuntimeError, KeyError, ValueError):
        return ""
