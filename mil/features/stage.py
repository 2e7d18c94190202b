"""Slide and tiles file in, bag out."""

from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from mil.config import EncoderConfig, FeaturesConfig
from mil.device import choose_device
from mil.errors import FormatError
from mil.features.encoders import build_encoder
from mil.features.extract import extract
from mil.io.bags import bag_of, write_bag
from mil.io.tiles import Tiles, read_tiles
from mil.progress import progress

# On a CPU a small batch stays in its caches: 16 tiles went 1.7 times as fast as 64, in half the memory.
BATCH_SIZE = {"cpu": 16, "cuda": 128}
# A lost slide is tried on until so many of its tiles are known to be unreadable: the count should mean something.
KNOWN_ENOUGH = 256


def run(
    slide: Path,
    tiles_path: Path,
    out: Path,
    *,
    encoder: str,
    entry: EncoderConfig,
    config: FeaturesConfig,
    threads: int,
    device: str,
) -> str:
    """Embed a slide's tiles.

    A slide whose state is not `ok` gives an empty bag of that state. More unreadable tiles than `max_corrupt` make
    the state `corrupt_regions`.

    Args:
        slide: the slide's file.
        tiles_path: its tiles file.
        out: the bag.
        encoder: the encoder's name.
        entry: its entry in configs/encoders.yaml.
        config: section `features`.
        threads: for reading, and for the encoder on a CPU.
        device: `cpu`, `cuda`, or `auto`.

    Returns:
        One line about what was done.
    """
    tiles = read_tiles(tiles_path)
    geometry = tiles.geometry
    if geometry.state != "ok":
        identity = {"encoder": encoder}
        _write(
            out,
            tiles,
            np.zeros((0, entry.dim)),
            np.zeros(0, bool),
            geometry.state,
            geometry.reason,
            identity,
            config,
        )
        return f"features {geometry.slide}: {geometry.state}, no tiles"
    torch.set_num_threads(threads)
    built = build_encoder(
        encoder, entry, tile_px=geometry.tile_px, device=choose_device(device), precision=config.precision
    )
    began = perf_counter()
    with progress(f"features {geometry.slide}", len(tiles.coords), "tiles") as advance:
        features, valid, tried = extract(
            slide, tiles.coords, built, dim=entry.dim, side_level0_px=geometry.side_level0_px, tile_px=geometry.tile_px,
            batch_size=config.batch_size or BATCH_SIZE[built.device.type], workers=threads, advance=advance,
            max_unreadable=max(int(config.max_corrupt * len(tiles.coords)), KNOWN_ENOUGH),
        )  # fmt: skip
    features = features.astype(config.dtype)
    if not np.isfinite(features).all():
        raise FormatError(
            f"{slide}: {encoder} gives features that are not finite in {config.dtype} (encoder in "
            f"{built.identity['precision']}); set features.dtype=float32 or features.precision=fp32"
        )
    bad = int((~valid[:tried]).sum())
    state = "corrupt_regions" if bad > config.max_corrupt * len(valid) or bad == len(valid) else "ok"
    reason = f"{bad} of {tried} tiles cannot be decoded" if bad else ""
    reason += f", {len(valid) - tried} more were not tried" if tried < len(valid) else ""
    _write(out, tiles, features, valid, state, reason, built.identity, config)
    rate = len(valid) / (perf_counter() - began)
    return f"features {geometry.slide}: {state}, {len(valid)} tiles, {rate:.0f} tiles/s" + (
        f" ({reason})" if bad else ""
    )


def _write(
    out: Path, tiles: Tiles, features: np.ndarray, valid: np.ndarray, state: str, reason: str,
    identity: dict[str, str], config: FeaturesConfig,
) -> None:  # fmt: skip
    bag = bag_of(tiles, features.astype(config.dtype), valid, state=state, reason=reason, encoder=identity)
    write_bag(out, bag)
