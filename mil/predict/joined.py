"""One slide for heads of joined encoders: tiled and embedded by each, joined, predicted."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from mil.config import EncoderConfig, FeaturesConfig
from mil.config.joined import TiledEncoder
from mil.encoders.runner import BatchedEncoder
from mil.errors import ReadingError, SlideError
from mil.features.stage import Target
from mil.features.stage import run as embed
from mil.io.bags import Bag, read_bag, write_bag
from mil.io.bags.join import join_bags
from mil.predict.drawing import draw_slide, failed_slide, unread_slide
from mil.predict.ensemble import Ensemble
from mil.predict.result import SlidePrediction
from mil.predict.scoring import scores_of_bag, with_evidence
from mil.predict.settings import PredictionSettings
from mil.tile.stage import run as tile
from mil.trained.forward import tensors_of


def predict_joined(
    slide: Path,
    name: str,
    ensemble: Ensemble,
    runners: Sequence[BatchedEncoder],
    settings: PredictionSettings,
) -> SlidePrediction:
    """Predict one slide by heads that were trained on features of joined encoders.

    Args:
        slide: Slide file.
        name: Id of the slide, by which its files are called.
        ensemble: Heads of one recipe.
        runners: Joined encoders, in the order of `ensemble.encoders`.
        settings: Settings of the prediction.

    Raises:
        ConfigError: the memory of an encoder does not hold a tile.
        FormatError: features are not finite, or bags cannot be joined.
    """
    with TemporaryDirectory(prefix="mil-predict-") as scratch:
        folders = [Path(scratch) / str(number) for number in range(len(runners))]
        # Tiles of the bag, which pictures show.
        tiles_path = folders[0] / "tiles" / f"{name}.h5"
        began = perf_counter()
        try:
            paths = [
                _embedded(slide, name, folder, encoder, runner, settings)
                for folder, encoder, runner in zip(folders, ensemble.encoders, runners, strict=True)
            ]
        except (SlideError, ReadingError) as error:
            return unread_slide(error, tiles_path, ensemble, settings)
        bag = join_bags([read_bag(path) for path in paths], paths).bag
        tiles_per_s = len(bag.valid) / (perf_counter() - began)
        return _predicted(slide, bag, tiles_path, ensemble, settings, tiles_per_s)


def _predicted(
    slide: Path,
    bag: Bag,
    tiles_path: Path,
    ensemble: Ensemble,
    settings: PredictionSettings,
    tiles_per_s: float,
) -> SlidePrediction:
    """Predictions of a joined bag, with bag and heatmap if they are to be kept."""
    if settings.bags_dir:
        write_bag(settings.bags_dir / f"{bag.slide}.h5", bag)
    if bag.state != "ok":
        return failed_slide(bag.state, bag.reason, tiles_path, ensemble, settings, bag_written=True)
    tensors = tensors_of(bag)
    scores = scores_of_bag(tensors, ensemble)
    if settings.heatmaps_dir:
        scores = with_evidence(scores, tensors, ensemble)
        draw_slide(slide, bag, scores, tiles_path, ensemble, settings.heatmaps_dir, settings)
    return SlidePrediction(
        slide=bag.slide,
        state="ok",
        reason=bag.reason,
        tiles=int(bag.valid.sum()),
        predictions=[head.predictions for head in scores],
        tiles_per_s=tiles_per_s,
    )


def _embedded(
    slide: Path,
    name: str,
    folder: Path,
    encoder: TiledEncoder,
    runner: BatchedEncoder,
    settings: PredictionSettings,
) -> Path:
    """Bag of a slide by one of the encoders, below a folder; empty where it has no tiles."""
    tiles_path = folder / "tiles" / f"{name}.h5"
    bag_path = folder / f"{name}.h5"
    tile(
        slide,
        name,
        tiles_path,
        tile_px=encoder.tile_px,
        target_mpp=encoder.mpp,
        mpp=settings.mpp,
        config=settings.tile,
        scene=settings.scene,
        say=settings.say,
    )

    def built(*_: str | EncoderConfig | int | FeaturesConfig) -> BatchedEncoder:
        return runner

    embed(
        slide,
        tiles_path,
        [Target(encoder.name, encoder.entry, bag_path)],
        config=settings.features,
        threads=settings.threads,
        device="auto",
        build=built,
    )
    return bag_path
