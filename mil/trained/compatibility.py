"""Whether a trained head can be applied to a bag."""

from pathlib import Path

from mil.errors import FormatError
from mil.io.bags import Bag
from mil.io.bags.checks import check_finite, check_has_tiles, difference
from mil.trained import Trained


def check_fits(trained: Trained, bag: Bag, path: Path) -> None:
    """Refuse a bag of another encoder, other weights or another tiling than a head was trained on.

    Raises:
        FormatError: what differs.
    """
    for key, value in {**bag.identity, "dim": bag.features.shape[1]}.items():
        wanted = getattr(trained, key)
        if value != wanted:
            features = f"the features that {trained.recipe_name} was trained on"
            message = difference(path, key, value, wanted, features)
            raise FormatError(f"{message}; extract features with {trained.encoder} for it")


def check_numbers(bag: Bag, path: Path) -> None:
    """Refuse a bag that no head can be applied to.

    Raises:
        FormatError: it has no valid tiles, or holds something that is not a number.
    """
    check_has_tiles(bag, path)
    check_finite(bag.features[bag.valid], path)
