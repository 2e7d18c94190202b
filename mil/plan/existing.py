"""Bags of earlier runs: are they still of the same encoder, and which parts lack them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mil.config import EncoderConfig
from mil.errors import ConfigError, FormatError
from mil.plan.parts import TABLES

# Settings of an encoder that are part of a bag's path: another value is another folder.
IN_PATH = ("tile_px", "mpp")


class BagKind(NamedTuple):
    """What the bags of a folder share.

    Attributes:
        encoder: Name of the encoder.
        tiling: Name of the tiling.
    """

    encoder: str
    tiling: str


def check_encoder(folder: Path, name: str, entry: EncoderConfig) -> None:
    """Refuse an encoder whose entry was changed after bags were computed with it.

    Bags take hours: they are neither recomputed unasked nor mixed with others. One bag is
    read, for all of its folder.

    Args:
        folder: Folder of the encoder's bags.
        name: Name of the encoder.
        entry: Present entry of the encoder.

    Raises:
        ConfigError: The entry has changed; the message lists the settings.
    """
    # Scratch files of a killed run begin with a dot.
    bag = next(folder.glob("[!.]*.h5"), None)
    if bag is None:
        return
    # Here, because a run without bags needs no HDF5.
    from mil.io.bags import read_header

    try:
        then = json.loads(read_header(bag).encoder_settings or "{}")
    except (FormatError, ValueError):
        return  # The stage that reads the bag reports its damage.
    if not isinstance(then, dict):
        return
    now = json.loads(entry.settings())
    changed = [key for key in then if key not in IN_PATH and then[key] != now.get(key)]
    if changed:
        changes = ", ".join(f"{key} (then {then[key]!r}, now {now.get(key)!r})" for key in changed)
        raise ConfigError(
            f"encoder {name}: changed in configs/encoders.yaml since the bags of {folder} were "
            f"computed: {changes}; remove that folder to recompute them, or give the changed "
            "entry a name of its own"
        )


def shared_parts(
    folders: Mapping[BagKind, Path], parts: Sequence[str]
) -> dict[tuple[str, ...], dict[str, list[str]]]:
    """Parts whose slides are read once for the bags of several encoders of one tiling.

    Args:
        folders: Folder of the bags, by encoder and tiling.
        parts: Names of the parts.

    Returns:
        Parts by the encoders, two or more of one tiling, whose bags they lack, and by that
        tiling.
    """
    parts_by_encoders: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for tiling in dict.fromkeys(kind.tiling for kind in folders):
        of_tiling = {kind.encoder: folders[kind] for kind in folders if kind.tiling == tiling}
        if len(of_tiling) < 2:
            continue
        # A folder is listed once: asking for each file is slow on a network's disk.
        tables = {
            name: {file.name for file in (folder / TABLES).glob("*.csv")}
            for name, folder in of_tiling.items()
        }
        for part in parts:
            lacking = tuple(name for name in of_tiling if f"{part}.csv" not in tables[name])
            if len(lacking) > 1:
                by_tiling = parts_by_encoders.setdefault(lacking, {})
                by_tiling.setdefault(tiling, []).append(part)
    return parts_by_encoders
