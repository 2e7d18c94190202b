"""What a run is made of and where it lies, known before anything runs: no torch, no slide is opened."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mil.config import (
    Config,
    DatasetConfig,
    EncoderConfig,
    dataset_path,
    load_config,
    load_encoders,
    tiling_name,
)
from mil.errors import DatasetError
from mil.io import tables
from mil.io.tables import paths as places
from mil.io.tables.checks import check_enough, check_labels
from mil.io.tables.missing import missing_bags_message, missing_message
from mil.io.tables.predefined import number_of_folds
from mil.io.tables.splits import split_files
from mil.plan.existing import check_encoder, made_together

# How a tiling's folder may be named, as a pattern.
TILING = r"(?:[0-9]+|unknown)px_(?:[0-9.e+-]+|unknown)mpp"


@dataclass(frozen=True)
class Plan:
    """A checked run.

    Attributes:
        config: what the user set; `folds` also where `split.file` or `split.by` say how
            many.
        dataset: the dataset's yaml.
        slides: the rows of its table, by slide.
        slides_dir: where the slides and all that belongs to them are.
        encoders: the entries of configs/encoders.yaml.
        annotations: the annotation of each slide that has one.
        tilings: of each encoder of the run, the folder name of its tiles.
        files: the file of each slide, there or not; of a run on ready bags, those that
            are there.
        missing: slides whose file (or ready bag) is not there and cannot be fetched;
            the run goes on without them.
        masks: what users drew, by slide and kind; see
            `mil.io.tables.paths.locate_masks`.
    """

    config: Config
    dataset: DatasetConfig
    slides: Mapping[str, tables.Slide]
    slides_dir: Path
    encoders: Mapping[str, EncoderConfig]
    annotations: Mapping[str, Path]
    tilings: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    missing: Mapping[str, Path] = field(default_factory=dict)
    masks: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)

    @property
    def table(self) -> Path:
        """The slide table's file."""
        return dataset_path(self.config.dataset).with_suffix(".csv")

    @property
    def ready(self) -> Path | None:
        """The folder of ready bags; None: the bags are made from slides."""
        return None if self.config.bags is None else Path(self.config.bags)

    @cached_property
    def ready_bags(self) -> dict[str, str]:
        """The ready bag of each slide that has one."""
        folder = self.ready
        return (
            {name: str(folder / f"{name}.h5") for name in self.slides if name not in self.missing}
            if folder
            else {}
        )

    @property
    def bags_dirs(self) -> dict[str, Path]:
        """Folder of the bags of each encoder of a run on slides."""
        results = Path("results") / self.config.dataset / "features"
        return {encoder: results / tiling / encoder for encoder, tiling in self.tilings.items()}

    @property
    def together(self) -> dict[tuple[str, ...], list[str]]:
        """Slides by the encoders whose bags are made of them from one reading; see `mil.plan.existing.made_together`."""
        return {} if self.ready else made_together(self.bags_dirs, list(self.slides), self.tilings)

    @property
    def drawn(self) -> list[str]:
        """Slides that get heatmaps."""
        wanted = [
            name
            for name, row in self.slides.items()
            if self.config.heatmap.slides == "all" or row.split == "test"
        ]
        return [name for name in wanted if self.ready is None or name not in self.missing]

    @property
    def split_flags(self) -> str:
        """How the patients are divided, as flags."""
        split = self.config.split
        chosen = [
            f"--{name} {shlex.quote(value)}"
            for name in ("file", "by")
            if (value := getattr(split, name))
        ]
        shares = (
            f"--seed {split.seed} --val-share {split.val_share} --test-share {split.test_share}"
        )
        return " ".join([shares, f"--fusion {self.config.fusion}", *chosen])

    @property
    def split_files(self) -> list[str]:
        """The files of splits that the run takes; none where the patients are divided here."""
        return (
            []
            if self.config.split.file is None
            else [str(file) for file in split_files(Path(self.config.split.file))]
        )

    @property
    def fetchable(self) -> dict[str, tuple[str, str]]:
        """Files that `fetch` can bring; see `mil.io.tables.paths.fetchable`."""
        return places.fetchable(list(self.slides.values())) if self.ready is None else {}

    @property
    def states(self) -> str:
        """Where the states of all slides are, as flags: a pair of folders for each encoder, or that of ready bags."""
        if self.ready:
            return f"--bags {shlex.quote(str(self.ready))}"
        results = f"results/{self.config.dataset}"
        pairs = [
            f"--tiles {results}/tile/{tiling} --bags {results}/features/{tiling}/{encoder}"
            for encoder, tiling in self.tilings.items()
        ]
        return " ".join(pairs)

    def of_each_head(self, pattern: str) -> list[str]:
        """A path for each encoder and head of the run.

        Args:
            pattern: holds `{dataset}`, `{tiling}`, `{encoder}` and `{head}`.
        """
        return [
            pattern.format(dataset=self.config.dataset, tiling=tiling, encoder=encoder, head=head)
            for encoder, tiling in self.tilings.items()
            for head in self.config.head
        ]

    def mask_flags(self, slide: str) -> str:
        """A slide's own masks, and what their GeoJSON counts from; nothing when it has none."""
        flags = [
            f"--{kind} {shlex.quote(str(file))}" for kind, file in self.masks.get(slide, {}).items()
        ]
        return " ".join([*flags, self._frame]) if flags else ""

    def annotation_flags(self, slide: str) -> str:
        """A slide's annotation, and what its GeoJSON counts from; nothing when it has none."""
        file = self.annotations.get(slide)
        return f"--annotation {shlex.quote(str(file))} {self._frame}" if file else ""

    @property
    def _frame(self) -> str:
        return f"--geojson-frame {self.dataset.geojson_frame}"


