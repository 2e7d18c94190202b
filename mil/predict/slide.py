"""One slide: tissue, tiles, features, predictions, heatmap; a fault is its state."""

from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

from mil.encoders.runner import BatchedEncoder
from mil.errors import ReadingError, SlideError
from mil.features.stain import stain_facts
from mil.io.bags import Bag, bag_of, write_bag
from mil.io.scores import HeadScores
from mil.io.tiles import Tiles, read_tiles
from mil.predict.drawing import draw_slide, failed_slide, unread_slide
from mil.predict.embedding import EmbeddedSlide, embed
from mil.predict.ensemble import Ensemble
from mil.predict.result import SlidePrediction
from mil.predict.scoring import scores_of_bag, with_evidence
from mil.predict.settings import PredictionSettings
from mil.tile.stage import run as tile
from mil.trained.forward import tensors_of


def predict(
    slide: Path,
    name: str,
    ensemble: Ensemble,
    runner: BatchedEncoder,
    settings: PredictionSettings,
) -> SlidePrediction:
    """Predict one slide.

    Args:
        slide: Slide file.
        name: Id of the slide, by which its files are called.
        ensemble: Heads of one recipe.
        runner: Encoder of the heads.
        settings: Settings of the prediction.

    Raises:
        ConfigError: the encoder's memory does not hold a tile.
    """
    # Tiles and overview are needed for the heatmap alone.
    with TemporaryDirectory(prefix="mil-predict-") as scratch:
        tiles_path = Path(scratch) / f"{name}.h5"
        geometry, _ = tile(
            slide,
            name,
            tiles_path,
            tile_px=ensemble.encoder.tile_px,
            target_mpp=ensemble.encoder.mpp,
            mpp=settings.mpp,
            config=settings.tile,
            scene=settings.scene,
            say=settings.say,
        )
        if geometry.state != "ok":
            return failed_slide(geometry.state, geometry.reason, tiles_path, ensemble, settings)
        try:
            tiles = read_tiles(tiles_path)
            return _predict(slide, tiles, tiles_path, ensemble, runner, settings)
        except (SlideError, ReadingError) as error:
            return unread_slide(error, tiles_path, ensemble, settings)


def _predict(
    slide: Path,
    tiles: Tiles,
    tiles_path: Path,
    ensemble: Ensemble,
    runner: BatchedEncoder,
    settings: PredictionSettings,
) -> SlidePrediction:
    name = tiles.geometry.slide
    began = perf_counter()
    # Reading is part of it: the rate is what a user waits for.
    embedded = embed(slide, tiles, ensemble, runner, settings)
    tiles_per_s = len(tiles.coords) / (perf_counter() - began)
    bag = _bag(tiles, embedded, ensemble, runner, settings.features.stain_norm)
    if settings.bags_dir:
        write_bag(settings.bags_dir / f"{name}.h5", bag)
    if embedded.state != "ok":
        return failed_slide(
            embedded.state, embedded.reason, tiles_path, ensemble, settings, bag_written=True
        )
    scores = _scores(bag, embedded, ensemble)
    if settings.heatmaps_dir:
        # Evidence needs features, which heads that stream do not keep.
        if embedded.features is not None:
            scores = with_evidence(scores, tensors_of(bag), ensemble)
        draw_slide(slide, bag, scores, tiles_path, ensemble, settings.heatmaps_dir, settings)
    return SlidePrediction(
        slide=name,
        state="ok",
        reason=embedded.reason,
        tiles=int(embedded.valid.sum()),
        predictions=[head.predictions for head in scores],
        tiles_per_s=tiles_per_s,
        curve=None if embedded.cells is None else embedded.cells.curve(ensemble),
    )


def _scores(bag: Bag, embedded: EmbeddedSlide, ensemble: Ensemble) -> list[HeadScores]:
    """Scores by each head: of the whole bag, or put together while tiles were read."""
    if embedded.running is not None:
        return embedded.running.conclude()
    return scores_of_bag(tensors_of(bag), ensemble)


def _bag(
    tiles: Tiles,
    embedded: EmbeddedSlide,
    ensemble: Ensemble,
    runner: BatchedEncoder,
    stain_norm: str,
) -> Bag:
    """The slide's bag, as `mil features` would write it; without features if none were kept."""
    features = embedded.features
    if features is None:
        # No columns: heatmaps need the positions of the tiles and their validity only.
        features = np.empty((len(embedded.valid), 0), np.float16)
    return bag_of(
        tiles,
        features,
        embedded.valid,
        state=embedded.state,
        reason=embedded.reason,
        encoder={
            **runner.encoder.identity,
            "encoder_settings": ensemble.encoder.entry.settings(),
            **stain_facts(stain_norm, embedded.stain),
        },
    )
