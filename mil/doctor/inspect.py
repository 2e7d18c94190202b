"""Look at one slide as the stages will: does it open, how large are its pixels, where is tissue, can tiles be read."""

import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from mil.config import TileConfig, tiling_name
from mil.doctor import warnings as doubts
from mil.doctor.findings import LevelFinding, SlideFinding, TilingFinding
from mil.doctor.probes import Coords, cut_off, four_corners, last_row, places, unreadable
from mil.errors import CorruptRegionsError, MilError, SlideError, UnreadableSlideError
from mil.io.slides import Overview, SlideReader
from mil.io.slides.resolution import Resolution, all_said
from mil.io.slides.tiff import TiffBlocks
from mil.io.tables import Slide
from mil.tile import plan
from mil.tile.checks import check_any, check_loss, check_scale
from mil.tile.grid import footprint_px, grid

NUM_TO_TIME = 64
NOTHING = plan.Drawn()


@dataclass(frozen=True)
class Wanted:
    """What a run will ask of every slide: tiles of these sizes (px) and resolutions (µm/px), and how sound."""

    tilings: tuple[tuple[int, float], ...]
    tile: TileConfig
    max_corrupt: float
    tissue: bool


def look(row: Slide, file: Path, wanted: Wanted, drawn: plan.Drawn = NOTHING) -> SlideFinding:
    """Everything about one slide; whatever is wrong with it becomes its state, never an error.

    Args:
        row: of the slide table.
        file: where the slide should be.
        wanted: what the run will ask of it.
        drawn: the user's masks of it.
    """
    known = SlideFinding(row.slide, str(file))
    try:
        if not file.exists():
            state, reason = (
                ("not_fetched", f"will come from {row.url}")
                if row.url
                else ("missing", f"no file {file}")
            )
            return replace(known, state=state, reason=reason)
        with SlideReader(file) as reader:
            known = _described(known, reader)
            used = _resolution(reader, row, wanted)
            known = _scaled(known, used)
            view = plan.read_overview(reader, used.mpp) if wanted.tissue else None
            known = replace(known, warnings=known.warnings + _of_view(reader, view))
            if view is not None:
                check_loss(file, view.lost)
            for tile_px, target_mpp in wanted.tilings:
                finding = _Tiling(reader, used.mpp, tile_px, target_mpp).look(wanted, drawn, view)
                known.tilings[tiling_name(tile_px, target_mpp)] = finding
        return _concluded(known)
    except SlideError as error:
        return replace(known, state=error.state, reason=error.reason)
    except MilError as error:  # of what the user drew
        return replace(known, state="bad_mask", reason=str(error))
    except Exception as error:  # noqa: BLE001  whatever it is, the other slides are still to be looked at
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
        return replace(known, state="error", reason=" ".join(said.split()))


def _described(known: SlideFinding, reader: SlideReader) -> SlideFinding:
    levels = [_level(reader, number) for number in range(len(reader.levels))]
    doubtful = doubts.not_square(reader.properties, reader.levels) + doubts.cut_short(levels)
    return replace(
        known,
        size_bytes=reader.path.stat().st_size,
        vendor=reader.vendor,
        size_px=reader.size_px,
        scanned_px=reader.extent_px,
        levels=levels,
        mpp_said=all_said(reader.properties),
        warnings=doubtful,
    )


def _level(reader: SlideReader, number: int) -> LevelFinding:
    level = reader.levels[number]
    blocks = reader.blocks(number)
    decoder, behind = (
        (blocks.compression, blocks.cut_off())
        if isinstance(blocks, TiffBlocks)
        else ("OpenSlide", None)
    )
    return LevelFinding(level.width_px, level.height_px, level.downsample, decoder, behind)


def _resolution(reader: SlideReader, row: Slide, wanted: Wanted) -> Resolution:
    """The pixel size as `tile` takes it; pixels that cannot be read at all come before a size that is missing."""
    try:
        return reader.resolution(row.mpp, allow_objective_power=wanted.tile.objective_power)
    except SlideError:
        side = wanted.tilings[0][0]
        if unreadable(reader, four_corners(reader, float(side)), float(side), side).all():
            raise UnreadableSlideError(
                reader.path, "it opens, but none of its pixels can be decoded"
            ) from None
        raise


def _scaled(known: SlideFinding, used: Resolution) -> SlideFinding:
    more = doubts.sizes_disagree(used, known.mpp_said)
    return replace(known, mpp=used.mpp, mpp_source=used.source, warnings=known.warnings + more)


def _of_view(reader: SlideReader, view: Overview | None) -> list[str]:
    if view is None:
        return []
    lost = [f"{100 * view.lost:.2g} % of its area cannot be read at any level"] if view.lost else []
    return doubts.no_overview(reader.levels[reader.level_for(view.scale)]) + lost