def make_plan(raw: dict[str, Any]) -> Plan:
    """Check a run's configuration and its slide table, and find the files that it starts from.

    Args:
        raw: the configuration, as a mapping read from YAML.

    Raises:
        MilError: a setting or the table is wrong, or slides are missing and the run may
            not go on without them.
    """
    config = load_config(raw)
    dataset, table = tables.read_dataset(config.dataset)
    config = _with_folds(config, dataset, table)
    slides_dir = Path(config.slides_dir or dataset.slides_dir or f"data/{config.dataset}")
    annotations = {row.slide: places.locate_annotation(row, slides_dir, dataset) for row in table}
    plan = Plan(
        config=config,
        dataset=dataset,
        slides={row.slide: row for row in table},
        slides_dir=slides_dir,
        encoders=load_encoders(),
        annotations={slide: file for slide, file in annotations.items() if file is not None},
    )
    return (
        _from_slides(plan, table)
        if config.bags is None
        else _from_bags(plan, table, Path(config.bags))
    )


def _with_folds(config: Config, dataset: DatasetConfig, table: Sequence[tables.Slide]) -> Config:
    """The configuration with as many folds as there will be, so that paths can say it."""
    check_labels(table, early=config.fusion == "early")
    if "{" in (config.split.file or ""):
        raise DatasetError(
            f"split.file: {config.split.file}: the workflow takes {{ }} in a path for wildcards; "
            "rename it"
        )
    folds = number_of_folds(config.split, config.folds, table, allow_missing=config.allow_missing)
    if config.split.file is None and config.split.by is None:
        from mil.tasks import task_of  # it imports numpy

        check_enough(table, folds, every_label=task_of(dataset).every_label)
    return config.model_copy(update={"folds": folds})


def _from_slides(plan: Plan, table: Sequence[tables.Slide]) -> Plan:
    config = plan.config
    dataset = plan.dataset
    slides_dir = plan.slides_dir
    files = {row.slide: places.locate(row, slides_dir, dataset) for row in table}
    masks = places.locate_masks(table, slides_dir, dataset)
    missing = {
        row.slide: files[row.slide]
        for row in table
        if not row.url and not files[row.slide].exists()
    }
    if missing and not config.allow_missing:
        raise DatasetError(
            missing_message(config.dataset, dataset, list(missing.items()), len(table), slides_dir)
        )
    tilings = {name: _tiling(config, plan.encoders[name]) for name in config.encoder}
    made = replace(plan, files=files, masks=masks, missing=missing, tilings=tilings)
    for name, folder in made.bags_dirs.items():
        check_encoder(folder, name, plan.encoders[name])
    return made


def _from_bags(plan: Plan, table: Sequence[tables.Slide], folder: Path) -> Plan:
    """A run on ready bags: their encoder and tiling are what the first one says, slides and annotations are a bonus."""
    from mil.io.bags.folder import (
        kind_of_bags,
        slides_with_bags,
    )  # here, for a run on slides needs no HDF5

    if "{" in str(folder):
        raise DatasetError(
            f"bags: {folder}: the workflow takes {{ }} in a path for wildcards; rename the folder"
        )
    there = slides_with_bags(folder)
    known = set(there).intersection(plan.slides)
    missing = {row.slide: folder / f"{row.slide}.h5" for row in table if row.slide not in known}
    if missing and not (known and plan.config.allow_missing):
        others = [name for name in there if name not in known]
        raise DatasetError(
            missing_bags_message(plan.config.dataset, list(missing.items()), len(table), others)
        )
    header = kind_of_bags(folder / f"{next(name for name in plan.slides if name in known)}.h5")
    annotations = {name: file for name, file in plan.annotations.items() if file.exists()}
    tried = table if plan.slides_dir.is_dir() else []
    files = {row.slide: places.locate(row, plan.slides_dir, plan.dataset) for row in tried}
    return replace(
        plan,
        tilings={header.encoder: header.tiling},
        missing=missing,
        annotations=annotations,
        files={name: file for name, file in files.items() if file.exists()},
    )


def _tiling(config: Config, entry: EncoderConfig) -> str:
    """Folder name of the tiles an encoder gets: what it asks for, unless the config says otherwise."""
    return tiling_name(config.tile.size_px or entry.tile_px, config.tile.mpp or entry.mpp)


def size_flags(tiling: str) -> str:
    """Side (pixels) and resolution (µm per pixel) of a tile, read from the folder's name."""
    size_px, target_mpp = tiling.removesuffix("mpp").split("px_")
    return f"--size-px {size_px} --target-mpp {target_mpp}"
