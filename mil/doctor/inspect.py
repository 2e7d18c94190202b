"""Inspect one slide as the stages will use it.

Does it open, how large are its pixels, where is tissue, and can its tiles be read.
"""

import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from mil.config import tiling_name
from mil.doctor import warnings
from mil.doctor.findings import LevelFinding, SlideFinding
from mil.doctor.probes import four_corners, unreadable
from mil.doctor.regions import OutlineFiles, inspect_regions
from mil.doctor.requirements import Requirements
from mil.doctor.tiling import TilingInspection
from mil.errors import (
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
from mil.tile.checks import check_loss, remarks_of

NO_MASKS = plan.UserMasks()


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

    Raises:
        MilError: A setting is wrong, which concerns all slides.
    """
    inspection = _SlideInspection(row, file, requirements, masks)
    try:
        return inspection.run(outlines)
    except Exception as error:
        outcome = _state_of(error)
        if outcome is None:
            raise
        state, reason = outcome
        return replace(inspection.finding, state=state, reason=reason)


class _SlideInspection:
    """One slide under inspection; its finding holds what is known so far."""

    def __init__(
        self, row: Slide, file: Path, requirements: Requirements, masks: plan.UserMasks
    ) -> None:
        self.row = row
        self.file = file
        self.requirements = requirements
        self.masks = masks
        self.finding = SlideFinding(row.slide, str(file), scene=row.scene)

    def run(self, outlines: OutlineFiles | None) -> SlideFinding:
        if not self.file.exists():
            return self._absent()
        with SlideReader(self.file, scene=self.row.scene) as reader:
            self._describe(reader)
            resolution = _resolution(reader, self.row, self.requirements)
            self._warn(remarks_of(reader, resolution))
            self._add(mpp=resolution.mpp, mpp_source=resolution.source)
            overview = self._overview(reader, resolution)
            tile_plan = self._inspect_tilings(reader, resolution, overview)
            if outlines is not None:
                regions = inspect_regions(outlines, reader, resolution.mpp, tile_plan)
                self._add(regions=regions)
                self._warn([text for region in regions for text in region.warnings])
        return _concluded(self.finding)

    def _absent(self) -> SlideFinding:
        # The workflow can fetch it, which is another remedy than to correct the table.
        if self.row.url:
            reason = f"will come from {self.row.url}"
            return replace(self.finding, state="not_fetched", reason=reason)
        return replace(self.finding, state="missing", reason=f"no file {self.file}")

    def _describe(self, reader: SlideReader) -> None:
        levels = [_level(reader, number) for number in range(len(reader.levels))]
        not_square = warnings.not_square(reader.properties, reader.levels)
        self._add(
            size_bytes=reader.path.stat().st_size,
            vendor=reader.vendor,
            size_px=reader.size_px,
            scanned_px=reader.extent_px,
            levels=levels,
            mpp_said=stated_sizes(reader.properties),
            warnings=[*reader.remarks, *not_square, *warnings.truncated(levels)],
        )

    def _overview(self, reader: SlideReader, resolution: Resolution) -> Overview | None:
        """The slide at low resolution, for tissue detection; None: without detection."""
        if not self.requirements.tissue:
            return None
        overview = plan.read_overview(reader, resolution.mpp)
        self._warn(_overview_warnings(reader, overview))
        check_loss(self.file, overview.lost)
        return overview

    def _inspect_tilings(
        self, reader: SlideReader, resolution: Resolution, overview: Overview | None
    ) -> plan.TilePlan | None:
        """Add the finding of each tiling; the plan of the last one is returned."""
        tile_plan = None
        # One overview for all tilings: tissue detection takes most of the doctor's time.
        for tile_px, target_mpp in self.requirements.tilings:
            inspection = TilingInspection(reader, resolution, tile_px, target_mpp)
            finding = inspection.run(self.requirements, self.masks, overview)
            self.finding.tilings[tiling_name(tile_px, target_mpp)] = finding
            tile_plan = inspection.tile_plan
        return tile_plan

    def _add(self, **values: Any) -> None:
        self.finding = replace(self.finding, **values)

    def _warn(self, texts: list[str]) -> None:
        self._add(warnings=list(dict.fromkeys(self.finding.warnings + texts)))


def _state_of(error: Exception) -> tuple[str, str] | None:
    """State and reason of a slide that an error was raised for; None: a setting is wrong."""
    if isinstance(error, SlideError):
        return error.state, error.reason
    # Faults of the slide itself are SlideErrors: this one is of a user's mask.
    if isinstance(error, FormatError):
        return "bad_mask", str(error)
    if isinstance(error, ReadingError):
        return "reading_stopped", str(error)
    if isinstance(error, MilError):
        return None
    # Of the disk, the network or a limit of this process, not of mil.
    if isinstance(error, OSError):
        return "unreadable", f"cannot be read: {error.strerror or brief(error)}"
    if isinstance(error, MemoryError):
        return "unreadable", "needs more memory than there is"
    # A fault of mil itself: the user is asked to report this line.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    line = f"{Path(frame.filename).name}, line {frame.lineno}"
    return "error", brief(f"{type(error).__name__}: {error} ({line})")


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


def _overview_warnings(reader: SlideReader, overview: Overview) -> list[str]:
    texts = warnings.no_overview(reader.levels[reader.level_for(overview.scale)])
    if overview.lost:
        texts.append(f"{100 * overview.lost:.2g} % of its area cannot be read at any level")
    return texts


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
