"""Slide and tiles file in; a bag out for each encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from mil.config import EncoderConfig, FeaturesConfig
from mil.device import choose_device, keep_freed_memory
from mil.encoders.build import build_encoder
from mil.encoders.casting import cast_weights
from mil.encoders.memory import GPU_LANES, step_for
from mil.encoders.runner import Encoder, Feeder, no_room
from mil.errors import ConfigError, FormatError
from mil.features.extract import Extracted, extract
from mil.io.bags import bag_of, write_bag
from mil.io.slides import SlideReader, TileRequest
from mil.io.tiles import Tiles, read_tiles
from mil.progress import progress

# A lost slide is tried on until so many of its tiles are known to be unreadable: the
# count should mean something.
KNOWN_ENOUGH = 256


@dataclass(frozen=True)
class Target:
    """An encoder by name, its entry in configs/encoders.yaml, and where its bag goes."""

    encoder: str
    entry: EncoderConfig
    out: Path


def run(
    slide: Path,
    tiles_path: Path,
    targets: Sequence[Target],
    *,
    config: FeaturesConfig,
    threads: int,
    device: str,
) -> str:
    """Embed a slide's tiles; with several encoders each tile is read once for all of them.

    A slide whose state is not `ok` gives an empty bag of that state. More unreadable
    tiles than `max_corrupt` make the state `corrupt_regions`.

    Args:
        slide: the slide's file.
        tiles_path: its tiles file.
        targets: encoders and their bags.
        config: section `features`.
        threads: for reading, and as many for the encoder on a CPU.
        device: `cpu`, `cuda`, or `auto`.

    Returns:
        One line about what was done.

    Raises:
        UnreadableSlideError: the slide does not open.
        FormatError: the tiles are of another slide; or an encoder gives features that
            are not finite, then the bags of the others are written.
        ConfigError: an encoder cannot be built, or its device's memory does not hold
            it.
    """
    tiles = read_tiles(tiles_path)
    geometry = tiles.geometry
    if geometry.state != "ok":
        for target in targets:
            _write(
                target,
                tiles,
                np.zeros((0, target.entry.dim)),
                np.zeros(0, bool),
                geometry.state,
                geometry.reason,
                {"encoder": target.encoder, "encoder_settings": target.entry.settings()},
                config,
            )
        return f"features {geometry.slide}: {geometry.state}, no tiles"
    _check_slide(slide, tiles_path, tiles)
    keep_freed_memory()
    feeders = [
        make_feeder(target.encoder, target.entry, geometry.tile_px, config, device)
        for target in targets
    ]
    request = TileRequest(slide, tiles.coords, geometry.side_level0_px, geometry.tile_px)
    began = perf_counter()
    with progress(f"features {geometry.slide}", len(tiles.coords), "tiles") as advance:
        found = extract(
            request,
            feeders,
            **pace(feeders, len(tiles.coords), config.max_corrupt, threads),
            dtype=config.dtype,
            advance=advance,
        )
    rate = len(tiles.coords) / (perf_counter() - began)
    state, reason = state_of(found.valid, found.tried, config.max_corrupt)
    _write_all(targets, feeders, tiles, found, state, reason, config)
    by = f" by {len(targets)} encoders" if len(targets) > 1 else ""
    why = f" ({reason})" if reason else ""
    return f"features {geometry.slide}: {state}, {len(tiles.coords)} tiles{by}, {rate:.0f} tiles/s{why}"


def _check_slide(slide: Path, tiles_path: Path, tiles: Tiles) -> None:
    """Places of another slide give features of glass, and nobody would notice."""
    tiled = tiles.geometry.width_level0_px, tiles.geometry.height_level0_px
    with SlideReader(slide) as reader:
        size = reader.size_px
    if size != tiled:
        raise FormatError(
            f"{tiles_path}: its slide has {tiled[0]} x {tiled[1]} px, but {slide} has {size[0]} "
            f"x {size[1]} px; tile "
            "the slide again, or give the tiles that belong to it"
        )


def make_feeder(
    name: str, entry: EncoderConfig, tile_px: int, config: FeaturesConfig, device: str
) -> Feeder:
    """An encoder on its device, ready for work.

    Raises:
        ConfigError: it cannot be built, or the memory does not hold it.
    """
    torch.set_num_threads(
        1
    )  # threads work on batches of their own: the same features for any number of them
    on = choose_device(device)
    try:
        encoder = build_encoder(name, entry, tile_px=tile_px, device=on, precision=config.precision)
        cast_weights(encoder.model, encoder.dtype)
        if config.compile:
            encoder.model.compile()
        step = config.batch_size or step_for(encoder, tile_px)
    except torch.OutOfMemoryError:
        raise ConfigError(no_room(name, on)) from None
    return Feeder(encoder, entry.dim, step, whole=config.compile)


def pace(
    feeders: Sequence[Feeder], num_tiles: int, max_corrupt: float, threads: int
) -> dict[str, Any]:
    """How the tiles of a slide are gone through, as arguments of `extract`: features do not depend on the threads."""
    return {
        "batch_size": max(feeder.step for feeder in feeders),
        "workers": threads,
        "lanes": threads if feeders[0].encoder.device.type == "cpu" else GPU_LANES,
        "max_unreadable": max(int(max_corrupt * num_tiles), KNOWN_ENOUGH),
    }


def state_of(valid: Bool[np.ndarray, " tiles"], tried: int, max_corrupt: float) -> tuple[str, str]:
    """The slide's state and why, now that its tiles have been read: which could be, and how many were tried."""
    count = len(valid)
    bad = int((~valid[:tried]).sum())
    state = "corrupt_regions" if bad > max_corrupt * count or bad == count else "ok"
    reason = f"{bad} of {tried} tiles cannot be decoded" if bad else ""
    reason += f", {count - tried} more were not tried" if tried < count else ""
    return state, reason


def _write_all(
    targets: Sequence[Target],
    feeders: Sequence[Feeder],
    tiles: Tiles,
    found: Extracted,
    state: str,
    reason: str,
    config: FeaturesConfig,
) -> None:
    spoilt: list[Encoder] = []
    for target, feeder, features in zip(targets, feeders, found.features, strict=True):
        if np.isfinite(features).all():
            identity = {**feeder.encoder.identity, "encoder_settings": target.entry.settings()}
            _write(target, tiles, features, found.valid, state, reason, identity, config)
        else:
            spoilt.append(feeder.encoder)
    if spoilt:
        raise FormatError(
            f"{tiles.geometry.slide}: {spoilt[0].name} gives features that are not finite in "
            f"{config.dtype} (encoder "
            f"in {spoilt[0].identity['precision']}); set features.dtype=float32 or "
            "features.precision=fp32"
        )


def _write(
    target: Target,
    tiles: Tiles,
    features: np.ndarray,
    valid: np.ndarray,
    state: str,
    reason: str,
    identity: dict[str, str],
    config: FeaturesConfig,
) -> None:
    bag = bag_of(
        tiles,
        features.astype(config.dtype, copy=False),
        valid,
        state=state,
        reason=reason,
        encoder=identity,
    )
    write_bag(target.out, bag)
