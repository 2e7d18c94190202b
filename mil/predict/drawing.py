"""Heatmap of a slide, or the picture of its state."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mil.errors import ReadingError, SlideError
from mil.features.stain import stain_facts
from mil.heatmap.bundle import draw_bundle, draw_state
from mil.heatmap.sheet import draw_sheet, sheet_path
from mil.heatmap.title import title_of
from mil.io.bags import Bag, BagHeader, bag_of, write_bag
from mil.io.scores import HeadScores
from mil.io.tiles import read_tiles
from mil.predict.ensemble import Ensemble
from mil.predict.result import SlidePrediction
from mil.predict.settings import PredictionSettings


def draw_slide(
    slide: Path,
    bag: Bag,
    scores: Sequence[HeadScores],
    tiles_path: Path,
    ensemble: Ensemble,
    folder: Path,
    settings: PredictionSettings,
) -> None:
    """Draw the heatmap of a slide and its tile sheet into a folder."""
    picture = folder / f"{bag.slide}.png"
    title = title_of(bag.slide, ensemble.records, scores)
    draw_bundle(
        bag,
        ensemble.records,
        scores,
        picture,
        title=title,
        tiles=tiles_path,
        scale=settings.heatmap.scale,
        kinds=settings.heatmap.kinds,
        branches=settings.heatmap.branches,
    )
    if settings.heatmap.sheet:
        draw_sheet(
            bag,
            ensemble.records,
            scores,
            sheet_path(picture),
            tiles=tiles_path,
            slide=slide,
            per_row=settings.heatmap.sheet,
            title=title,
        )


def unread_slide(
    error: SlideError | ReadingError,
    tiles_path: Path,
    ensemble: Ensemble,
    settings: PredictionSettings,
) -> SlidePrediction:
    """A slide whose tiles cannot be read; see `failed_slide`.

    In a study a failing disk stops the job, which is run again. Here nothing is run
    again, and one slide must not stop the others.
    """
    if isinstance(error, SlideError):
        return failed_slide(error.state, error.reason, tiles_path, ensemble, settings)
    return failed_slide("unreadable", str(error), tiles_path, ensemble, settings)


def failed_slide(
    state: str,
    reason: str,
    tiles_path: Path,
    ensemble: Ensemble,
    settings: PredictionSettings,
    bag_written: bool = False,
) -> SlidePrediction:
    """A slide without predictions still has its picture, and its bag if bags are kept."""
    name = tiles_path.stem
    tiles = read_tiles(tiles_path)
    encoder = ensemble.trained.encoder
    # A joined bag states those of each of its bags, which there are none of here.
    encoder_settings = "" if ensemble.joined else ensemble.encoder.entry.settings()
    if settings.bags_dir and not bag_written:
        features = np.zeros((len(tiles.coords), ensemble.trained.dim), settings.features.dtype)
        bag = bag_of(
            tiles,
            features,
            np.zeros(len(features), bool),
            state=state,
            reason=reason,
            encoder={
                "encoder": encoder,
                "encoder_settings": encoder_settings,
                **stain_facts(settings.features.stain_norm, None),
            },
        )
        write_bag(settings.bags_dir / f"{name}.h5", bag)
    if settings.heatmaps_dir:
        # A user who looks for the heatmap finds the slide and the reason in its place.
        header = BagHeader(slide=name, encoder=encoder, state=state, reason=reason)
        draw_state(settings.heatmaps_dir / f"{name}.png", tiles_path, header)
    return SlidePrediction(name, state, reason)
