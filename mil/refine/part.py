"""The finer maps of a dataset's part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mil.config import FeaturesConfig
from mil.encoders.runner import BatchedEncoder
from mil.errors import DatasetError, FormatError, SlideError
from mil.heatmap.part import HeatmapFolders, scored_rows, splits_in
from mil.heatmap.render import draw_message
from mil.io.atomic import atomic_path
from mil.io.bags import read_header
from mil.io.digests import statements
from mil.io.part_jobs import Output
from mil.io.provenance import digest_of, file_digest, made_from
from mil.io.tables import read_dataset, write_csv
from mil.io.tables.parts import Part
from mil.io.tables.paths import locate
from mil.predict.ensemble import Ensemble, load_ensemble, runners_of
from mil.refine.stage import COLUMNS, RefineSettings, check_independent, run


@dataclass(frozen=True)
class RefineJob:
    """A slide to draw a finer map of.

    Attributes:
        slide: Id of the slide.
        file: Slide file.
        score: Score file of the slide, which names heads and bag.
        bag: Bag of the slide.
        tiles: Tiles file, or None for a precomputed bag.
        out: Picture to write, a PNG.
        folds: File of the folds.
        splits: Split of the slide in each fold.
        settings: Settings of the map.
    """

    slide: str
    file: Path
    score: Path
    bag: Path
    tiles: Path | None
    out: Path
    folds: Path
    splits: tuple[tuple[str, str], ...]
    settings: RefineSettings

    def outputs(self) -> list[Output]:
        """The picture and its table, with the digest of all that they depend on."""
        digest = digest_of(
            "refine",
            score=made_from(self.score) or file_digest(self.score, None),
            bag=file_digest(self.bag),
            tiles="" if self.tiles is None else made_from(self.tiles),
            file=file_digest(self.file),
            splits=[list(split) for split in self.splits],
            per_side=self.settings.per_side,
            percentile=self.settings.percentile,
            most=self.settings.most,
        )
        return [Output(self.out, digest, (self.out.with_suffix(".csv"),))]


def jobs_of_part(
    dataset: str,
    folders: HeatmapFolders,
    *,
    folds: Path,
    part: Part,
    only_test: bool,
    settings: RefineSettings,
    say: Callable[[str], object],
) -> list[RefineJob]:
    """A job for each slide of a part that was scored and whose file is on the disk.

    Args:
        dataset: Name of the dataset, or path of its yaml.
        folders: Folders of the files.
        folds: File of the folds.
        part: Part of the dataset.
        only_test: Whether only slides are drawn whose split in the slide table is test.
        settings: Settings of the maps.
        say: Called with a line about slides that are not there.

    Raises:
        DatasetError: The slide table cannot be used, or there is no score file in the folder.
    """
    config, table = read_dataset(dataset)
    slides_dir = folders.slides or config.folder(dataset)
    splits = splits_in(folds)
    jobs = []
    num_gone = 0
    for row, score in scored_rows(table, folders.scores, part, only_test=only_test):
        file = locate(row, slides_dir, config)
        if not file.is_file():
            num_gone += 1
            continue
        job = RefineJob(
            slide=row.slide,
            file=file,
            score=score,
            bag=folders.bags / f"{row.slide}.h5",
            tiles=None if folders.tiles is None else folders.tiles / f"{row.slide}.h5",
            out=folders.out / f"{row.slide}.png",
            folds=folds,
            splits=splits.get(row.slide, ()),
            settings=settings,
        )
        jobs.append(job)
    if num_gone:
        say(f"refine: slides without a finer map, as they are not on this disk: {num_gone}")
    return jobs


class Refiner:
    """Heads and encoder of a part; they are loaded when the first slide needs them.

    Args:
        heads: Folders of the heads.
        features: Section `features` of the configuration.
        device: Device of the encoder.
    """

    def __init__(self, heads: Sequence[Path], features: FeaturesConfig, device: str) -> None:
        self._heads = heads
        self._features = features
        self._device = device

    @cached_property
    def ensemble(self) -> Ensemble:
        """The heads."""
        return load_ensemble(*self._heads)

    @cached_property
    def runner(self) -> BatchedEncoder:
        """Their encoder."""
        return runners_of(self.ensemble, self._heads[0], self._features, self._device)[0]

    def draw(self, job: RefineJob, stale: Sequence[Output]) -> str:
        """Draw the finer map of a slide, or the reason why there is none."""
        digest = stale[0].digest
        header = read_header(job.bag)
        if header.state != "ok":
            return _draw_reason(job, f"{header.state}: {header.reason}", digest)
        try:
            check_independent(self.ensemble)
        except DatasetError as error:
            return _draw_reason(job, str(error), digest)
        try:
            return run(
                job.file,
                job.bag,
                job.tiles,
                self.ensemble,
                self.runner,
                job.out,
                job.settings,
                folds=job.folds,
                made_from=digest,
            )
        # The slide is another, or cannot be read any more: it stops no other.
        except (SlideError, FormatError) as error:
            return _draw_reason(job, str(error), digest)


def _draw_reason(job: RefineJob, reason: str, digest: str) -> str:
    """Write a picture with the reason, and a table without rows, in place of a map."""
    write_csv(job.out.with_suffix(".csv"), [], COLUMNS)
    with atomic_path(job.out) as scratch:
        draw_message(scratch, job.slide, f"No finer map. {reason}", about=statements(digest))
    return f"{job.slide}: no finer map: {reason}"
