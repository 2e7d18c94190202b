"""Checks that a trained head can be applied to a bag."""

from pathlib import Path

import numpy as np

from mil.errors import FormatError
from mil.io.bags import Bag
from mil.trained.record import Trained


def check_fits(trained: Trained, bag: Bag, path: Path) -> None:
    """Refuse a bag of another encoder, other weights or another tiling than a head's.

    Args:
        trained: the head.
        bag: the bag.
        path: the bag's file, for messages.

    Raises:
        FormatError: the bag differs from those that the head was trained on.
    """
    # Dimensions differ too when the encoder does, but the name says more: it comes first.
    facts = {**bag.identity, "dim": bag.features.shape[1]}
    for name, value in facts.items():
        expected = getattr(trained, name)
        if value != expected:
            raise FormatError(
                f"{path}: {name} is {value or 'not known'}, but {trained.recipe_name} was trained "
                f"on {expected or 'not known'}; extract features with {trained.encoder} for it"
            )


def check_numbers(bag: Bag, path: Path) -> None:
    """Refuse a bag that no head can be applied to.

    Args:
        bag: the bag.
        path: the bag's file, for messages.

    Raises:
        FormatError: the bag has no valid tiles, or its features hold NaN or infinity.
    """
    if bag.state != "ok" or not bag.valid.any():
        raise FormatError(
            f"{path}: the bag has no tiles (its state is {bag.state}); run `split` again, or "
            "take its slide out of the csv"
        )
    # Rows that are not valid are zeros, and no head sees them.
    if not np.isfinite(bag.features[bag.valid]).all():
        raise FormatError(
            f"{path}: holds values that are not numbers; delete it and extract its features again"
        )
