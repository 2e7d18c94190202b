"""Folder of a study: its heads, its dataset, and where the files of each slide lie."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mil.config import NAME, DatasetConfig
from mil.errors import ConfigError, MilError, some
from mil.io.h5 import stored_format
from mil.io.results import METRICS, Metrics, Prediction, read_evaluation
from mil.io.tables import Slide, read_dataset
from mil.io.tables.conventions import SUFFIXES
from mil.io.tables.ids import id_of
from mil.io.tables.paths import locate, locate_annotation
from mil.io.vectors import FORMAT as VECTORS

# Folders of files by TILING/ENCODER/HEAD.
BY_HEAD = ("score", "evaluate")


@dataclass(frozen=True, eq=False)
class HeadFolder:
    """One recipe on one encoder: the folder of its score files, and its evaluation.

    Attributes:
        tiling: Name of the tiling.
        encoder: Name of the encoder.
        recipe: Name of the recipe.
        scores: Folder of the score files; it need not exist.
        metrics: Content of metrics.json; None: not evaluated.
        predictions: Rows of predictions.csv; empty: not evaluated.
    """

    tiling: str
    encoder: str
    recipe: str
    scores: Path
    metrics: Metrics | None = None
    predictions: Sequence[Prediction] = ()

    @property
    def is_early(self) -> bool:
        """Whether its predictions are of patients, all slides of one in one bag."""
        return self.metrics is not None and self.metrics.fusion == "early"


@dataclass(frozen=True, eq=False)
class Study:
    """A study's folder, `results/DATASET`.

    Attributes:
        folder: The folder.
        heads: Recipes and encoders, in order of their names.
        config: The dataset's yaml; None: not on this machine.
        table: Rows of the slide table, by slide; empty without the yaml.
        slides_dir: Folder of the slides; None: not known.
        bags_dir: Folder of precomputed bags; None: those of the study.
        notes: Sentences on what is not there.
    """

    folder: Path
    heads: Sequence[HeadFolder]
    config: DatasetConfig | None = None
    table: dict[str, Slide] = field(default_factory=dict)
    slides_dir: Path | None = None
    bags_dir: Path | None = None
    notes: Sequence[str] = ()

    @property
    def title(self) -> str:
        """Title of the dataset, or the name of the folder."""
        return (self.config.title if self.config else "") or self.folder.resolve().name

    @property
    def tilings(self) -> list[str]:
        """Names of the tilings, those of the heads first."""
        of_heads = [head.tiling for head in self.heads]
        folders = [path.name for path in sorted(self.folder.glob("tile/*")) if path.is_dir()]
        return list(dict.fromkeys([*of_heads, *folders]))

    def bag_name(self, head: HeadFolder, slide: str) -> str:
        """Name of a slide in the predictions of a head: with early fusion its patient's."""
        if not head.is_early or slide not in self.table:
            return slide
        return self.table[slide].patient

    def tiles_path(self, tiling: str, slide: str) -> Path:
        """Tiles file of a slide, whether it exists or not."""
        return self.folder / "tile" / tiling / f"{slide}.h5"

    def bag_path(self, head: HeadFolder, slide: str) -> Path:
        """Bag of a slide, whether it exists or not."""
        folder = self.bags_dir or self.folder / "features" / head.tiling / head.encoder
        return folder / f"{slide}.h5"

    def slide_file(self, slide: str) -> Path | None:
        """File of a slide on this machine; None where it is not there."""
        if self.slides_dir is None:
            return None
        if slide in self.table and self.config:
            path = locate(self.table[slide], self.slides_dir, self.config)
            return path if path.exists() else None
        return _of_stem(self.slides_dir, slide)

    def annotation_file(self, slide: str) -> Path | None:
        """File of a slide's annotated regions; None where there is none."""
        if self.slides_dir is None or self.config is None or slide not in self.table:
            return None
        path = locate_annotation(self.table[slide], self.slides_dir, self.config)
        return path if path and path.is_file() else None


def _of_stem(folder: Path, slide: str) -> Path | None:
    """Slide file of a folder whose name without its ending is a slide's id."""
    try:
        files = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in SUFFIXES and slide in (path.stem, id_of(path))
        ]
    except OSError:
        return None
    return min(files, default=None)


