"""Files and settings of a run, known before it starts: no torch, no slide is opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mil.config import (
    Config,
    DatasetConfig,
    EncoderConfig,
    dataset_path,
)
from mil.config.slide_encoders import stands_on
from mil.io import tables
from mil.io.tables.splits import split_files
from mil.plan import downloads
from mil.plan.existing import BagKind, shared_parts
from mil.plan.heads import damaged_heads
from mil.plan.parts import StageParts

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
    def kinds(self) -> list[BagKind]:
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
