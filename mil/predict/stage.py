"""Slides and a folder of heads in; predictions.csv and a heatmap bundle of each slide out."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mil.config import Config, checked, config_path, read_yaml
from mil.errors import DatasetError, FormatError, some
from mil.io.tables import read_csv, valid_id, write_csv
from mil.predict import words
from mil.predict.ensemble import feeder_of, load_ensemble
from mil.predict.slide import Prediction, Settings, predict
from mil.predict.table import row_of

TABLE = "predictions.csv"


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
    say: Callable[[str], object],
) -> list[Prediction]:
    """Predict new slides with a trained head, or with all heads of a folder.

    Tiles and features are made as `mil tile` and `mil features` make them with the
    settings of configs/config.yaml; size and scale of a tile, and the encoder, are the
    head's. What goes wrong with a slide is its state.

    Args:
        slides: files; a slide's id is its file's name.
        folder: of a head, or one that holds several of one recipe: then answers and
            attention are their mean.
        out: folder for predictions.csv, written anew after each slide, and for the
            pictures in `heatmap/`.
        mpp: pixel size of level 0 of all slides, micrometres; None: what each says
            itself.
        threads: of the CPU.
        device: of the encoder: `cpu`, `cuda`, or `auto`.
        heatmaps: whether to draw.
        keep_bags: a folder for the slides' bags; None: they are not kept.
        say: told a line now and then.

    Returns:
        What became of each slide.

    Raises:
        MilError: the head, its encoder or the slides' names cannot be used; nothing is
            written.
    """
    names = _names(slides)
    _check_nothing_lost(out / TABLE, names)
    settings = config_path("config.yaml")
    config = checked(Config, read_yaml(settings), str(settings))
    ensemble = load_ensemble(folder)
    feeder = feeder_of(ensemble, folder, config.features, device)
    if len(ensemble.models) > 1:
        say(
            f"{ensemble.trained.recipe_name}: mean of "
            f"{words.heads([(t.seed, t.fold) for _, t in ensemble.models])}"
        )
    if len(ensemble.divisions) > 1:
        say(f"{ensemble.trained.recipe_name}: {words.several_divisions(ensemble.divisions)}")
    if ensemble.trained.fusion == "early":
        say(f"{ensemble.trained.recipe_name}: {words.EARLY}")
    if not ensemble.streams:
        say(words.whole_bag(ensemble.trained, config.features.dtype))
    how = Settings(
        tile=config.tile,
        features=config.features,
        heatmap=config.heatmap,
        mpp=mpp,
        threads=threads,
        heatmaps_dir=out / "heatmap" if heatmaps else None,
        bags_dir=keep_bags,
    )
    found = [Prediction(name) for name in names]
    for number, (slide, name) in enumerate(zip(slides, names, strict=True)):
        try:
            found[number] = predict(slide, name, ensemble, feeder, how)
        except FormatError as error:
            found[number] = Prediction(name, "failed", str(error))
        write_csv(out / TABLE, [row_of(one, ensemble) for one in found])
        say(words.done(found[number], ensemble))
    return found


def _check_nothing_lost(path: Path, names: Sequence[str]) -> None:
    """Refuse to write over the answers for other slides, or over another table.

    Raises:
        DatasetError: they would be lost.
        FormatError: the file cannot be read.
    """
    if path.exists():
        others = [row.get("slide", "?") for row in read_csv(path) if row.get("slide") not in names]
        if others:
            raise DatasetError(
                f"{path}: has answers for slides that are not among these ({some(others)}), "
                "which would be lost; give "
                "another --out, or remove it"
            )


def _names(slides: Sequence[Path]) -> list[str]:
    """Ids of slides: the names of their files.

    Raises:
        DatasetError: two have the same, or one cannot name other files.
    """
    seen: dict[str, Path] = {}
    for slide in slides:
        if not valid_id(slide.stem):
            raise DatasetError(
                f"{slide}: its name cannot be that of other files; rename it: letters, digits, _ "
                "and -"
            )
        other = seen.setdefault(slide.stem.lower(), slide)
        if other is not slide:
            raise DatasetError(
                f"{slide}: has the name of {other}, and so would its files; rename one, or give "
                "each its own --out"
            )
    return [slide.stem for slide in slides]