class _Tiling:
    """A slide seen through tiles of one size and resolution."""

    def __init__(self, reader: SlideReader, mpp: float, tile_px: int, target_mpp: float) -> None:
        self.reader = reader
        self.mpp = mpp
        self.tile_px = tile_px
        self.target_mpp = target_mpp
        self.side = footprint_px(tile_px, target_mpp, mpp)
        self.whole = grid(reader.extent_px, self.side, reader.origin_px)
        self.level = reader.level_for(self.side / tile_px)
        self.downsample = reader.levels[self.level].downsample

    def look(self, wanted: Wanted, drawn: plan.Drawn, view: Overview | None) -> TilingFinding:
        excess = (self.target_mpp / self.mpp / self.downsample) ** 2
        known = TilingFinding("ok", "", level=self.level, excess=excess, side_level0_px=self.side)
        try:
            check_scale(self.reader.path, self.mpp, self.target_mpp, wanted.tile.max_upsample)
            far = doubts.far_from_tiles(self.mpp, self.target_mpp, self.downsample)
            coords, tissue_mm2 = self._tiles(wanted, drawn, view)
            known = replace(
                known,
                num_tiles=len(coords),
                tissue_mm2=tissue_mm2,
                to_time=_middle(coords),
                warnings=far,
            )
            known = self._try(known, coords)
            check_any(
                self.reader,
                len(coords),
                side_level0_px=self.side,
                tissue_mm2=tissue_mm2 or 0.0,
                user_masks=drawn,
            )
            self._count_lost(coords, known.unreadable, wanted.max_corrupt)
        except SlideError as error:
            return replace(known, state=error.state, reason=error.reason)
        return known

    def _tiles(
        self, wanted: Wanted, drawn: plan.Drawn, view: Overview | None
    ) -> tuple[Coords, float | None]:
        """The tiles of the tissue, or the whole grid where it is not looked for."""
        if view is None:
            return self.whole, None
        found = plan.plan_tiles(
            self.reader,
            self.mpp,
            tile_px=self.tile_px,
            target_mpp=self.target_mpp,
            config=wanted.tile,
            user_masks=drawn,
            overview=view,
        )
        return found.coords, found.tissue_mm2

    def _try(self, known: TilingFinding, coords: Coords) -> TilingFinding:
        """Read the corners of the slide and the last rows, of the slide and of its tissue."""
        corners = four_corners(self.reader, self.side)
        tried = np.unique(
            np.concatenate([corners, last_row(self.whole), last_row(coords)]).astype(np.int32),
            axis=0,
        )
        bad = tried[unreadable(self.reader, tried, self.side, self.tile_px)]
        if len(bad) == len(tried):
            raise UnreadableSlideError(
                self.reader.path, "it opens, but none of the tiles tried can be decoded"
            )
        failed = [(int(x), int(y)) for x, y in bad]
        more = (
            [f"{len(failed)} of {len(tried)} tiles tried cannot be read: {places(failed)}"]
            if failed
            else []
        )
        return replace(known, tried=len(tried), unreadable=failed, warnings=known.warnings + more)

    def _count_lost(
        self, coords: Coords, failed: list[tuple[int, int]], max_corrupt: float
    ) -> None:
        """Refuse a slide of which so many tiles are lost that `features` will give it up."""
        lost = cut_off(self.reader, self.level, coords, self.side)
        if lost.sum() > max_corrupt * len(lost):
            why = f"{lost.sum()} of {len(lost)} tiles cannot be read: the file ends before them"
            raise CorruptRegionsError(self.reader.path, why)
        # A few tries cannot tell the share; damage that no cut explains is taken for
        # more than may be.
        bad = coords[_among(coords, failed) & ~lost]
        if len(bad):
            why = f"tiles that would be used cannot be read: {places(bad.tolist())}"
            raise CorruptRegionsError(self.reader.path, why)


def _among(coords: Coords, some: list[tuple[int, int]]) -> Bool[np.ndarray, " tiles"]:
    wanted = set(some)
    return np.array([pair in wanted for pair in map(tuple, coords.tolist())], bool)


def _middle(coords: Coords) -> Coords:
    start = max(0, (len(coords) - NUM_TO_TIME) // 2)
    return coords[start : start + NUM_TO_TIME]


def _concluded(known: SlideFinding) -> SlideFinding:
    """The slide's state: that of the first tiling that is not ok."""
    worst = next((tiling for tiling in known.tilings.values() if tiling.state != "ok"), None)
    warnings = list(
        dict.fromkeys(
            known.warnings + [text for each in known.tilings.values() for text in each.warnings]
        )
    )
    if worst is None:
        return replace(known, state="ok", warnings=warnings)
    return replace(known, state=worst.state, reason=worst.reason, warnings=warnings)
