"""Whether a trained head can be applied to a bag."""

from pathlib import Path

import numpy as np

from mil.errors import FormatError
from mil.io.bags import Bag
from mil.trained.record import Trained


def check_fits(trained: Trained, bag: Bag, path: Path) -> None:
    """Refuse a bag of another encoder, other weights or another tiling than a head was trained on.

    Raises:
        FormatError: what differs.
    """
    for key, value in {**bag.identity, "dim": bag.features.shape[1]}.items():
        wanted = getattr(trained, key)
        if value != wanted:
            raise FormatError(
                f"{path}: {key} is {value or 'not known'}, but {trained.recipe_name} was trained "
                "on "
                f"{wanted or 'not known'}; extract features with {trained.encoder} for it"
            )


def check_numbers(bag: Bag, path: Path) -> None:
    """Refuse a bag that no head can be applied to.

    Raises:
        FormatError: it has no valid tiles, or holds something that is not a number.
    """
    if bag.state != "ok" or not bag.valid.any():
        raise FormatError(
            f"{path}: the bag has no tiles (its state is {bag.state}); run `split` again, or "
            "take its slide out of "
            "the csv"
        )
    if not np.isfinite(bag.features[bag.valid]).all():
        raise FormatError(f"{path}: holds values that are not numbers; delete it and make it again")
