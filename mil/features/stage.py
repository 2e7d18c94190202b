"""Stage `features`: a slide and its tiles file give a bag for each encoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from jaxtyping import Bool, Float

from mil.config import EncoderConfig, FeaturesConfig
from mil.encoders.build import build_batched_encoder
from mil.encoders.runner import (
    BatchedEncoder,
    Encoder,
    extraction_settings,
    state_after_reading,
)
from mil.errors import FormatError, UnreadableSlideError
from mil.features.extract import ExtractedFeatures, extract
from mil.features.stain import (
    check_stain_norm,
    normalised,
    stain_facts,
    stain_for,
    with_stain,
)
from mil.io.atomic import check_not_inputs
from mil.io.bags import bag_of, write_bag
from mil.io.bags.file import FORMAT
from mil.io.bags.stain import SlideStain
from mil.io.h5 import check_replaceable
from mil.io.slides import SlideReader, TileRequest
from mil.io.tiles import Tiles, read_tiles
from mil.memory import keep_freed_memory
from mil.progress import progress


@dataclass(frozen=True)
class Target:
    """A bag to be made.

    Attributes:
        encoder: Name of the encoder.
        entry: Entry of configs/encoders.yaml.
        out: File of the bag.
        made_from: Digest of what the bag depends on; see `mil.io.provenance`.
    """

    encoder: str
    entry: EncoderConfig
    out: Path
    made_from: str = ""


Build = Callable[[str, EncoderConfig, int, FeaturesConfig, str], BatchedEncoder]


@dataclass(frozen=True)
class _Outcome:
    """Result of reading a slide, which the bags of all encoders share."""

    valid: Bool[np.ndarray, " tiles"]
    state: str
    reason: str
    # None: stains are not normalised.
    stain: SlideStain | None = None


def run(
    slide: Path,
    tiles_path: Path,
    targets: Sequence[Target],
    *,
    config: FeaturesConfig,
    threads: int,
    device: str,
    build: Build = build_batched_encoder,
    name: str = "",
) -> str:
    """Encode the tiles of a slide; several encoders share one reading of each tile.

    A slide whose state is not `ok` gives an empty bag of that state. More unreadable
    tiles than `max_corrupt` make the state `corrupt_regions`.

    Args:
        slide: Slide file.
        tiles_path: Tiles file of the slide.
        targets: Encoders and their bags.
        config: Section `features`.
        threads: Threads for reading, and as many for the encoders on a CPU.
        device: `cpu`, `cuda`, or `auto`: the GPU if there is one.
        build: Function that builds an encoder, or gives the one of an earlier slide.
        name: Id of the slide, which its tiles must name too; empty: theirs.

    Returns:
        One line about the result.

    Raises:
        UnreadableSlideError: The slide does not open.
        FormatError: The tiles belong to another slide; or an encoder returns features
            that are not finite, and the bags of the others are written.
        ConfigError: An encoder cannot be built, or the device's memory does not hold
            it; or the package of `stain_norm` is not installed.
        DatasetError: The slide or its tiles would be replaced by a bag.
    """
    check_not_inputs([target.out for target in targets], [slide, tiles_path])
    for target in targets:
        # Before the work, which may take an hour.
        check_replaceable(target.out, FORMAT)
    check_stain_norm(config)
    tiles = read_tiles(tiles_path)
    geometry = tiles.geometry
    if name and geometry.slide != name:
        raise FormatError(
            f"{tiles_path}: its tiles are of the slide {geometry.slide!r}, not {name!r}; delete "
            "the file and tile the slide again"
        )
    if geometry.state != "ok":
        for target in targets:
            _write_empty(target, tiles, config)
        return f"features {geometry.slide}: {geometry.state}, no tiles"
    _check_slide(slide, tiles_path, tiles)
    # Without it a third of a small encoder's time on a CPU goes into fresh pages.
    keep_freed_memory()
    encoders = [
        build(target.encoder, target.entry, geometry.tile_px, config, device) for target in targets
    ]
    num_tiles = len(tiles.coords)
    request = TileRequest(
        slide, tiles.coords, geometry.side_level0_px, geometry.tile_px, geometry.scene
    )
    settings = extraction_settings(
        encoders, num_tiles, max_corrupt=config.max_corrupt, threads=threads
    )
    # The rate leaves out the time to build the encoders.
    start = perf_counter()
    stain = stain_for(config, request, threads=threads)
    with progress(f"features {geometry.slide}", num_tiles, "tiles") as advance:
        extracted = extract(
            request, normalised(encoders, stain), settings, dtype=config.dtype, advance=advance
        )
    tiles_per_s = num_tiles / (perf_counter() - start)
    state, reason = state_after_reading(extracted.valid, extracted.num_tried, config.max_corrupt)
    reason = with_stain(reason, stain)
    outcome = _Outcome(extracted.valid, state, reason, stain)
    _write_all(targets, encoders, tiles, extracted, outcome, config)
    encoders_text = f" by {len(targets)} encoders" if len(targets) > 1 else ""
    reason_text = f" ({reason})" if reason else ""
    return (
        f"features {geometry.slide}: {state}, {num_tiles} tiles{encoders_text}, "
        f"{tiles_per_s:.0f} tiles/s{reason_text}"
    )


def _check_slide(slide: Path, tiles_path: Path, tiles: Tiles) -> None:
    """Check by its size that the tiles were cut from this slide.

    Positions of another slide give features of blank glass, which nothing would show.
    """
    if not slide.exists():
        raise UnreadableSlideError(slide, "no such file; put it back, then run again")
    tiled_px = tiles.geometry.width_level0_px, tiles.geometry.height_level0_px
    with SlideReader(slide, scene=tiles.geometry.scene) as reader:
        size_px = reader.size_px
    if size_px != tiled_px:
        raise FormatError(
            f"{tiles_path}: its slide has {tiled_px[0]} x {tiled_px[1]} px, but {slide} has "
            f"{size_px[0]} x {size_px[1]} px; tile the slide again, or give the tiles file of "
            "this slide"
        )


def _write_all(
    targets: Sequence[Target],
    encoders: Sequence[BatchedEncoder],
    tiles: Tiles,
    extracted: ExtractedFeatures,
    outcome: _Outcome,
    config: FeaturesConfig,
) -> None:
    """Write the bag of each encoder whose features are all finite.

    Raises:
        FormatError: An encoder returned features that are not.
    """
    failed: list[Encoder] = []
    for target, encoder, features in zip(targets, encoders, extracted.features, strict=True):
        if np.isfinite(features).all():
            identity = encoder.encoder.identity
            _write(target, tiles, features, outcome, identity, config)
        else:
            failed.append(encoder.encoder)
    # After all are written: one encoder's failure costs the others nothing.
    if failed:
        raise FormatError(
            f"{tiles.geometry.slide}: {failed[0].name} returns features that are not finite in "
            f"{config.dtype} (encoder in {failed[0].identity['precision']}); set "
            "features.dtype=float32 or features.precision=fp32"
        )


def _write_empty(target: Target, tiles: Tiles, config: FeaturesConfig) -> None:
    """Write the bag of a slide without tiles; no model is built for it."""
    geometry = tiles.geometry
    # No rows, but as wide as a bag with tiles, so that readers need no special case.
    outcome = _Outcome(np.zeros(0, bool), geometry.state, geometry.reason)
    features = np.zeros((0, target.entry.dim))
    _write(target, tiles, features, outcome, {"encoder": target.encoder}, config)


def _write(
    target: Target,
    tiles: Tiles,
    features: Float[np.ndarray, "tiles dim"],
    outcome: _Outcome,
    identity: dict[str, str],
    config: FeaturesConfig,
) -> None:
    bag = bag_of(
        tiles,
        features.astype(config.dtype, copy=False),
        outcome.valid,
        state=outcome.state,
        reason=outcome.reason,
        encoder={
            **identity,
            "encoder_settings": target.entry.settings(),
            **stain_facts(config.stain_norm, outcome.stain),
        },
    )
    write_bag(target.out, bag, made_from=target.made_from)
