"""Slides to tile: one, or those of a part of a dataset with the settings of their rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from mil.config import TileConfig
from mil.config.datasets import GeojsonFrame
from mil.errors import DatasetError, FormatError
from mil.io.bags.advice import remedy
from mil.io.part_jobs import Output
from mil.io.provenance import digest_of, file_digest, made_from
from mil.io.regions import faults_of
from mil.io.tables import read_dataset
from mil.io.tables.parts import Part
from mil.io.tables.paths import locate, locate_masks
from mil.io.tiles import read_tiles
from mil.tile.stage import files_beside, run


@dataclass(frozen=True)
class TileSettings:
    """Settings that all slides of a job share.

    Attributes:
        tile_px: Side of a tile as the encoder sees it, pixels.
        target_mpp: Resolution that the encoder sees, micrometres per pixel.
        config: Section `tile`.
    """

    tile_px: int
    target_mpp: float
    config: TileConfig


@dataclass(frozen=True)
class TileJob:
    """A slide to tile.

    Attributes:
        slide: Id of the slide.
        file: Slide file.
        out: Tiles file to write.
        settings: Settings that all slides share.
        mpp: Pixel size of level 0 that overrides the file's, micrometres; None: the file's.
        tissue: User's mask of the tissue, or None.
        region: User's mask of the region, or None.
        geojson_frame: Origin of the coordinates of a GeoJSON mask.
        scene: Name or number of the image to read in a file of several; empty: the largest.
        required: Whether a missing file is an error, and no state of the slide.
    """

    slide: str
    file: Path
    out: Path
    settings: TileSettings
    mpp: float | None = None
    tissue: Path | None = None
    region: Path | None = None
    geojson_frame: GeojsonFrame = "scanned"
    scene: str = ""
    required: bool = False

    def outputs(self) -> list[Output]:
        """The tiles file, with the digest of masks and settings, and that of the slide file.

        A slide that is gone, as to make room, keeps tiles of the same settings.
        """
        settings = digest_of(
            "tile",
            slide=self.slide,
            mpp=self.mpp,
            scene=self.scene,
            tissue=_mask_facts(self.tissue),
            region=_mask_facts(self.region),
            frame=self.geojson_frame,
            tile_px=self.settings.tile_px,
            target_mpp=self.settings.target_mpp,
            config=self.settings.config.model_dump(mode="json", exclude={"size_px", "mpp"}),
        )
        digest = settings.and_of(file_digest(self.file))
        if not self.file.exists():
            stored = made_from(self.out)
            of_slide = stored.removeprefix(f"{settings}-")
            digest = digest if of_slide == stored else settings.and_of(of_slide)
        return [Output(self.out, digest, files_beside(self.out))]


def _mask_facts(mask: Path | None) -> list[str]:
    # With its name, which the tiles file records.
    return [] if mask is None else [mask.name, file_digest(mask, None)]


def jobs_of_part(
    dataset: str,
    slides_dir: Path | None,
    out_dir: Path,
    settings: TileSettings,
    part: Part,
    *,
    require_slides: bool = False,
) -> list[TileJob]:
    """A job for each slide of a part of a dataset.

    Args:
        dataset: Name of the dataset, or path of its yaml.
        slides_dir: Folder of the slides; None: that of the dataset.
        out_dir: Folder of the tiles files.
        settings: Settings that all slides share.
        part: Part of the dataset.
        require_slides: Whether a slide without its file is an error, and no state of it.

    Raises:
        DatasetError: The slide table cannot be used, or names a mask that does not exist.
    """
    config, table = read_dataset(dataset)
    folder = slides_dir or config.folder(dataset)
    rows = [row for row in table if part.holds(row.slide)]
    masks = locate_masks(rows, folder, config)
    return [
        TileJob(
            slide=row.slide,
            file=locate(row, folder, config),
            out=out_dir / f"{row.slide}.h5",
            settings=settings,
            mpp=row.mpp,
            scene=row.scene,
            geojson_frame=config.geojson_frame,
            required=require_slides,
            **masks.get(row.slide, {}),
        )
        for row in rows
    ]


def _has_tiles(path: Path) -> bool:
    try:
        return read_tiles(path).geometry.state == "ok"
    except FormatError:
        return False


def tile_slide(job: TileJob, stale: Sequence[Output]) -> str:
    """Tile a slide, and return a line about it; see `mil.tile.stage.run`.

    Raises:
        DatasetError: The slide file is gone and required, or tiles of other settings would
            be lost.
    """
    # Recorded as a state, it would stay out of the study when it comes back.
    if job.required and not job.file.exists():
        raise DatasetError(f"{job.file}: no such file; put it back, then run again")
    if not job.file.exists() and _has_tiles(job.out):
        raise DatasetError(
            f"{job.file}: no such file, and {job.out} holds its tiles of other settings; put the "
            "slide back, or delete the tiles to go on without it"
        )
    geometry, num_tiles = run(
        job.file,
        job.slide,
        job.out,
        tile_px=job.settings.tile_px,
        target_mpp=job.settings.target_mpp,
        mpp=job.mpp,
        config=job.settings.config,
        tissue=job.tissue,
        region=job.region,
        geojson_frame=job.geojson_frame,
        scene=job.scene,
        say=typer.echo,
        made_from=stale[0].digest,
    )
    # Of a slide that does not open the masks were not read.
    if geometry.state in ("ok", "no_tissue", "empty_mask"):
        for mask in (job.tissue, job.region):
            for fault in faults_of(mask) if mask else ():
                typer.echo(f"mask {mask}: left out {fault}")
    reason = ""
    if geometry.state != "ok":
        reason = f" ({geometry.reason}; {remedy(geometry.state, geometry.reason)})"
    return (
        f"{geometry.slide}: {geometry.state}, {num_tiles} tiles, "
        f"{geometry.tissue_mm2:.2f} mm² of tissue{reason}"
    )
