"""Checks that a trained head can be applied to a bag."""

from pathlib import Path

from mil.config.stain import NO_STAIN_NORM
from mil.errors import FormatError
from mil.io.bags import Bag
from mil.io.bags.checks import check_finite, check_has_tiles, difference
from mil.trained.record import Trained


def check_compatible(trained: Trained, bag: Bag, path: Path) -> None:
    """Refuse a bag of another encoder, weights, tiling or stains than a head's.

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
            features = f"the features that {trained.recipe_name} was trained on"
            message = difference(path, name, value, expected, features)
            raise FormatError(f"{message}; make its bag with {_like(trained, name)}")


def _like(trained: Trained, name: str) -> str:
    """Features that a head needs, as far as a fact of theirs says."""
    facts = {
        "tiling": f", tiled {trained.tiling}",
        "stain_norm": f", stain_norm {trained.stain_norm or NO_STAIN_NORM}",
        "weights_sha256": f", weights of SHA-256 {trained.weights_sha256}",
    }
    return f"encoder {trained.encoder}{facts.get(name, '')}"


def check_usable(bag: Bag, path: Path) -> None:
    """Refuse a bag that no head can be applied to.

    Args:
        bag: the bag.
        path: the bag's file, for messages.

    Raises:
        FormatError: the bag has no valid tiles, or its features hold NaN or infinity.
    """
    check_has_tiles(bag, path)
    # Rows that are not valid are zeros, and no head sees them; one value that is not a
    # number makes every output of a head NaN, without an error.
    check_finite(bag.features[bag.valid], path)
