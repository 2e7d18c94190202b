"""Stage `stream`: a slide is fetched, tiled, encoded and removed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from mil.errors import MilError
from mil.features.part import FeatureJob, encode_slide
from mil.fetch.store import SlideSource, SlideStore
from mil.io.part_jobs import Output, SlideResult
from mil.tile.part import TileJob, tile_slide


@dataclass(frozen=True)
class StreamJob:
    """Tiles and bags to make of a slide.

    Attributes:
        source: The slide, and where it comes from.
        tiles: A job for each tiling.
        bags: A job for each tiling, with its encoders.
    """

    source: SlideSource
    tiles: tuple[TileJob, ...]
    bags: tuple[FeatureJob, ...]

    @property
    def slide(self) -> str:
        """Id of the slide."""
        return self.tiles[0].slide

    def at(self, file: Path) -> "StreamJob":
        """The job, with the slide in another file."""
        return replace(
            self,
            tiles=tuple(replace(job, file=file) for job in self.tiles),
            bags=tuple(replace(job, file=file) for job in self.bags),
        )


def run(job: StreamJob, store: SlideStore, order: Sequence[Path]) -> SlideResult:
    """Make tiles and bags of a slide that are not current; if all are, it is not fetched.

    Args:
        job: Tiles and bags to make.
        store: Slides on the disk at a time.
        order: Folders of the bags, in the order of the digests of the result.
    """
    try:
        line = ""
        if not _is_current(job):
            with store.borrow(job.source) as file:
                line = _make(job.at(file))
        # Not before: the digest of a bag holds that of its tiles.
        digests = {output.path.parent: output.digest for output in _bags(job)}
        return SlideResult(job.slide, line, tuple(digests[folder] for folder in order))
    # Anything else, such as a full disk, would stop the other slides too.
    except MilError as error:
        return SlideResult(job.slide, str(error), ())


def _is_current(job: StreamJob) -> bool:
    tiles = [output for tiles in job.tiles for output in tiles.outputs()]
    return all(output.current for output in [*tiles, *_bags(job)])


def _bags(job: StreamJob) -> list[Output]:
    return [output for bags in job.bags for output in bags.outputs()]


def _make(job: StreamJob) -> str:
    """Make what is not current, and return a line about the slide."""
    line = ""
    for tiles, bags in zip(job.tiles, job.bags, strict=True):
        if stale := [output for output in tiles.outputs() if not output.current]:
            typer.echo(f"tile {tile_slide(tiles, stale)}")
        if stale := [output for output in bags.outputs() if not output.current]:
            line = encode_slide(bags, stale)
    return line or f"{job.slide}: tiled again, its bags are current"
