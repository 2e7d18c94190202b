"""Checks that a bag is what a slide encoder was trained on."""

from pathlib import Path

from mil.config import load_encoders
from mil.config.slide_encoders import SlideEncoderConfig, tiles_advice, unfit_tiles
from mil.errors import FormatError
from mil.io.bags import Bag


def check_bag(name: str, entry: SlideEncoderConfig, bag: Bag, path: Path) -> None:
    """Refuse a bag of another encoder or other tiles than those of the training.

    Args:
        name: Name of the slide encoder.
        entry: Its entry.
        bag: The bag.
        path: Its file, for messages.

    Raises:
        FormatError: The bag differs, or lacks positions that are needed; one line with
            the remedy.
    """
    advice = tiles_advice(entry)
    length = bag.features.shape[1]
    encoder = load_encoders().get(entry.encoder)
    if bag.encoder != entry.encoder:
        raise FormatError(
            f"{path}: its features are by {bag.encoder}, slide encoder {name} stands on "
            f"{entry.encoder}; {advice}"
        )
    if encoder is not None and length != encoder.dim:
        raise FormatError(
            f"{path}: its features have {length} numbers, those of {entry.encoder}, which slide "
            f"encoder {name} stands on, have {encoder.dim}; import it under the name of its own "
            f"encoder, or {advice}"
        )
    misfit = unfit_tiles(name, entry, bag.tile_px, bag.target_mpp)
    if misfit:
        raise FormatError(f"{path}: {misfit}")
    if entry.positions and bag.positions() is None:
        raise FormatError(
            f"{path}: it lacks the positions of its tiles, which slide encoder {name} needs; "
            f"{advice}"
        )
