"""One slide: tissue, tiles, features, answers, heatmap; whatever is wrong with it becomes its named state."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from jaxtyping import Bool, Float

from mil.config import FeaturesConfig, HeatmapConfig, TileConfig
from mil.encoders.runner import BatchedEncoder, extraction_settings, state_after_reading
from mil.errors import FormatError, ReadingError, SlideError
from mil.features.extract import encoded_batches
from mil.heatmap.stage import draw_bundle, draw_state, title_of
from mil.io.bags import Bag, BagHeader, bag_of, write_bag
from mil.io.slides import TileRequest
from mil.io.tiles import Tiles, read_tiles
from mil.predict.ensemble import Ensemble
from mil.predict.running import Running
from mil.progress import progress
from mil.tile.stage import run as tile
from mil.trained import Applied, apply


@dataclass(frozen=True)
class Prediction:
    """What became of a slide.

    `answers` are each head's, in the order of the task's columns; empty unless the
    state is `ok`. `tiles` are those that could be read.
    """

    slide: str
    state: str = "not reached"
    reason: str = ""
    tiles: int = 0
    answers: list[Float[np.ndarray, " columns"]] = field(default_factory=list)
    tiles_per_s: float = 0.0


@dataclass(frozen=True)
class Settings:
    """How slides are looked at; None: that folder is not wanted."""

    tile: TileConfig
    features: FeaturesConfig
    heatmap: HeatmapConfig
    mpp: float | None
    threads: int
    heatmaps_dir: Path | None
    bags_dir: Path | None


@dataclass(frozen=True)
class _Embedded:
    """A slide's tiles after reading: its state, which tiles were valid, and what heads say if they stream."""

    state: str
    reason: str
    valid: Bool[np.ndarray, " tiles"]
    features: Float[np.ndarray, "tiles dim"] | None  # None: not kept
    running: Running | None


def predict(
    slide: Path, name: str, ensemble: Ensemble, feeder: BatchedEncoder, how: Settings
) -> Prediction:
    """Predict one slide.

    Args:
        slide: its file.
        name: its id, which its files are called by.
        ensemble: the heads.
        feeder: their encoder.
        how: settings.

    Raises:
        ConfigError: the encoder's memory does not hold a tile.
    """
    with TemporaryDirectory(prefix="mil-predict-") as scratch:
        tiles_path = Path(scratch) / f"{name}.h5"
        geometry, _ = tile(
            slide,
            name,
            tiles_path,
            tile_px=ensemble.tile_px,
            target_mpp=ensemble.target_mpp,
            mpp=how.mpp,
            config=how.tile,
        )
        if geometry.state != "ok":
            return _lost(geometry.state, geometry.reason, tiles_path, ensemble, how)
        try:
            return _predict(slide, read_tiles(tiles_path), tiles_path, ensemble, feeder, how)
        except (SlideError, ReadingError) as error:
            reason = error.reason if isinstance(error, SlideError) else str(error)
            return _lost(getattr(error, "state", "unreadable"), reason, tiles_path, ensemble, how)


def _predict(
    slide: Path,
    tiles: Tiles,
    tiles_path: Path,
    ensemble: Ensemble,
    feeder: BatchedEncoder,
    how: Settings,
) -> Prediction:
    name = tiles.geometry.slide
    began = perf_counter()
    found = _embed(slide, tiles, ensemble, feeder, how)
    rate = len(tiles.coords) / (perf_counter() - began)
    bag = _bag(tiles, found, ensemble, feeder)
    if how.bags_dir:
        write_bag(how.bags_dir / f"{name}.h5", bag)
    if found.state != "ok":
        return _lost(found.state, found.reason, tiles_path, ensemble, how, written=True)
    said = (
        found.running.conclude()
        if found.running
        else [apply(head, trained, bag) for head, trained in ensemble.models]
    )
    if how.heatmaps_dir:
        _draw(bag, said, tiles_path, ensemble, how.heatmaps_dir, how)
    return Prediction(
        name, "ok", found.reason, int(found.valid.sum()), [one.answers for one in said], rate
    )


def _embed(
    slide: Path, tiles: Tiles, ensemble: Ensemble, feeder: BatchedEncoder, how: Settings
) -> _Embedded:
    """Read all tiles; heads that stream see them as they come."""
    geometry = tiles.geometry
    count = len(tiles.coords)
    dtype = how.features.dtype
    running = Running(ensemble.models, count) if ensemble.streams else None
    features = np.zeros((count, feeder.dim), dtype) if how.bags_dir or running is None else None
    valid = np.zeros(count, bool)
    tried = 0
    request = TileRequest(slide, tiles.coords, geometry.side_level0_px, geometry.tile_px)
    settings = extraction_settings(
        [feeder], count, max_corrupt=how.features.max_corrupt, threads=how.threads
    )
    made = encoded_batches(request, [feeder], settings)
    with progress(f"predict {geometry.slide}", count, "tiles") as advance, closing(made):
        for step in made:
            rows = slice(step.first, step.first + len(step.readable))
            with np.errstate(over="ignore"):
                new = step.features[0].astype(dtype)  # as a bag would hold them
            if not np.isfinite(new).all():
                raise FormatError(
                    f"{geometry.slide}: {feeder.encoder.name} gives features that are not finite "
                    f"in {dtype}; set "
                    "features.dtype: float32 or features.precision: fp32 in configs/config.yaml"
                )
            valid[rows], tried = step.readable, rows.stop
            if features is not None:
                features[rows][step.readable] = new
            if running is not None:
                running.add(new)
            advance(len(step.readable), running.estimate() if running else "")
    return _Embedded(
        *state_after_reading(valid, tried, how.features.max_corrupt), valid, features, running
    )


def _bag(tiles: Tiles, found: _Embedded, ensemble: Ensemble, feeder: BatchedEncoder) -> Bag:
    """The slide's bag, as `mil features` would make it; without features where none were kept."""
    features = (
        np.empty((len(found.valid), 0), np.float16) if found.features is None else found.features
    )
    said = {**feeder.encoder.identity, "encoder_settings": ensemble.entry.settings()}
    return bag_of(
        tiles, features, found.valid, state=found.state, reason=found.reason, encoder=said
    )


def _draw(
    bag: Bag,
    said: Sequence[Applied],
    tiles_path: Path,
    ensemble: Ensemble,
    folder: Path,
    how: Settings,
) -> None:
    title = title_of(bag.slide, ensemble.trained, said)
    draw_bundle(
        bag,
        said,
        folder / f"{bag.slide}.png",
        title=title,
        tiles=tiles_path,
        scale=how.heatmap.scale,
    )


def _lost(
    state: str,
    reason: str,
    tiles_path: Path,
    ensemble: Ensemble,
    how: Settings,
    written: bool = False,
) -> Prediction:
    """A slide without an answer still has its picture, and its bag if bags are wanted (or that is `written`)."""
    name = tiles_path.stem
    tiles = read_tiles(tiles_path)
    if how.bags_dir and not written:
        empty = np.zeros((len(tiles.coords), ensemble.trained.dim), how.features.dtype)
        said = {"encoder": ensemble.trained.encoder, "encoder_settings": ensemble.entry.settings()}
        bag = bag_of(
            tiles, empty, np.zeros(len(empty), bool), state=state, reason=reason, encoder=said
        )
        write_bag(how.bags_dir / f"{name}.h5", bag)
    if how.heatmaps_dir:
        header = BagHeader(slide=name, encoder=ensemble.trained.encoder, state=state, reason=reason)
        draw_state(how.heatmaps_dir / f"{name}.png", tiles_path, header)
    return Prediction(name, state, reason)
