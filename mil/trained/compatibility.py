"""Whether a trained head can be applied to a bag."""

from pathlib import Path

import numpy as np

from mil.errors import FormatError
from mil.io.bags import Bag
from mil.trained.record import Trained


def check_fits(trained: Trained, bag: Bag, path: Path) -> None:
    """Refuse a bag of another encoder, weights or tiling than a head was trained on.

    Args:
        trained: Record of the head.
        bag: The bag.
        path: File of the bag, for the message.

    Raises:
        FormatError: encoder, weights, tiling or width of the features differ.
    """
    for key, value in {**bag.identity, "dim": bag.features.shape[1]}.items():
        expected = getattr(trained, key)
        if value != expected:
            raise FormatError(
                f"{path}: {key} is {value or 'not known'}, but {trained.recipe_name} was trained "
                f"on {expected or 'not known'}; extract features with {trained.encoder} for it"
            )


def check_numbers(bag: Bag, path: Path) -> None:
    """Refuse a bag that no head can be applied to.

    Args:
        bag: The bag.
        path: File of the bag, for the message.

    Raises:
        FormatError: the bag has no valid tiles, or features that are not finite.
    """
    if bag.state != "ok" or not bag.valid.any():
        raise FormatError(
            f"{path}: the bag has no tiles (its state is {bag.state}); run `split` again, or "
            "take its slide out of the csv"
        )
    # One such value makes every output of a head NaN, without an error.
    if not np.isfinite(bag.features[bag.valid]).all():
        raise FormatError(f"{path}: holds values that are not numbers; delete it and make it again")
