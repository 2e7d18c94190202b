"""Checks that a bag is what a slide encoder was trained on."""

from pathlib import Path

from mil.config import load_encoders
from mil.config.slide_encoders import SlideEncoderConfig, tiles_advice
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
    if not bag.tile_px or not bag.target_mpp:
        raise FormatError(
            f"{path}: it does not state the size of its tiles, and slide encoder {name} takes "
            f"those of {entry.tile_um:g} µm; import it with its scale, or {advice}"
        )
    side_um = entry.cropped.get(bag.tile_px, bag.tile_px) * bag.target_mpp
    if not entry.takes_side(side_um):
        raise FormatError(
            f"{path}: its tiles are {side_um:g} µm wide, slide encoder {name} takes those of "
            f"{entry.tile_um:g} µm; {advice}"
        )
    if entry.positions and bag.positions() is None:
        raise FormatError(
            f"{path}: it lacks the positions of its tiles, which slide encoder {name} needs; "
            f"{advice}"
        )
