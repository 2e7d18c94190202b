"""Files and settings of a run, known before it starts: no torch, no slide is opened."""

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
)
from mil.config.joined import tiled_encoders
from mil.config.run import check_finer_maps, check_trainings
from mil.config.slide_encoders import stands_on
from mil.config.slide_encoders_of_run import (
    check_encoders_of_run,
    check_tiles_of_bags,
    check_tiles_of_run,
)
from mil.errors import DatasetError
from mil.io import tables
from mil.io.tables import paths
from mil.io.tables.checks import check_enough, check_labels, of_table
from mil.io.tables.missing import missing_bags_message, missing_message
from mil.io.tables.predefined import number_of_folds
from mil.io.tables.splits import split_files
from mil.io.tables.urls import check_urls
from mil.plan import downloads
from mil.plan.existing import BagKind, check_encoder, shared_parts
from mil.plan.heads import damaged_heads
from mil.plan.parts import Refreshed, StageParts, refresh_tables

# Endings of a slide's outputs in the folder of a stage; of several in brackets, one.
OUTPUTS: dict[str, tuple[str | tuple[str, ...], ...]] = {
    "tile": (".h5", ".geojson", ".jpg"),
    "features": (".h5",),
    # Division and endings of `embed` too.
    "score": (".h5",),
    # The layer of a large slide is packed.
    "heatmap": (".png", (".geojson", ".geojson.gz"), ".csv"),
}
# Ending of a slide's tile sheet, which `mil.heatmap.sheet` draws where the slide is there.
SHEET = ".tiles.jpg"
# Endings of a slide's finer map.
REFINED = (".png", ".csv")
# Pattern of a tiling's folder name; `mil.config.tiling_name` writes it.
TILING = r"(?:[0-9]+|unknown)px_(?:[0-9.e+-]+|unknown)mpp"


