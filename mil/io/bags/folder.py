"""A folder of ready bags, one `SLIDE.h5` a slide: made elsewhere, trained on as they are."""

import re
from collections.abc import Sequence
from pathlib import Path

from mil.config import NAME
from mil.errors import DatasetError, FormatError
from mil.io.bags import BagHeader, read_header

LONGEST_NAME = 100  # of an encoder: it becomes part of many folders' names
IMPORT = "bags come there by `mil bags import`, or from `features` of another run"


def slides_with_bags(folder: Path) -> list[str]:
    """Slides that a folder has a bag of, in order; the folder is listed, no bag is opened.

    Raises:
        DatasetError: there is no such folder, or no bag in it.
    """
    try:
        slides = sorted(
            file.stem for file in folder.iterdir() if file.suffix == ".h5" and file.name[0] != "."
        )
    except OSError as error:
        raise DatasetError(
            f"bags: {folder}: {error.strerror}; give the folder that holds SLIDE.h5 files"
        ) from None
    if not slides:
        raise DatasetError(f"bags: {folder} holds no file SLIDE.h5; {IMPORT}")
    return slides


def kind_of_bags(path: Path) -> BagHeader:
    """What one bag says of its encoder and tiling, for all bags of its folder; `train` sees to it that they agree.

    Raises:
        DatasetError: it is not a bag, or its encoder has a name that no folder can
            have.
    """
    try:
        header = read_header(path)
    except FormatError as error:
        raise DatasetError(f"bags: {error}; {IMPORT}") from None
    if not re.fullmatch(NAME, header.encoder) or len(header.encoder) > LONGEST_NAME:
        raise DatasetError(
            f"bags: {path}: its encoder is called {header.encoder[:LONGEST_NAME]!r}, which "
            "cannot name a folder; "
            "import the bags again under a name of letters, digits, '.', '_' and '-'"
        )
    return header


def describe_bags(folder: Path, slides: Sequence[str]) -> str:
    """Where ready bags are and whose, and how many of them are of no slide in the table.

    Args:
        folder: of the bags.
        slides: ids of the table.
    """
    there = slides_with_bags(folder)
    known = set(there).intersection(slides)
    header = kind_of_bags(
        folder / f"{next((slide for slide in slides if slide in known), there[0])}.h5"
    )
    made_by = "" if header.source == "slide" else f", imported from {header.source}"
    others = len(there) - len(known)
    more = f"; {others} more there are of no slide in the table" if others else ""
    return f"ready bags of {header.encoder}, {header.tiling}{made_by}, in {folder}{more}"
