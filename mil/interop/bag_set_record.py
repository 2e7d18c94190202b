"""SOURCE.json beside fetched bags: where they come from, under which licence, what to cite."""

import json
from pathlib import Path

from pydantic import Field

from mil.config import Section, checked
from mil.errors import FormatError, brief
from mil.io.atomic import write_json
from mil.io.tables.text_files import irregular

FILE = "SOURCE.json"
MAX_BYTES = 10 << 20


class BagSetRecord(Section):
    """Content of SOURCE.json."""

    bag_set: str
    repository: str
    commit: str
    licence: str
    citation: str
    encoder: str
    unverified: str = ""
    # Slides of each archive or table that was read, with the number of their label.
    contents: dict[str, dict[str, int | None]] = Field(default_factory=dict)
    # Slides whose bag is older than a fetch of all, which has not reached them yet.
    outdated: list[str] = Field(default_factory=list)
    # Of the dataset's two files as they were written: a changed one is the user's.
    dataset_sha256: str = ""


def read_record(folder: Path) -> BagSetRecord | None:
    """Record of a folder of fetched bags; None if there is none.

    Raises:
        FormatError: The file is none of ours.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        if irregular(path) or path.stat().st_size > MAX_BYTES:
            raise ValueError("no file, or far too long")
        raw = json.loads(path.read_text(encoding="utf-8"))
        return checked(BagSetRecord, raw, str(path))
    except (ValueError, RecursionError) as error:
        reason = brief(error)
        raise FormatError(
            f"{path}: not written by `mil bags fetch` ({reason}); choose another --out"
        ) from None


def write_record(folder: Path, record: BagSetRecord) -> None:
    """Write the record of a folder of fetched bags."""
    write_json(folder / FILE, record.model_dump())
