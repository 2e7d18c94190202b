"""Inspect one slide as the stages will use it.

Does it open, how large are its pixels, where is tissue, and can its tiles be read.
"""

import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from mil.config import TileConfig, tiling_name
from mil.doctor import warnings
from mil.doctor.findings import LevelFinding, SlideFinding, TilingFinding
from mil.doctor.probes import Coords, cut_off, four_corners, last_row, positions, unreadable
from mil.doctor.regions import OutlineFiles, inspect_regions
from mil.errors import (
    CorruptRegionsError,
    FormatError,
    MilError,
    ReadingError,
    SlideError,
    UnreadableSlideError,
    brief,
)
from mil.io.slides import Overview, SlideReader
from mil.io.slides.resolution import Resolution, stated_sizes
from mil.io.slides.tiff import TiffBlocks
from mil.io.tables import Slide
from mil.tile import plan
from mil.tile.checks import check_any_tile, check_loss, check_scale, remarks_of
from mil.tile.grid import footprint_px, grid

# Tiles to measure the rate of reading with.
NUM_TO_TIME = 64
NO_MASKS = plan.UserMasks()


@dataclass(frozen=True)
class Requirements:
    """Requirements of a run on every slide.

    Attributes:
        tilings: Sides (pixels) and resolutions (µm per pixel) of tiles.
        tile: Section `tile` of the configuration.
        max_corrupt: Largest fraction of tiles that may be unreadable, 0 to 1.
        tissue: Whether tissue is detected; else the whole grid counts.
    """

    tilings: tuple[tuple[int, float], ...]
    tile: TileConfig
    max_corrupt: float
    tissue: bool


def inspect_slide(
    row: Slide,
    file: Path,
    requirements: Requirements,
    masks: plan.UserMasks = NO_MASKS,
    outlines: OutlineFiles | None = None,
) -> SlideFinding:
    """Inspect one slide; any fault of it becomes its state, never an error.

    Args:
        row: Row of the slide table.
        file: Expected file of the slide.
        requirements: Requirements of the run.
        masks: The user's masks of the slide.
        outlines: Files of its outlines, to be looked at; None: none.
    """
    finding = SlideFinding(row.slide, str(file), scene=row.scene)
    try:
        if not file.exists():
            # The workflow can fetch it, which is another remedy than to correct the
            # table.
            if row.url:
                return replace(finding, state="not_fetched", reason=f"will come from {row.url}")
            return replace(finding, state="missing", reason=f"no file {file}")
        with SlideReader(file, scene=row.scene) as reader:
            finding = _described(finding, reader)
            resolution = _resolution(reader, row, requirements)
            finding = _with_pixel_size(finding, reader, resolution)
            # Once for all tilings: tissue detection takes most of the doctor's time.
            overview = plan.read_overview(reader, resolution.mpp) if requirements.tissue else None
            finding = _warned(finding, _overview_warnings(reader, overview))
            if overview is not None:
                check_loss(file, overview.lost)
            for tile_px, target_mpp in requirements.tilings:
                inspection = _TilingInspection(reader, resolution, tile_px, target_mpp)
                tiling = tiling_name(tile_px, target_mpp)
                finding.tilings[tiling] = inspection.run(requirements, masks, overview)
            if outlines is not None:
                regions = inspect_regions(outlines, reader, resolution.mpp, inspection.tile_plan)
                texts = [text for region in regions for text in region.warnings]
                finding = _warned(replace(finding, regions=regions), texts)
        return _concluded(finding)
    except SlideError as error:
        return replace(finding, state=error.state, reason=error.reason)
    except FormatError as error:
        # Faults of the slide itself are SlideErrors: this one is of a user's mask.
        return replace(finding, state="bad_mask", reason=str(error))
    except ReadingError as error:
        return replace(finding, state="reading_stopped", reason=str(error))
    except MilError:
        # A setting, which concerns all slides.
        raise
    except OSError as error:
        # Of the disk, the network or a limit of this process, not of mil.
        text = error.strerror or brief(error)
        return replace(finding, state="unreadable", reason=f"cannot be read: {text}")
    except MemoryError:
        return replace(finding, state="unreadable", reason="needs more memory than there is")
    except Exception as error:  # noqa: BLE001  the other slides must still be inspected
        # A fault of mil itself: the user is asked to report this line.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        line = f"{Path(frame.filename).name}, line {frame.lineno}"
        message = f"{type(error).__name__}: {error} ({line})"
        return replace(finding, state="error", reason=brief(message))


