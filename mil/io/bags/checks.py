"""Checks of bags, each with one wording: is a bag usable, and are bags alike.

Bags may be laid together, trained on together or given to a head only if they hold
features of one encoder, at one tiling and of one width.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mil.config.stain import NO_STAIN_NORM
from mil.errors import FormatError
from mil.io.bags.content import Bag, BagHeader
from mil.io.bags.file import read_identity
from mil.io.probe import probe

ONE_ENCODER = "a folder holds bags of one encoder"


def check_has_tiles(bag: Bag, path: Path) -> None:
    """Refuse a bag without a valid tile.

    Raises:
        FormatError: its slide's state is not `ok`, or no tile could be read.
    """
    if bag.state != "ok" or not bag.valid.any():
        raise no_tiles(path, bag.state)


def check_slide(header: BagHeader, path: Path) -> None:
    """Refuse a bag under the name of another slide.

    Raises:
        FormatError: the slide in the bag is not that of the file's name.
    """
    if header.slide != path.stem:
        raise FormatError(
            f"{path}: is the bag of slide {header.slide!r}; give it that name, or make the bag of "
            f"{path.stem} again"
        )


def no_tiles(path: Path, state: str) -> FormatError:
    """The error for a bag without tiles.

    Args:
        path: the bag's file.
        state: named state of its slide.
    """
    return FormatError(
        f"{path}: the bag has no tiles (its state is {state}); run `mil split` again, which "
        "leaves such slides out, or take its slide out of the slide table"
    )


def check_finite(features: Float[np.ndarray, "tiles dim"], path: Path) -> None:
    """Refuse features that are not numbers.

    Args:
        features: features of the valid tiles.
        path: the bag's file, for the message.

    Raises:
        FormatError: a value is NaN or infinite.
    """
    if not np.isfinite(features).all():
        raise FormatError(
            f"{path}: holds values that are not numbers (NaN or infinity); delete it and make it "
            "again"
        )


def difference(where: object, name: str, value: object, usual: object, usual_where: object) -> str:
    """One wording for bags, or what was made of bags, that differ.

    Args:
        where: file or folder that differs.
        name: name of the value: `dim` (features per tile), or a key of `BagHeader.identity`.
        value: the value there; empty: not known.
        usual: value of the others; empty: not known.
        usual_where: file, folder or phrase that names the others.
    """
    # A number of features reads better before its noun.
    if name == "dim":
        return f"{where}: {value} features per tile, but {usual} in {usual_where}"
    absent = NO_STAIN_NORM if name == "stain_norm" else "not known"
    return f"{where}: {name} is {value or absent}, but {usual or absent} in {usual_where}"


def check_width(path: object, width: int, usual: int, usual_where: object) -> None:
    """Refuse a bag with another number of features per tile than the others.

    Args:
        path: the bag's file.
        width: the bag's number of features per tile.
        usual: the others' number of features per tile.
        usual_where: file that the others are named by.

    Raises:
        FormatError: the numbers differ.
    """
    if width != usual:
        message = difference(path, "dim", width, usual, usual_where)
        raise FormatError(f"{message}; {ONE_ENCODER}")


def common_identity(paths: Sequence[Path]) -> dict[str, str]:
    """The identity that all bags share; see `BagHeader.identity`.

    Args:
        paths: bag files, at least one.

    Raises:
        FormatError: two bags differ in encoder, weights, tiling or stain normalisation.
    """
    probe(paths)
    # Headers only: the check of thousands of bags takes seconds.
    first = read_identity(paths[0])
    for path in paths[1:]:
        identity = read_identity(path)
        for name, usual in first.items():
            if identity[name] != usual:
                message = difference(path, name, identity[name], usual, paths[0].name)
                raise FormatError(
                    f"{message}; delete the bags of one of them, or give them a folder of their own"
                )
    return first