def find_study(
    results: Path,
    *,
    dataset: str = "",
    slides_dir: Path | None = None,
    bags_dir: Path | None = None,
) -> Study:
    """Read the folder of a study.

    Args:
        results: Folder `results/DATASET`, or a folder that holds one such folder.
        dataset: Name or yaml of the dataset; empty: the dataset that the metrics name, if
            it is on this machine.
        slides_dir: Folder of the slides; None: that of the dataset.
        bags_dir: Folder of precomputed bags; None: that of the dataset, or of the study.

    Raises:
        ConfigError: There is no study in the folder, or `dataset` is not known.
        DatasetError: The slide table cannot be used.
        FormatError: An evaluation is not what `mil evaluate` wrote.
    """
    folder = _study_folder(results)
    heads = [_head(folder, names) for names in _head_names(folder)]
    notes: list[str] = []
    named = dataset or _dataset_of(heads, folder)
    config = None
    table: dict[str, Slide] = {}
    try:
        config, rows = read_dataset(named)
        table = {row.slide: row for row in rows}
    except MilError as error:
        # What was asked for by name must be there; else the results are shown alone.
        if dataset:
            raise
        notes.append(f"The dataset's yaml is not used: {error}")
    if config is not None:
        slides_dir = slides_dir or _slides_folder(config.folder(named), folder)
        if config.bags and bags_dir is None and not (folder / "features").is_dir():
            bags_dir = Path(config.bags)
    return Study(folder, heads, config, table, slides_dir, bags_dir, notes)


def _slides_folder(slides_dir: Path, study: Path) -> Path:
    """Folder of the slides, from here or else from where the study ran."""
    beside = study.resolve().parent.parent / slides_dir
    return beside if not slides_dir.is_dir() and beside.is_dir() else slides_dir


def _study_folder(results: Path) -> Path:
    vectors = results if results.is_file() else next(iter(sorted(results.glob("*.h5"))), results)
    if stored_format(vectors) == VECTORS:
        raise ConfigError(
            f"{results}: holds one vector a slide, of which there is no picture; `mil bags info` "
            "prints one, `mil bags export` makes a table of all; give the folder of a run, "
            "results/DATASET"
        )
    if not results.is_dir():
        raise ConfigError(f"{results}: no such folder; give the folder of a run, results/DATASET")
    if _is_study(results):
        return results
    inner = sorted(path for path in results.iterdir() if path.is_dir() and _is_study(path))
    if len(inner) == 1:
        return inner[0]
    if inner:
        names = some([path.name for path in inner])
        raise ConfigError(f"{results}: holds several studies ({names}); give the folder of one")
    raise ConfigError(
        f"{results}: holds no scores and no metrics of a study; give the folder of a run, "
        "results/DATASET, or run `mil score` and `mil evaluate` first"
    )


def _is_study(folder: Path) -> bool:
    return any((folder / stage).is_dir() for stage in BY_HEAD)


def _head_names(folder: Path) -> list[tuple[str, str, str]]:
    """Tiling, encoder and recipe of each head that was scored or evaluated; drawn ones first."""
    folders = [path for stage in BY_HEAD for path in (folder / stage).glob("*/*/*")]
    names = {path.parts[-3:] for path in folders if path.is_dir()}
    # A baseline has no heatmaps, and is not what is looked at first.
    return sorted(
        ((one, two, three) for one, two, three in names),
        key=lambda of_head: (not folder.joinpath("heatmap", *of_head).is_dir(), of_head),
    )


def _head(folder: Path, names: tuple[str, str, str]) -> HeadFolder:
    scores = folder.joinpath("score", *names)
    evaluated = folder.joinpath("evaluate", *names)
    if not (evaluated / METRICS).is_file():
        return HeadFolder(*names, scores)
    metrics, predictions = read_evaluation(evaluated)
    return HeadFolder(*names, scores, metrics, predictions)


def _dataset_of(heads: Sequence[HeadFolder], folder: Path) -> str:
    """Name of the dataset: a plain name, since a path in the results could lead anywhere."""
    named = next((head.metrics.dataset for head in heads if head.metrics), "")
    return named if re.fullmatch(NAME, named) else folder.resolve().name
