"""Bags that earlier runs have made: whether they are of the same encoder still, and which are missing."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mil.config import EncoderConfig
from mil.errors import ConfigError, FormatError

IN_PATH = ("tile_px", "mpp")  # a folder's name says them


def check_encoder(folder: Path, name: str, entry: EncoderConfig) -> None:
    """Refuse an entry of configs/encoders.yaml that was changed after bags were made with it.

    Bags take hours and are made once: they are neither made anew unasked nor mixed with
    others. One bag is looked at, for all of its folder.

    Args:
        folder: of the bags.
        name: of the encoder.
        entry: its entry as it is now.

    Raises:
        ConfigError: what has changed.
    """
    bag = next(folder.glob("[!.]*.h5"), None)  # scratch files of a killed run begin with a dot
    if bag is None:
        return
    from mil.io.bags import read_header  # HDF5 only where there are bags

    try:
        then = json.loads(read_header(bag).encoder_settings or "{}")
    except (FormatError, ValueError):
        return  # who reads the bags says so
    if not isinstance(then, dict):
        return
    now = json.loads(entry.settings())
    changed = [key for key in then if key not in IN_PATH and then[key] != now.get(key)]
    if changed:
        told = ", ".join(f"{key} (then {then[key]!r}, now {now.get(key)!r})" for key in changed)
        raise ConfigError(
            f"encoder {name}: changed in configs/encoders.yaml since the bags of {folder} were "
            f"made: {told}; remove "
            "that folder to make them anew, or give the changed entry a name of its own"
        )


def made_together(
    folders: Mapping[str, Path], slides: Sequence[str], tilings: Mapping[str, str]
) -> dict[tuple[str, ...], list[str]]:
    """Bags to be made from one reading of a slide: of encoders that see the same tiles and have none of it yet.

    Args:
        folders: of the bags, by encoder.
        slides: ids.
        tilings: by encoder, the name of its tiling.

    Returns:
        Slides by the encoders, two or more, whose bags they lack.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for tiling in dict.fromkeys(tilings.values()):
        alike = [name for name in folders if tilings[name] == tiling]
        there = {
            name: {file.name for file in folders[name].glob("*.h5")}
            for name in alike
            if len(alike) > 1
        }
        for slide in slides:
            lacking = tuple(name for name in there if f"{slide}.h5" not in there[name])
            if len(lacking) > 1:
                groups.setdefault(lacking, []).append(slide)
    return groups