@dataclass(frozen=True)
class Plan:
    """A checked run.

    Attributes:
        config: Settings of the user; `folds` also where `split.file` or `split.by` define
            the number.
        dataset: Contents of the dataset's yaml.
        slides: Rows of the slide table, by slide.
        slides_dir: Folder of the slides, their annotations and masks.
        encoders: All entries of configs/encoders.yaml, by name.
        annotations: File of the annotation, by slide; only slides that have one.
        tilings: Folder name of the tiles, by encoder of the run.
        joined: Encoder and tiling of the bags that are joined, by joined encoder of the run.
        files: File of each slide, whether it exists or not; of a run on precomputed bags,
            only existing files.
        missing: Slides whose file (or precomputed bag) does not exist and cannot be
            fetched, with the path; the run continues without them.
        masks: Files of a user's masks, by slide and kind; see
            `mil.io.tables.paths.locate_masks`.
    """

    config: Config
    dataset: DatasetConfig
    slides: Mapping[str, tables.Slide]
    slides_dir: Path
    encoders: Mapping[str, EncoderConfig]
    annotations: Mapping[str, Path]
    tilings: Mapping[str, str] = field(default_factory=dict)
    joined: Mapping[str, Sequence[BagKind]] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    missing: Mapping[str, Path] = field(default_factory=dict)
    masks: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)

    @property
    def table(self) -> Path:
        """File of the slide table."""
        return dataset_path(self.config.dataset).with_suffix(".csv")

    @property
    def precomputed_dir(self) -> Path | None:
        """Folder of precomputed bags; None for a run that computes bags from slides."""
        return None if self.config.bags is None else Path(self.config.bags)

    @cached_property
    def precomputed_bags(self) -> dict[str, str]:
        """Precomputed bag of each slide that has one; empty for a run on slides."""
        folder = self.precomputed_dir
        if folder is None:
            return {}
        return {slide: str(folder / f"{slide}.h5") for slide in self.present_slides}

    @property
    def present_slides(self) -> list[str]:
        """Slides that are not missing."""
        return [slide for slide in self.slides if slide not in self.missing]

    @property
    def extracted(self) -> list[BagKind]:
        """Encoder and tiling of all bags that are made from slides; joined ones are not."""
        kinds = [
            kind
            for encoder, tiling in self.tilings.items()
            for kind in self.joined.get(encoder, [BagKind(encoder, tiling)])
        ]
        return list(dict.fromkeys(kinds))

    @property
    def bags_dirs(self) -> dict[BagKind, Path]:
        """Folder of all bags that are made from slides, by their encoder and tiling."""
        results = Path("results") / self.config.dataset / "features"
        return {kind: results / kind.tiling / kind.encoder for kind in self.extracted}

    @property
    def _kinds(self) -> list[BagKind]:
        """Encoder and tiling of all bags: those made from slides, and those of the run."""
        of_run = [BagKind(encoder, tiling) for encoder, tiling in self.tilings.items()]
        return list(dict.fromkeys([*self.extracted, *of_run]))

    @property
    def shared_parts(self) -> dict[tuple[str, ...], dict[str, list[str]]]:
        """Parts to read once for several encoders; see `existing.shared_parts`."""
        if self.precomputed_dir:
            return {}
        return shared_parts(self.bags_dirs, self.parts("features").names())

    @property
    def heatmap_slides(self) -> list[str]:
        """Slides that get heatmaps."""
        # In a run on slides every slide ends in a named state, and `heatmap` shows that
        # of a missing one; without a precomputed bag there is no state to show.
        slides = self.present_slides if self.precomputed_dir else list(self.slides)
        if self.config.heatmap.slides == "all":
            return slides
        return [slide for slide in slides if self.slides[slide].split == "test"]

    @property
    def sheets(self) -> dict[str, str]:
        """Ending of the tile sheet, by slide that gets one: its file is on the disk.

        A slide that comes back later thus gets its sheet with the next run.
        """
        return dict.fromkeys(self.files_there, SHEET) if self.config.heatmap.sheet else {}

    @cached_property
    def files_there(self) -> set[str]:
        """Slides to draw whose file is on the disk."""
        files = {slide: self.files.get(slide) for slide in self.heatmap_slides}
        return {slide for slide, file in files.items() if file and file.is_file()}

    def parts(self, stage: str) -> StageParts:
        """Division of the slides over the jobs of a stage.

        Args:
            stage: `tile`, `features`, `score` or `heatmap`.
        """
        return self._divisions[stage]

    @cached_property
    def _divisions(self) -> dict[str, StageParts]:
        return {stage: self._divide(stage) for stage in OUTPUTS}

    def _divide(self, stage: str) -> StageParts:
        slides = self.present_slides if self.precomputed_dir else list(self.slides)
        if stage == "heatmap":
            slides = self.heatmap_slides
        return StageParts.of(slides, getattr(self.config.slides_per_job, stage))

    @cached_property
    def members(self) -> dict[str, dict[str, list[str]]]:
        """Slides by stage and name of their part."""
        return {stage: self.parts(stage).members for stage in OUTPUTS}

    def refresh_tables(self) -> Refreshed:
        """Bring the tables of all parts up to date; see `mil.plan.parts.refresh_tables`."""
        results = Path("results") / self.config.dataset
        members = self.members
        stages: list[Refreshed] = []
        for kind in [] if self.precomputed_dir else self._kinds:
            folders = {
                "tile": results / "tile" / kind.tiling,
                "features": results / "features" / kind.tiling / kind.encoder,
            }
            for stage, folder in folders.items():
                refreshed = refresh_tables(folder, members[stage], OUTPUTS[stage])
                # A job that streams writes no table of tiles.
                has_table = stage != "tile" or not self.streaming
                stages.append(refreshed if has_table else Refreshed(refreshed.damaged, []))
        for encoder, tiling in self.tilings.items():
            for slide_encoder in self.slide_encoders_of(encoder):
                vectors = results / "embed" / tiling / encoder / slide_encoder
                stages.append(refresh_tables(vectors, members["score"], OUTPUTS["score"]))
            for head in self.config.head:
                scored = results / "score" / tiling / encoder / head
                stages.append(refresh_tables(scored, members["score"], OUTPUTS["score"]))
                drawn = results / "heatmap" / tiling / encoder / head
                stages.append(
                    refresh_tables(drawn, members["heatmap"], OUTPUTS["heatmap"], self.sheets)
                )
                refined = results / "refine" / tiling / encoder / head
                there = {
                    part: [slide for slide in slides if slide in self.files_there]
                    for part, slides in members["heatmap"].items()
                }
                is_refined = self.config.heatmap.cells_per_tile > 1
                fine = refresh_tables(refined, there, REFINED)
                stages.append(fine if is_refined else Refreshed(fine.damaged, []))
        # Encoders of one tiling share the tiles.
        return Refreshed(
            list(dict.fromkeys(file for stage in stages for file in stage.damaged)),
            list(dict.fromkeys(file for stage in stages for file in stage.incomplete)),
        )

    @property
    def damaged_heads(self) -> list[str]:
        """Files of trained heads that were changed after they were sealed, a line each."""
        results = Path("results") / self.config.dataset / "train"
        folders = [
            results / tiling / encoder / head / f"seed{seed}_fold{fold}of{self.config.folds}"
            for encoder, tiling in self.tilings.items()
            for head in self.config.compared
            for seed in range(1, self.config.seeds + 1)
            for fold in range(self.config.folds)
        ]
        return damaged_heads(folders)

    @property
    def split_files(self) -> list[str]:
        """Files of predefined splits; none where the run divides the patients."""
        file = self.config.split.file
        return [] if file is None else [str(path) for path in split_files(Path(file))]

    @property
    def fetchable(self) -> dict[str, tuple[str, str]]:
        """URL and checksum of each file to fetch, by its path below the slides' folder.

        Of slides that are removed once they are embedded, only their annotations.
        """
        return {} if self.precomputed_dir else downloads.fetchable(self)

    @cached_property
    def streaming(self) -> bool:
        """Whether one job fetches, tiles, embeds and removes each slide; see `downloads`."""
        return not self.precomputed_dir and downloads.is_streaming(self)

    @cached_property
    def unneeded(self) -> set[str]:
        """Slides that are not on the disk and need not be; see `downloads.unneeded`."""
        return downloads.unneeded(self)

    @property
    def slides_to_read(self) -> dict[str, Path]:
        """Files that jobs of a run on slides depend on: those of slides there or to be fetched.

        Of slides that each job fetches itself, only those that are there.
        """
        left_out = {*self.missing, *self.unneeded}
        kept = {name: file for name, file in self.files.items() if name not in left_out}
        return {name: file for name, file in kept.items() if not self.streaming or file.exists()}

    @property
    def downloads(self) -> list[tuple[str, Path, bool]]:
        """URL, file and whether a checksum is known of each file that is still to be fetched."""
        return [] if self.precomputed_dir else downloads.pending(self)

    def for_each_encoder(self, pattern: str) -> list[str]:
        """A path for each encoder of the run; other wildcards stay in it.

        Args:
            pattern: Path with `{dataset}`, `{tiling}` and `{encoder}`.
        """
        return [
            pattern.replace("{dataset}", self.config.dataset)
            .replace("{tiling}", tiling)
            .replace("{encoder}", encoder)
            for encoder, tiling in self.tilings.items()
        ]

    def for_each_head(self, pattern: str) -> list[str]:
        """A path for each encoder and head of the run; other wildcards stay in it.

        Args:
            pattern: Path with `{dataset}`, `{tiling}`, `{encoder}` and `{head}`.
        """
        patterns = self.for_each_encoder(pattern)
        return [path.replace("{head}", head) for path in patterns for head in self.config.head]

    def for_each_compared(self, pattern: str) -> list[str]:
        """A path for each encoder and each recipe that is compared, the baseline among them.

        Args:
            pattern: Path with `{dataset}`, `{tiling}`, `{encoder}` and `{head}`.
        """
        patterns = self.for_each_encoder(pattern)
        names = self.config.compared
        return [path.replace("{head}", name) for path in patterns for name in names]

    def for_each_slide_encoder(self, pattern: str) -> list[str]:
        """A path for each encoder and the slide encoders that take its features.

        Other wildcards stay in it.

        Args:
            pattern: Path with `{dataset}`, `{tiling}`, `{encoder}` and `{slide_encoder}`.
        """
        return [
            path.replace("{slide_encoder}", name)
            for encoder, path in zip(self.tilings, self.for_each_encoder(pattern), strict=True)
            for name in self.slide_encoders_of(encoder)
        ]

    def slide_encoders_of(self, encoder: str) -> list[str]:
        """Slide encoders of the run that take the features of an encoder.

        Args:
            encoder: Name of the encoder of the tiles.
        """
        return [name for name in self.config.slide_encoder if stands_on(name, encoder)]


