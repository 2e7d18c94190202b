"""Inspect one slide in tiles: how many they are, where they lie, and whether they can be read."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from mil.doctor import warnings
from mil.doctor.findings import TilingFinding
from mil.doctor.probes import Coords, cut_off, four_corners, last_row, positions, unreadable
from mil.doctor.requirements import Requirements
from mil.errors import CorruptRegionsError, SlideError, UnreadableSlideError
from mil.io.slides import Overview, SlideReader
from mil.io.slides.resolution import Resolution
from mil.tile import plan
from mil.tile.checks import check_any_tile, check_scale
from mil.tile.grid import footprint_px, grid

# Tiles to measure the rate of reading with.
NUM_TO_TIME = 64


class TilingInspection:
    """Inspection of a slide in tiles of one size and resolution.

    Args:
        reader: The open slide.
        resolution: Its pixel size.
        tile_px: Side of a tile, pixels.
        target_mpp: Resolution of a tile, micrometres per pixel.

    Attributes:
        tile_plan: Tissue and tiles; None: not planned yet, or without detection.
    """

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
        """Expected result of `tile` and `features` for these tiles.

        Args:
            requirements: Requirements of the run.
            masks: The user's masks of the slide.
            overview: The slide at low resolution; None: tissue is not detected.
        """
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
