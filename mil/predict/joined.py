"""One slide for heads of joined encoders: tiled and embedded by each, joined, predicted."""

from collections.abc import Sequence
from dataclasses import replace
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
from mil.io.scores import HeadScores
from mil.predict.drawing import draw_slide, failed_slide
from mil.predict.ensemble import Ensemble
from mil.predict.result import SlidePrediction
from mil.predict.settings import PredictionSettings
from mil.tile.stage import run as tile
from mil.trained.evidence import evidence_of, remover_of
from mil.trained.forward import forward, tensors_of


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
        # Nothing is run again here, and one slide must not stop the others.
        except (SlideError, ReadingError) as error:
            state = getattr(error, "state", "unreadable")
            reason = error.reason if isinstance(error, SlideError) else str(error)
            return failed_slide(state, reason, tiles_path, ensemble, settings)
        bag = join_bags([read_bag(path) for path in paths], paths).bag
        seconds = perf_counter() - began
        if settings.bags_dir:
            write_bag(settings.bags_dir / f"{name}.h5", bag)
        if bag.state != "ok":
            return failed_slide(
                bag.state, bag.reason, tiles_path, ensemble, settings, bag_written=True
            )
        scores = _scores(bag, ensemble, with_evidence=settings.heatmaps_dir is not None)
        if settings.heatmaps_dir:
            folder = settings.heatmaps_dir
            draw_slide(slide, bag, scores, tiles_path, ensemble, folder, settings)
        return SlidePrediction(
            name,
            "ok",
            bag.reason,
            int(bag.valid.sum()),
            [head.predictions for head in scores],
            len(bag.valid) / seconds,
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


def _scores(bag: Bag, ensemble: Ensemble, *, with_evidence: bool) -> list[HeadScores]:
    """Scores of a bag by each head, with the evidence of each tile if it is to be drawn."""
    tensors = tensors_of(bag)
    scores = [forward(head, trained, tensors) for head, trained in ensemble.models]
    if not with_evidence:
        return scores
    complete = []
    for (head, _), of_head in zip(ensemble.models, scores, strict=True):
        _, evidence = evidence_of(head, remover_of(head), tensors)
        complete.append(replace(of_head, evidence=evidence))
    return complete