def make_plan(raw: dict[str, Any]) -> Plan:
    """Check a run's configuration and slide table, and locate the files it starts from.

    Args:
        raw: Configuration, as a mapping read from YAML.

    Raises:
        MilError: A setting or the table is wrong, or slides are missing and the run may
            not continue without them.
    """
    config = load_config(raw)
    dataset, table = tables.read_dataset(config.dataset)
    if config.bags is None and dataset.bags:
        config = config.model_copy(update={"bags": dataset.bags})
    config = _with_folds(config, dataset, table)
    slides_dir = Path(config.slides_dir or dataset.slides_dir or f"data/{config.dataset}")
    if not config.fetch.download:
        table = [_without_urls(row, slides_dir, dataset) for row in table]
    if config.bags is None:
        paths.check_no_braces("slides_dir", slides_dir)
    annotations = {row.slide: paths.locate_annotation(row, slides_dir, dataset) for row in table}
    _check_no_braces(config, "annotation of slide", annotations)
    plan = Plan(
        config=config,
        dataset=dataset,
        slides={row.slide: row for row in table},
        slides_dir=slides_dir,
        encoders=load_encoders(),
        annotations={slide: file for slide, file in annotations.items() if file is not None},
    )
    if config.bags is None:
        return _from_slides(plan, table)
    return _from_bags(plan, table, Path(config.bags))