def _warned(finding: SlideFinding, more: list[str]) -> SlideFinding:
    return replace(finding, warnings=list(dict.fromkeys(finding.warnings + more)))


def _described(finding: SlideFinding, reader: SlideReader) -> SlideFinding:
    levels = [_level(reader, number) for number in range(len(reader.levels))]
    not_square = warnings.not_square(reader.properties, reader.levels)
    return replace(
        finding,
        size_bytes=reader.path.stat().st_size,
        vendor=reader.vendor,
        size_px=reader.size_px,
        scanned_px=reader.extent_px,
        levels=levels,
        mpp_said=stated_sizes(reader.properties),
        warnings=[*reader.remarks, *not_square, *warnings.truncated(levels)],
    )


def _level(reader: SlideReader, number: int) -> LevelFinding:
    level = reader.levels[number]
    blocks = reader.blocks(number)
    # Positions of blocks are known for plain TIFF only.
    decoder, num_cut_off = "OpenSlide", None
    if isinstance(blocks, TiffBlocks):
        decoder, num_cut_off = blocks.compression, blocks.cut_off()
    return LevelFinding(level.width_px, level.height_px, level.downsample, decoder, num_cut_off)


def _resolution(reader: SlideReader, row: Slide, requirements: Requirements) -> Resolution:
    """The pixel size as `tile` determines it.

    A slide without one readable pixel is unreadable, whether it states a size or not.
    """
    try:
        allowed = requirements.tile.objective_power
        return reader.resolution(row.mpp, allow_objective_power=allowed)
    except SlideError:
        # Without a pixel size the footprint of a tile is unknown: pixels of level 0
        # will do.
        side = requirements.tilings[0][0]
        corners = four_corners(reader, float(side))
        if unreadable(reader, corners, float(side), side).all():
            raise UnreadableSlideError(
                reader.path, "it opens, but none of its pixels can be decoded"
            ) from None
        raise


def _with_pixel_size(
    finding: SlideFinding, reader: SlideReader, resolution: Resolution
) -> SlideFinding:
    finding = _warned(finding, remarks_of(reader, resolution))
    return replace(finding, mpp=resolution.mpp, mpp_source=resolution.source)


def _overview_warnings(reader: SlideReader, overview: Overview | None) -> list[str]:
    if overview is None:
        return []
    texts = warnings.no_overview(reader.levels[reader.level_for(overview.scale)])
    if overview.lost:
        texts.append(f"{100 * overview.lost:.2g} % of its area cannot be read at any level")
    return texts


