"""One slide: tissue, tiles, features, predictions, heatmap; a fault is its state."""

from collections.abc import Sequence
from dataclasses import replace
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
from mil.predict.drawing import draw_slide, failed_slide
from mil.predict.embedding import EmbeddedSlide, embed
from mil.predict.ensemble import Ensemble
from mil.predict.result import SlidePrediction
from mil.predict.settings import PredictionSettings
from mil.tile.stage import run as tile
from mil.trained.evidence import evidence_of, remover_of
from mil.trained.forward import forward, tensors_of


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
        # In a study a failing disk stops the job, which is run again. Here nothing is
        # run again, and one slide must not stop the others.
        except (SlideError, ReadingError) as error:
            state = getattr(error, "state", "unreadable")
            reason = error.reason if isinstance(error, SlideError) else str(error)
            return failed_slide(state, reason, tiles_path, ensemble, settings)


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
        scores = _with_evidence(scores, bag, embedded, ensemble)
        draw_slide(slide, bag, scores, tiles_path, ensemble, settings.heatmaps_dir, settings)
    return SlidePrediction(
        name,
        "ok",
        embedded.reason,
        int(embedded.valid.sum()),
        [head.predictions for head in scores],
        tiles_per_s,
        embedded.cells.curve(ensemble) if embedded.cells is not None else None,
    )


def _scores(bag: Bag, embedded: EmbeddedSlide, ensemble: Ensemble) -> list[HeadScores]:
    """Scores by each head: of the whole bag, or put together while tiles were read."""
    if embedded.running is not None:
        return embedded.running.conclude()
    tensors = tensors_of(bag)
    return [forward(head, trained, tensors) for head, trained in ensemble.models]


def _with_evidence(
    scores: Sequence[HeadScores], bag: Bag, embedded: EmbeddedSlide, ensemble: Ensemble
) -> list[HeadScores]:
    """Add the evidence of each tile; not where no features were kept."""
    if embedded.features is None:
        return list(scores)
    tensors = tensors_of(bag)
    complete = []
    for (head, _), of_head in zip(ensemble.models, scores, strict=True):
        _, evidence = evidence_of(head, remover_of(head), tensors)
        complete.append(replace(of_head, evidence=evidence))
    return complete


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