def _check_no_braces(config: Config, subject: str, files: Mapping[str, Path | None]) -> None:
    """Refuse paths of the table that Snakemake would take for a pattern, by the table's name."""
    with of_table(dataset_path(config.dataset).with_suffix(".csv")):
        for name, file in files.items():
            paths.check_no_braces(f"{subject} {name}", file or "")


def _with_folds(config: Config, dataset: DatasetConfig, table: Sequence[tables.Slide]) -> Config:
    """The configuration with the run's number of folds, which is part of its paths."""
    table_path = dataset_path(config.dataset).with_suffix(".csv")
    with of_table(table_path):
        check_labels(table, early=config.fusion == "early")
    paths.check_no_braces("split.file", config.split.file or "")
    folds = number_of_folds(config.split, config.folds, table, allow_missing=config.allow_missing)
    # Checked here and not only by `split`, which comes after hours of embedding.
    if config.split.file is None and config.split.by is None:
        # Here, because it imports numpy, which a run on predefined splits does without.
        from mil.tasks import task_of

        with of_table(table_path):
            check_enough(
                table,
                folds,
                every_label=task_of(dataset).every_label,
                test_share=config.split.test_share,
            )
    config = config.model_copy(update={"folds": folds})
    check_trainings(config)
    return config


def _without_urls(row: tables.Slide, slides_dir: Path, dataset: DatasetConfig) -> tables.Slide:
    """A row of which only the files that are there count."""
    annotation = paths.locate_annotation(row, slides_dir, dataset)
    is_absent = bool(row.annotation_url and annotation and not annotation.exists())
    named = "" if is_absent else row.annotation
    return replace(row, url="", annotation_url="", annotation=named)


