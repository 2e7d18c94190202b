"""A folder of precomputed bags, one `SLIDE.h5` a slide, trained on as they are."""

import re
from collections.abc import Sequence
from pathlib import Path

from mil.config.base import LONGEST_NAME
from mil.config.joined import ENCODERS
from mil.errors import DatasetError, FormatError
from mil.io.bags import BagHeader, read_header

IMPORT = "bags come there by `mil bags import`, or from `features` of another run"


def slides_with_bags(folder: Path) -> list[str]:
    """Slides that a folder has a bag of, in order; the folder is listed, no bag is opened.

    Raises:
        DatasetError: the folder does not exist, or holds no bag.
    """
    try:
        files = list(folder.iterdir())
    except OSError as error:
        raise DatasetError(
            f"bags: {folder}: {error.strerror}; give the folder that holds SLIDE.h5 files"
        ) from None
    # Names that begin with a dot are scratch files of a run that was killed.
    slides = sorted(file.stem for file in files if file.suffix == ".h5" and file.name[0] != ".")
    if not slides:
        raise DatasetError(f"bags: {folder} holds no file SLIDE.h5; {IMPORT}")
    return slides


def kind_of_bags(path: Path) -> BagHeader:
    """Header of one bag, for the encoder and tiling of all bags of its folder.

    That they agree is checked by `train`, which opens them all.

    Raises:
        DatasetError: the file is no bag, or its encoder has a name that no folder can
            have.
    """
    try:
        header = read_header(path)
    except FormatError as error:
        raise DatasetError(f"bags: {error}; {IMPORT}") from None
    if not re.fullmatch(ENCODERS, header.encoder) or len(header.encoder) > LONGEST_NAME:
        raise DatasetError(
            f"bags: {path}: its encoder is called {header.encoder[:LONGEST_NAME]!r}, which "
            "cannot name a folder; import the bags again under a name of at most "
            f"{LONGEST_NAME} letters, digits, '.', '_' and '-', or of several joined by '+'"
        )
    return header


def describe_bags(folder: Path, slides: Sequence[str]) -> str:
    """One line on precomputed bags: encoder, tiling, folder, and bags outside the table.

    Args:
        folder: folder of the bags.
        slides: ids of the slide table.
    """
    with_bags = slides_with_bags(folder)
    in_table = set(with_bags).intersection(slides)
    first = next((slide for slide in slides if slide in in_table), with_bags[0])
    # One bag stands for all: opening thousands would delay a dry run.
    header = kind_of_bags(folder / f"{first}.h5")
    origin = "" if header.source == "slide" else f", imported from {header.source}"
    num_others = len(with_bags) - len(in_table)
    others = f"; {num_others} bags there are of no slide in the table" if num_others else ""
    return f"precomputed bags of {header.encoder}, {header.tiling}{origin}, in {folder}{others}"