class _TilingInspection:
    """A slide in tiles of one size and resolution."""

    def __init__(
        self, reader: SlideReader, resolution: Resolution, tile_px: int, target_mpp: float
    ) -> None:
        self.reader = reader
        self.resolution = resolution
        self.mpp = resolution.mpp
        self.tile_px = tile_px
        self.target_mpp = target_mpp
        self.side = footprint_px(tile_px, target_mpp, self.mpp)
        self.level = reader.level_for(self.side / tile_px)
        self.downsample = reader.levels[self.level].downsample
        self.tile_plan: plan.TilePlan | None = None

    def run(
        self, requirements: Requirements, masks: plan.UserMasks, overview: Overview | None
    ) -> TilingFinding:
        excess = (self.target_mpp / self.mpp / self.downsample) ** 2
        finding = TilingFinding("ok", "", level=self.level, excess=excess, side_level0_px=self.side)
        try:
            max_upsample = requirements.tile.max_upsample
            check_scale(self.reader, self.resolution, self.target_mpp, max_upsample)
            coords, tissue_mm2 = self._tiles(requirements, masks, overview)
            finding = replace(
                finding,
                num_tiles=len(coords),
                tissue_mm2=tissue_mm2,
                to_time=_middle(coords),
                warnings=warnings.far_from_tiles(self.mpp, self.target_mpp, self.downsample),
            )
            # Before the number of tiles is checked: a slide of which nothing can be
            # read is unreadable, with tissue or without.
            finding = self._probed(finding, coords)
            check_any_tile(
                self.reader,
                len(coords),
                side_level0_px=self.side,
                tissue_mm2=tissue_mm2 or 0.0,
                user_masks=masks,
                overview=overview,
            )
            self._check_loss(coords, finding.unreadable, requirements.max_corrupt)
        except SlideError as error:
            return replace(finding, state=error.state, reason=error.reason)
        return finding

    def _whole_grid(self) -> Coords:
        return grid(self.reader.extent_px, self.side, self.reader.origin_px)

    def _tiles(
        self, requirements: Requirements, masks: plan.UserMasks, overview: Overview | None
    ) -> tuple[Coords, float | None]:
        """Tiles and area of the tissue; the whole grid and None without detection."""
        if overview is None:
            return self._whole_grid(), None
        tile_plan = plan.plan_tiles(
            self.reader,
            self.mpp,
            tile_px=self.tile_px,
            target_mpp=self.target_mpp,
            config=requirements.tile,
            user_masks=masks,
            overview=overview,
        )
        self.tile_plan = tile_plan
        return tile_plan.coords, tile_plan.tissue_mm2

    def _probed(self, finding: TilingFinding, coords: Coords) -> TilingFinding:
        """Read the corners of the slide, and the last rows of slide and tissue."""
        # A truncated file fails there first.
        corners = four_corners(self.reader, self.side)
        probes = np.concatenate([corners, last_row(self._whole_grid()), last_row(coords)])
        probes = np.unique(probes.astype(np.int32), axis=0)
        failed = probes[unreadable(self.reader, probes, self.side, self.tile_px)]
        if len(failed) == len(probes):
            raise UnreadableSlideError(
                self.reader.path, "it opens, but none of the tiles tried can be decoded"
            )
        failed_at = [(int(x), int(y)) for x, y in failed]
        texts = list(finding.warnings)
        if failed_at:
            texts.append(
                f"{len(failed)} of {len(probes)} tiles tried cannot be read: {positions(failed_at)}"
            )
        return replace(finding, tried=len(probes), unreadable=failed_at, warnings=texts)

    def _check_loss(
        self, coords: Coords, failed: list[tuple[int, int]], max_corrupt: float
    ) -> None:
        """Refuse a slide with so many lost tiles that `features` would refuse it."""
        lost = cut_off(self.reader, self.level, coords, self.side)
        if lost.sum() > max_corrupt * len(lost):
            reason = f"{lost.sum()} of {len(lost)} tiles cannot be read: the file ends before them"
            raise CorruptRegionsError(self.reader.path, reason)
        # A few probes cannot tell the fraction of lost tiles. Damage that truncation
        # does not explain is assumed to exceed what is allowed.
        damaged = coords[_is_among(coords, failed) & ~lost]
        if len(damaged):
            reason = f"tiles that would be used cannot be read: {positions(damaged.tolist())}"
            raise CorruptRegionsError(self.reader.path, reason)


def _is_among(coords: Coords, chosen: list[tuple[int, int]]) -> Bool[np.ndarray, " tiles"]:
    corners = set(chosen)
    return np.array([corner in corners for corner in map(tuple, coords.tolist())], bool)


def _middle(coords: Coords) -> Coords:
    start = max(0, (len(coords) - NUM_TO_TIME) // 2)
    return coords[start : start + NUM_TO_TIME]


def _concluded(finding: SlideFinding) -> SlideFinding:
    """The slide with its state: that of the first tiling that is not ok."""
    tilings = finding.tilings.values()
    texts = finding.warnings + [text for tiling in tilings for text in tiling.warnings]
    # Tilings of one slide share warnings.
    finding = replace(finding, warnings=list(dict.fromkeys(texts)))
    not_ok = next((tiling for tiling in tilings if tiling.state != "ok"), None)
    if not_ok is None:
        return replace(finding, state="ok")
    return replace(finding, state=not_ok.state, reason=not_ok.reason)
