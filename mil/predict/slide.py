"""One slide: tissue, tiles, features, predictions, heatmap; a fault is its state."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from jaxtyping import Bool, Float

from mil.config import FeaturesConfig, HeatmapConfig, TileConfig
from mil.encoders.runner import BatchedEncoder, extraction_settings, state_after_reading
from mil.errors import FormatError, ReadingError, SlideError
from mil.features.extract import encoded_batches
from mil.features.stain import normalised, stain_facts, stain_for, with_stain
from mil.heatmap.sheet import draw_sheet, sheet_path
from mil.heatmap.stage import draw_bundle, draw_state, title_of
from mil.io.bags import Bag, BagHeader, bag_of, write_bag
from mil.io.bags.stain import SlideStain
from mil.io.scores import HeadScores
from mil.io.slides import TileRequest
from mil.io.tiles import Tiles, read_tiles
from mil.predict.curve import Cells, Curve
from mil.predict.ensemble import Ensemble
from mil.predict.running import Running
from mil.progress import progress
from mil.tile.stage import ignore
from mil.tile.stage import run as tile
from mil.trained.evidence import evidence_of, remover_of
from mil.trained.forward import forward, tensors_of


@dataclass(frozen=True)
class SlidePrediction:
    """Predictions of a slide, or the state that it ended in.

    Attributes:
        slide: Id of the slide.
        state: Named state.
        reason: Reason of the state.
        tiles: Number of tiles that could be read.
        predictions: Predictions of each head, in the order of the task's columns; empty
            unless the state is `ok`.
        tiles_per_s: Tiles read and embedded a second.
        curve: Predictions after every share of the tiles, if asked for.
    """

    slide: str
    state: str = "not reached"
    reason: str = ""
    tiles: int = 0
    predictions: list[Float[np.ndarray, " columns"]] = field(default_factory=list)
    tiles_per_s: float = 0.0
    curve: Curve | None = None


@dataclass(frozen=True)
class PredictionSettings:
    """Settings of a prediction; a folder that is None is not written."""

    tile: TileConfig
    features: FeaturesConfig
    heatmap: HeatmapConfig
    mpp: float | None
    threads: int
    heatmaps_dir: Path | None
    bags_dir: Path | None
    scene: str = ""
    curve: bool = False
    say: Callable[[str], object] = ignore


@dataclass(frozen=True)
class _EmbeddedSlide:
    """A slide after its tiles were read: state, validity, and features or scores."""

    state: str
    reason: str
    valid: Bool[np.ndarray, " tiles"]
    # None where no features were kept: then `running` has the scores.
    features: Float[np.ndarray, "tiles dim"] | None
    running: Running | None
    # None where no curve was asked for.
    cells: Cells | None
    # None where stains are not normalised.
    stain: SlideStain | None


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
        settings: PredictionSettings of the prediction.

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
    embedded = _embed(slide, tiles, ensemble, runner, settings)
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


def _scores(bag: Bag, embedded: _EmbeddedSlide, ensemble: Ensemble) -> list[HeadScores]:
    """Scores by each head: of the whole bag, or put together while tiles were read."""
    if embedded.running is not None:
        return embedded.running.conclude()
    tensors = tensors_of(bag)
    return [forward(head, trained, tensors) for head, trained in ensemble.models]


def _with_evidence(
    scores: Sequence[HeadScores], bag: Bag, embedded: _EmbeddedSlide, ensemble: Ensemble
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


def _embed(
    slide: Path,
    tiles: Tiles,
    ensemble: Ensemble,
    runner: BatchedEncoder,
    settings: PredictionSettings,
) -> _EmbeddedSlide:
    """Read all tiles; heads that stream see each batch as it comes."""
    geometry = tiles.geometry
    count = len(tiles.coords)
    dtype = settings.features.dtype
    max_corrupt = settings.features.max_corrupt
    running = Running(ensemble.models, count) if ensemble.streams else None
    cells = Cells(ensemble.models, count) if settings.curve else None
    # Memory grows with the slide only where features are kept: 2 bytes a feature and
    # tile, 26 MB for 10 000 tiles of `efficientnet_lite0`.
    keeps_features = settings.bags_dir is not None or running is None
    features = np.zeros((count, runner.dim), dtype) if keeps_features else None
    valid = np.zeros(count, bool)
    tried = 0
    # A generator holds worker threads, which an error must not leave behind.
    request = TileRequest(
        slide, tiles.coords, geometry.side_level0_px, geometry.tile_px, geometry.scene
    )
    extraction = extraction_settings(
        [runner], count, max_corrupt=max_corrupt, threads=settings.threads
    )
    stain = stain_for(settings.features, request, threads=settings.threads)
    batches = encoded_batches(request, normalised([runner], stain), extraction)
    with progress(f"predict {geometry.slide}", count, "tiles") as advance, closing(batches):
        for batch in batches:
            # Rounded as a bag would hold them, so that streaming changes no prediction.
            with np.errstate(over="ignore"):
                rounded = batch.features[0].astype(dtype)
            if not np.isfinite(rounded).all():
                raise FormatError(
                    f"{geometry.slide}: {runner.encoder.name} gives features that are not finite "
                    f"in {dtype}; set features.dtype: float32 or features.precision: fp32 in "
                    "configs/config.yaml"
                )
            valid[batch.rows] = batch.readable
            tried = batch.rows.stop
            if features is not None:
                features[batch.rows][batch.readable] = rounded
            if running is not None:
                running.add(rounded)
            if cells is not None:
                numbers = np.arange(batch.rows.start, batch.rows.stop)
                cells.add(numbers[batch.readable], rounded)
            advance(len(batch.readable), running.estimate() if running else "")
    state, reason = state_after_reading(valid, tried, max_corrupt)
    return _EmbeddedSlide(state, with_stain(reason, stain), valid, features, running, cells, stain)


def _bag(
    tiles: Tiles,
    embedded: _EmbeddedSlide,
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