def _from_slides(plan: Plan, table: Sequence[tables.Slide]) -> Plan:
    config = plan.config
    dataset = plan.dataset
    slides_dir = plan.slides_dir
    check_encoders_of_run(config.slide_encoder, config.encoder, "add {encoder} to encoder")
    check_tiles_of_run(config.slide_encoder, config.tile.size_px, config.tile.mpp)
    if not config.trust_urls:
        check_urls(table, dataset_path(config.dataset).parent)
    files = {row.slide: paths.locate(row, slides_dir, dataset) for row in table}
    _check_no_braces(config, "slide", files)
    # A slide with a URL is not missing: the workflow fetches it.
    missing = {
        row.slide: files[row.slide]
        for row in table
        if not row.url and not files[row.slide].exists()
    }
    masks = paths.locate_masks(table, slides_dir, dataset)
    for slide, files_of_slide in masks.items():
        _check_no_braces(config, f"slide {slide}:", files_of_slide)
    if missing and not config.allow_missing:
        raise DatasetError(
            missing_message(config.dataset, dataset, list(missing.items()), len(table), slides_dir)
        )
    tiled = {name: tiled_encoders(name, config.tile, plan.encoders) for name in config.encoder}
    complete = replace(
        plan,
        files=files,
        masks=masks,
        missing=missing,
        # Joined bags have the tiles of the first.
        tilings={name: of_name[0].tiling for name, of_name in tiled.items()},
        joined={
            name: [BagKind(one.name, one.tiling) for one in of_name]
            for name, of_name in tiled.items()
            if len(of_name) > 1
        },
    )
    for kind, folder in complete.bags_dirs.items():
        check_encoder(folder, kind.encoder, plan.encoders[kind.encoder])
    return complete


def _from_bags(plan: Plan, table: Sequence[tables.Slide], folder: Path) -> Plan:
    """A run on precomputed bags.

    Encoder and tiling are those of the first bag; slides and annotations are optional.
    """
    # Here, because a run on slides needs no HDF5.
    from mil.io.bags.folder import kind_of_bags, slides_with_bags

    paths.check_no_braces("bags", folder)
    bags = slides_with_bags(folder)
    with_bag = set(bags).intersection(plan.slides)
    missing = {row.slide: folder / f"{row.slide}.h5" for row in table if row.slide not in with_bag}
    if missing and not (with_bag and plan.config.allow_missing):
        not_in_table = [name for name in bags if name not in with_bag]
        raise DatasetError(
            missing_bags_message(
                plan.config.dataset, list(missing.items()), len(table), not_in_table
            )
        )
    # One bag is opened for all of them; `train` checks that the others agree.
    first = next(slide for slide in plan.slides if slide in with_bag)
    path = folder / f"{first}.h5"
    header = kind_of_bags(path)
    remedy = f"{folder} would have to hold bags by {{encoder}}"
    check_encoders_of_run(plan.config.slide_encoder, [header.encoder], remedy)
    check_tiles_of_bags(plan.config.slide_encoder, path, header.tile_px, header.target_mpp)
    check_finer_maps(plan.config, [header.encoder], "train on bags of one encoder")
    annotations = {slide: file for slide, file in plan.annotations.items() if file.exists()}
    # Slides are optional beside bags, and serve only to be seen under the attention.
    rows = table if plan.slides_dir.is_dir() else []
    files = {row.slide: paths.locate(row, plan.slides_dir, plan.dataset) for row in rows}
    _check_no_braces(plan.config, "slide", files)
    return replace(
        plan,
        tilings={header.encoder: header.tiling},
        missing=missing,
        annotations=annotations,
        files={slide: file for slide, file in files.items() if file.exists()},
    )
