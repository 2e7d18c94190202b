"""Slides and a folder of heads in; predictions.csv and heatmaps out."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mil.config import Config, checked, config_path, read_yaml
from mil.encoders.runner import BatchedEncoder
from mil.errors import ConfigError, DatasetError, FormatError, some
from mil.heatmap.attach import SCRIPT, write_script
from mil.io.tables import id_of, read_csv, write_csv
from mil.predict import messages
from mil.predict.curve import rows_of, settled_cells
from mil.predict.ensemble import Ensemble, features_for, load_ensemble, runners_of
from mil.predict.joined import predict_joined
from mil.predict.result import SlidePrediction
from mil.predict.settings import PredictionSettings
from mil.predict.slide import predict
from mil.predict.table import Row, row_of
from mil.statistics.text import calibration_note

TABLE = "predictions.csv"
CURVES = "curve"


def run(
    slides: Sequence[Path],
    folder: Path,
    out: Path,
    *,
    mpp: float | None,
    threads: int,
    device: str,
    heatmaps: bool,
    keep_bags: Path | None,
    scene: str = "",
    curve: bool = False,
    say: Callable[[str], object],
) -> list[SlidePrediction]:
    """Predict new slides with a trained head, or with all heads of a folder.

    Tiles and features are computed as `mil tile` and `mil features` do with the settings
    of configs/config.yaml; size and scale of a tile, and the encoder, are the head's. A
    fault of a slide is its state.

    Args:
        slides: Slide files; a slide's id is its file's name without the ending.
        folder: Folder of a head, or one that holds several of one recipe: predictions and
            attention are then their mean.
        out: Folder for predictions.csv, written anew after each slide, for the pictures in
            `heatmap/` and the curves in `curve/`.
        mpp: Pixel size of level 0 of all slides, micrometres; None: as each slide states.
        threads: Number of CPU threads.
        device: Device of the encoder: `cpu`, `cuda`, or `auto`.
        heatmaps: Whether to draw heatmaps.
        keep_bags: Folder for the slides' bags; None: bags are not kept.
        scene: Name or number of the image to read in files of several images; empty:
            the largest that is neither a label nor an overview.
        curve: Whether to write the prediction after every share of the tiles to `curve/`.
        say: Function that is called with each line for the user.

    Returns:
        Predictions, or the state, of each slide.

    Raises:
        MilError: the head, its encoder or the slides' names cannot be used, or the head
            has no curve; nothing is written.
    """
    names = _names(slides)
    # Before heads and encoder are loaded, so that the error comes at once.
    _check_nothing_lost(out / TABLE, names)
    config_file = config_path("config.yaml")
    config = checked(Config, read_yaml(config_file), str(config_file))
    ensemble = load_ensemble(folder)
    if curve:
        _check_curve(ensemble, folder)
    features = features_for(ensemble, folder, config.features)
    runners = runners_of(ensemble, folder, features, device)
    for line in _remarks(ensemble, config.features.dtype):
        say(line)
    # A head does not store the settings of tissue: they are those of this
    # configuration, and its model card states the study's.
    settings = PredictionSettings(
        tile=config.tile,
        features=features,
        heatmap=config.heatmap,
        mpp=mpp,
        threads=threads,
        heatmaps_dir=out / "heatmap" if heatmaps else None,
        bags_dir=keep_bags,
        scene=scene,
        curve=curve,
        say=say,
    )
    if heatmaps:
        write_script(out / "heatmap" / SCRIPT)
    # Slides that are still to come are in the table too, as `not reached`, so that an
    # interrupted run shows what is missing.
    predictions = [SlidePrediction(name) for name in names]
    for number, (slide, name) in enumerate(zip(slides, names, strict=True)):
        prediction = _predict(slide, name, ensemble, runners, settings)
        predictions[number] = prediction
        # After each slide, so that an interrupted run keeps what it has.
        write_csv(out / TABLE, [_row(each, ensemble, curve) for each in predictions])
        say(messages.done(prediction, ensemble))
        if prediction.curve is not None:
            file = out / CURVES / f"{name}.csv"
            write_csv(file, rows_of(prediction.curve, ensemble.trained.task.columns))
            say(messages.curve(name, prediction.curve, file))
    return predictions


def _check_curve(ensemble: Ensemble, folder: Path) -> None:
    if not ensemble.streams:
        raise ConfigError(f"{folder}: {messages.no_curve(ensemble.trained)}")
    if ensemble.joined:
        raise ConfigError(f"{folder}: {messages.NO_CURVE_OF_JOINED}")


def _predict(
    slide: Path,
    name: str,
    ensemble: Ensemble,
    runners: Sequence[BatchedEncoder],
    settings: PredictionSettings,
) -> SlidePrediction:
    try:
        if ensemble.joined:
            return predict_joined(slide, name, ensemble, runners, settings)
        return predict(slide, name, ensemble, runners[0], settings)
    # Features that overflow, for instance: a fault of this slide, which must not stop
    # the others.
    except FormatError as error:
        return SlidePrediction(name, "failed", str(error))


def _row(prediction: SlidePrediction, ensemble: Ensemble, curve: bool) -> Row:
    """Row of a slide, with the columns of its curve if curves were asked for."""
    row = row_of(prediction, ensemble)
    return row | settled_cells(prediction.curve) if curve else row


def _remarks(ensemble: Ensemble, dtype: str) -> Iterator[str]:
    """Lines about the heads, before the first slide."""
    recipe = ensemble.trained.recipe_name
    if len(ensemble.models) > 1:
        seeds_and_folds = [(trained.seed, trained.fold) for _, trained in ensemble.models]
        yield f"{recipe}: ensemble of {messages.heads(seeds_and_folds)}"
    if len(ensemble.divisions) > 1:
        yield f"{recipe}: {messages.several_divisions(ensemble.divisions)}"
    if ensemble.trained.fusion == "early":
        yield f"{recipe}: {messages.EARLY}"
    if ensemble.trained.stain_norm:
        yield f"{recipe}: stains are normalised ({ensemble.trained.stain_norm}), as in its bags"
    if ensemble.joined:
        yield f"{recipe}: {messages.joined(len(ensemble.encoders))}"
    elif not ensemble.streams:
        yield messages.whole_bag(ensemble.trained, dtype)
    if ensemble.trained.task.one_of_classes:
        note = calibration_note([trained.calibration for trained in ensemble.records])
        if note:
            yield f"{recipe}: {note[0].lower()}{note[1:-1]}"


def _check_nothing_lost(path: Path, names: Sequence[str]) -> None:
    """Refuse to overwrite the predictions of other slides, or another table.

    Raises:
        DatasetError: predictions would be lost.
        FormatError: the file cannot be read.
    """
    if path.exists():
        others = [row.get("slide", "?") for row in read_csv(path) if row.get("slide") not in names]
        if others:
            raise DatasetError(
                f"{path}: has predictions of slides that are not among these ({some(others)}), "
                "which would be lost; give another --out, or remove it"
            )


def _names(slides: Sequence[Path]) -> list[str]:
    """Ids of slides, after the names of their files.

    Raises:
        DatasetError: two have the same.
    """
    by_name: dict[str, Path] = {}
    names = [id_of(slide) for slide in slides]
    for slide, name in zip(slides, names, strict=True):
        # Some file systems do not tell capitals from small letters.
        other = by_name.setdefault(name.lower(), slide)
        if other is not slide:
            raise DatasetError(
                f"{slide}: has the id {name} of {other}, and so would its files; rename one, or "
                "give each its own --out"
            )
    return names
