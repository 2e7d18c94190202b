"""The bags of a dataset's part: encoders are built once for all of its slides."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mil.config import EncoderConfig, FeaturesConfig
from mil.config.stain import NO_STAIN_NORM
from mil.encoders.build import build_batched_encoder
from mil.encoders.runner import BatchedEncoder
from mil.features.stage import Target, run
from mil.io.part_jobs import Output
from mil.io.provenance import digest_of, file_digest, made_from
from mil.io.tables import read_dataset
from mil.io.tables.parts import Part
from mil.io.tables.paths import locate


@dataclass(frozen=True)
class FeatureSettings:
    """Settings and encoders that all slides of a job share.

    Attributes:
        config: Section `features`.
        threads: Threads for reading, and as many for the encoders on a CPU.
        device: `cpu`, `cuda`, or `auto`.
    """

    config: FeaturesConfig
    threads: int
    device: str
    _built: dict[tuple[str, int], BatchedEncoder] = field(default_factory=dict, repr=False)

    def build(
        self, name: str, entry: EncoderConfig, tile_px: int, config: FeaturesConfig, device: str
    ) -> BatchedEncoder:
        """An encoder, built at its first slide; see `build_batched_encoder`."""
        key = name, tile_px
        if key not in self._built:
            self._built[key] = build_batched_encoder(name, entry, tile_px, config, device)
        return self._built[key]


@dataclass(frozen=True)
class FeatureJob:
    """The bags to make for a slide.

    Attributes:
        slide: Id of the slide.
        file: Slide file.
        tiles: Tiles file of the slide.
        targets: Encoders and their bags.
        settings: Settings that all slides share.
    """

    slide: str
    file: Path
    tiles: Path
    targets: tuple[Target, ...]
    settings: FeatureSettings

    def outputs(self) -> list[Output]:
        """Bags, each with the digest of its tiles, encoder and settings."""
        config = self.settings.config
        tiles = made_from(self.tiles) or file_digest(self.tiles, None)
        # Absent where it is off, so that bags of earlier runs stay current.
        stains = {} if config.stain_norm == NO_STAIN_NORM else {"stain_norm": config.stain_norm}
        return [
            Output(
                target.out,
                digest_of(
                    "features",
                    tiles=tiles,
                    encoder=target.encoder,
                    entry=target.entry.settings(),
                    weights=file_digest(Path(target.entry.weights)),
                    precision=config.precision,
                    dtype=config.dtype,
                    max_corrupt=config.max_corrupt,
                    **stains,
                ),
            )
            for target in self.targets
        ]


def jobs_of_part(
    dataset: str,
    slides_dir: Path | None,
    tiles_dir: Path,
    encoders: Sequence[tuple[str, EncoderConfig, Path]],
    settings: FeatureSettings,
    part: Part,
) -> list[FeatureJob]:
    """A job for each slide of a part of a dataset.

    Args:
        dataset: Name of the dataset, or path of its yaml.
        slides_dir: Folder of the slides; None: that of the dataset.
        tiles_dir: Folder of the tiles files.
        encoders: Name, entry and folder of the bags of each encoder.
        settings: Settings that all slides share.
        part: Part of the dataset.

    Raises:
        DatasetError: The slide table cannot be used.
    """
    config, table = read_dataset(dataset)
    folder = slides_dir or config.folder(dataset)
    return [
        FeatureJob(
            slide=row.slide,
            file=locate(row, folder, config),
            tiles=tiles_dir / f"{row.slide}.h5",
            targets=tuple(
                Target(name, entry, bags_dir / f"{row.slide}.h5")
                for name, entry, bags_dir in encoders
            ),
            settings=settings,
        )
        for row in table
        if part.holds(row.slide)
    ]


def encode_slide(job: FeatureJob, stale: Sequence[Output]) -> str:
    """Make bags of a slide that are not current, and return a line about them."""
    digests = {output.path: output.digest for output in stale}
    targets = [
        Target(target.encoder, target.entry, target.out, digests[target.out])
        for target in job.targets
        if target.out in digests
    ]
    settings = job.settings
    line = run(
        job.file,
        job.tiles,
        targets,
        config=settings.config,
        threads=settings.threads,
        device=settings.device,
        build=settings.build,
        name=job.slide,
    )
    return line.removeprefix("features ")
