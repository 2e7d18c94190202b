"""Slides of a part, one after another: fetched, tiled, encoded and removed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mil.config import EncoderConfig, dataset_path
from mil.features import part as features
from mil.features.part import FeatureSettings
from mil.fetch.store import SlideSource, SlideStore
from mil.io.part_jobs import SlideResult
from mil.io.tables import read_dataset
from mil.io.tables.parts import Part
from mil.io.tables.urls import check_urls
from mil.progress import progress
from mil.stream.stage import StreamJob, run
from mil.tile import part as tile
from mil.tile.part import TileSettings


@dataclass(frozen=True)
class Streamed:
    """An encoder, and where its tiles and bags go.

    Attributes:
        encoder: Name of the encoder.
        entry: Entry of configs/encoders.yaml.
        tiles_dir: Folder of the tiles files.
        bags_dir: Folder of the bags.
        tiling: Settings of its tiles.
    """

    encoder: str
    entry: EncoderConfig
    tiles_dir: Path
    bags_dir: Path
    tiling: TileSettings


def stream_part(
    dataset: str,
    slides_dir: Path | None,
    streamed: Sequence[Streamed],
    settings: FeatureSettings,
    part: Part,
    *,
    slots: int,
    trust_urls: bool,
    require_slides: bool = False,
) -> Iterator[SlideResult]:
    """Make tiles and bags of a part's slides.

    Args:
        dataset: Name of the dataset, or path of its yaml.
        slides_dir: Folder of the slides; None: that of the dataset.
        streamed: Encoders, with the folders of their tiles and bags.
        settings: Settings and encoders that all slides share.
        part: Part of the dataset.
        slots: Largest number of fetched slides on the disk at a time, over all jobs.
        trust_urls: Whether URLs may lead anywhere; see `mil.io.tables.urls`.
        require_slides: Whether a slide without file and URL is an error, and no state of it.

    Yields:
        A result for each slide, with the digests of its bags in the order of `streamed`.

    Raises:
        DatasetError: The slide table cannot be used, or has a URL that it should not have.
    """
    config, table = read_dataset(dataset)
    rows = [row for row in table if part.holds(row.slide)]
    if not trust_urls:
        check_urls(rows, dataset_path(dataset).parent)
    folder = slides_dir or config.folder(dataset)
    store = SlideStore(folder, slots)
    groups = _by_tiles(streamed)
    tilings = {
        tiles_dir: tile.jobs_of_part(
            dataset, folder, tiles_dir, group[0].tiling, part, require_slides=require_slides
        )
        for tiles_dir, group in groups.items()
    }
    encoded = [
        features.jobs_of_part(
            dataset,
            folder,
            tiles_dir,
            [(item.encoder, item.entry, item.bags_dir) for item in group],
            settings,
            part,
        )
        for tiles_dir, group in groups.items()
    ]
    order = [item.bags_dir for item in streamed]
    with progress("stream", len(rows), "slides") as advance:
        for row, tile_jobs, feature_jobs in zip(
            rows,
            zip(*tilings.values(), strict=True),
            zip(*encoded, strict=True),
            strict=True,
        ):
            source = SlideSource(tile_jobs[0].file, row.url, row.checksum)
            result = run(StreamJob(source, tile_jobs, feature_jobs), store, order)
            advance(1, "" if result.line else "current")
            yield result


def _by_tiles(streamed: Sequence[Streamed]) -> dict[Path, list[Streamed]]:
    """Encoders by the folder of the tiles that they share."""
    groups: dict[Path, list[Streamed]] = {}
    for item in streamed:
        groups.setdefault(item.tiles_dir, []).append(item)
    return groups
