"""The study that a file lies in, by the folders of its path."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mil.config import DatasetConfig
from mil.errors import ConfigError, DatasetError, FormatError
from mil.io.tables import Slide, read_dataset, valid_id
from mil.io.tables.parts import part_of
from mil.io.tables.paths import locate

# Folders of a path after the stage: tiling, encoder, head.
DEPTH = {
    "tile": 1,
    "features": 2,
    "split": 2,
    "train": 3,
    "score": 3,
    # Of a slide encoder in place of a head.
    "embed": 3,
    "evaluate": 3,
    "heatmap": 3,
}
# Folder that commands write to.
AGAIN = "again"
MOST_PARTS = 1 << 22


@dataclass(frozen=True)
class Study:
    """Where a file's neighbours are: `ROOT/STAGE/TILING/ENCODER/HEAD/NAME`.

    Attributes:
        root: Folder of the dataset's results.
        tiling: Name of the tiling.
        encoder: Name of the encoder; empty for tiles.
        head: Name of the recipe, or of the slide encoder; empty before training.
        dataset: Name of the dataset, or path of its yaml.
        slides: Folder of the slides; None: that of the dataset.
    """

    root: Path
    tiling: str
    encoder: str
    head: str
    dataset: str
    slides: Path | None = None

    def folder(self, stage: str) -> Path:
        """Folder of a stage's files."""
        parts = (self.tiling, self.encoder, self.head)[: DEPTH[stage]]
        return self.root.joinpath(stage, *parts)

    @cached_property
    def table(self) -> tuple[DatasetConfig, list[Slide]] | None:
        """Dataset and slide table; None where they are not here."""
        try:
            config, slides = read_dataset(self.dataset)
        except (ConfigError, DatasetError, FormatError, OSError):
            return None
        return config, list(slides)

    def row(self, slide: str) -> Slide | None:
        """Row of a slide in the table."""
        rows = [] if self.table is None else self.table[1]
        return next((row for row in rows if row.slide == slide), None)

    @property
    def slides_dir(self) -> Path | None:
        """Folder of the slides; None where the dataset is not here."""
        if self.slides is not None or self.table is None:
            return self.slides
        return self.table[0].folder(self.dataset)

    def slide_file(self, slide: str) -> Path | None:
        """File of a slide, whether it exists or not; None where the table does not tell."""
        row = self.row(slide)
        folder = self.slides_dir
        if row is None or folder is None or self.table is None:
            return None
        return locate(row, folder, self.table[0])

    def folds_files(self) -> list[Path]:
        """Files of folds, by name."""
        return sorted(self.folder("split").glob("folds*.csv"))

    def options(self, slide: str = "") -> list[str]:
        """Options of the dataset, and of the part that holds a slide alone."""
        words = ["--dataset", self.dataset]
        if not slide or self.table is None:
            return words
        return [*words, "--part", _part_alone(slide, [row.slide for row in self.table[1]])]

    def slides_option(self) -> list[str]:
        """Option of the folder of the slides."""
        folder = self.slides_dir
        return [] if folder is None else ["--slides-dir", str(folder)]


def study_of(path: Path, *, dataset: str = "", slides: Path | None = None) -> Study | None:
    """The study of a file or folder by its path; None where it lies in none.

    Args:
        path: File or folder, whether it exists or not.
        dataset: Dataset; empty: the name of the study's folder.
        slides: Folder of the slides; None: that of the dataset.
    """
    for root, stage, names in _stages(path):
        depth = DEPTH[stage]
        # Of a head's folder one name more belongs to the place.
        if len(names) < depth:
            continue
        tiling, encoder, head = [*names[:depth], "", "", ""][:3]
        name = dataset or root.name
        if valid_id(root.name) or dataset:
            return Study(root, tiling, encoder, head, name, slides)
    return None


def _stages(path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """Each folder above that has the name of a stage, from below, with the names under it."""
    parts = path.parts
    for place in range(len(parts) - 2, 0, -1):
        if parts[place] in DEPTH:
            yield Path(*parts[:place]), parts[place], list(parts[place + 1 :])


def _part_alone(slide: str, slides: Sequence[str]) -> str:
    """Coarsest part of the dataset that holds no other slide."""
    parts = 1
    others = [other for other in slides if other != slide]
    while others and parts < MOST_PARTS:
        # Parts of a finer division lie within those of a coarser one.
        parts *= 2
        part = part_of(slide, parts)
        others = [other for other in others if part_of(other, parts) == part]
    return part_of(slide, parts).name
