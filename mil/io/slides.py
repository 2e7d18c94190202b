"""Slides: open, physical scale, exact reads. The only place that reads pixels through OpenSlide."""

import math
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import openslide
from PIL import Image

from mil.errors import MissingResolutionError, UnreadableSlideError

# Outside this range a pixel size is a mistake (72 dpi written by an image editor is 352.8), micrometres.
PLAUSIBLE_MPP = (0.02, 50.0)
# Side of the largest region read at once for an overview, pixels of its level.
OVERVIEW_BLOCK_PX = 4096
# How far blocks of an overview overlap, its own pixels; what resampling looks at reaches 2.
OVERLAP_PX = 3


@dataclass(frozen=True)
class Level:
    """One level of a slide's pyramid."""

    width_px: int
    height_px: int
    downsample: float  # level-0 pixels per pixel of this level, never rounded


class SlideReader:
    """An open slide whose reads are exact in physical scale.

    Coordinates are level-0 pixels, (x, y), top left. After a decoding error OpenSlide's handle stays broken, so a
    read that fails is tried once more on a new handle.

    Raises:
        UnreadableSlideError: it does not open.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise UnreadableSlideError(self.path, "no such file")
        self._slide = self._open()
        sizes, self._ratios = self._slide.level_dimensions, self._slide.level_downsamples
        self.levels = [
            Level(*size, _factor(sizes[0], size, ratio)) for size, ratio in zip(sizes, self._ratios, strict=True)
        ]

    def _open(self) -> openslide.OpenSlide:
        try:
            return openslide.OpenSlide(self.path)
        except openslide.OpenSlideUnsupportedFormatError:
            raise UnreadableSlideError(self.path, "not a slide that OpenSlide reads, or cut short") from None
        except (openslide.OpenSlideError, OSError) as error:
            raise UnreadableSlideError(self.path, f"OpenSlide cannot open it: {error}") from None

    def __enter__(self) -> "SlideReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slide.close()

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of level 0, pixels."""
        width, height = self._slide.dimensions
        return int(width), int(height)

    @property
    def origin_px(self) -> tuple[int, int]:
        """Where the scanned part of the slide begins (`openslide.bounds-x/y`), level-0 pixels; else (0, 0)."""
        get = self._slide.properties.get
        return int(get(openslide.PROPERTY_NAME_BOUNDS_X, 0)), int(get(openslide.PROPERTY_NAME_BOUNDS_Y, 0))

    @property
    def extent_px(self) -> tuple[int, int]:
        """Width and height of the scanned part of the slide, level-0 pixels."""
        get = self._slide.properties.get
        (width, height), (left, top) = self.size_px, self.origin_px
        return (
            int(get(openslide.PROPERTY_NAME_BOUNDS_WIDTH, width - left)),
            int(get(openslide.PROPERTY_NAME_BOUNDS_HEIGHT, height - top)),
        )

    def mpp(self, override: float | None = None) -> float:
        """Micrometres per pixel of level 0: `override` (the table's `mpp` column), else what the slide says.

        Raises:
            MissingResolutionError: neither is there, or the slide's value cannot be true.
        """
        if override is not None:
            return override
        names = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
        values = [float(self._slide.properties[name]) for name in names if name in self._slide.properties]
        if not values:
            raise MissingResolutionError(self.path, "no pixel size in its metadata")
        mpp = sum(values) / len(values)
        if not PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]:
            raise MissingResolutionError(self.path, f"a pixel size of {mpp:g} µm cannot be true")
        return mpp

    def level_for(self, downsample: float) -> int:
        """The coarsest level that is not coarser than `downsample`; level 0 if there is none."""
        fine = [i for i, level in enumerate(self.levels) if level.downsample <= downsample * (1 + 1e-6)]
        return max(fine, key=lambda i: self.levels[i].downsample, default=0)

    def read(self, x: float, y: float, side_level0_px: float, size_px: int) -> Image.Image:
        """Read a square and resample it once, anti-aliased.

        Args:
            x: left edge, level-0 pixels; need not be whole.
            y: top edge, level-0 pixels.
            side_level0_px: side of the square, level-0 pixels.
            size_px: side of the result, pixels.

        Returns:
            RGB image; what lies outside the slide, or was not scanned, is white.

        Raises:
            UnreadableSlideError: its pixels cannot be decoded, twice.
        """
        return self.read_box((x, y), (side_level0_px, side_level0_px), (size_px, size_px))

    def read_box(
        self, corner: tuple[float, float], extent_px: tuple[float, float], size_px: tuple[int, int]
    ) -> Image.Image:
        """Like `read`, for a rectangle: `extent_px` in level-0 pixels, `size_px` of the result (width, height)."""
        number = self.level_for(min(extent_px[0] / size_px[0], extent_px[1] / size_px[1]))
        scale = self.levels[number].downsample
        left, top = corner[0] / scale, corner[1] / scale
        width, height = extent_px[0] / scale, extent_px[1] / scale
        # OpenSlide takes whole level-0 pixels and divides them by its own ratio, so that a region of a reduced level
        # may begin between two of its pixels.
        ratio = self._ratios[number]
        location = math.floor(math.floor(left + 1e-6) * ratio + 1e-6), math.floor(math.floor(top + 1e-6) * ratio + 1e-6)
        left, top = left - location[0] / ratio, top - location[1] / ratio
        region = self._region(location, number, (math.ceil(left + width - 1e-6), math.ceil(top + height - 1e-6)))
        box = (max(left, 0.0), max(top, 0.0), min(left + width, region.width), min(top + height, region.height))
        if region.size == size_px and box == (0.0, 0.0, *size_px):
            return region
        return region.resize(size_px, Image.Resampling.BICUBIC, box=box)

    def _region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        try:
            rgba = self._slide.read_region(location, level, size)
        except openslide.OpenSlideError:
            self._slide.close()
            self._slide = self._open()
            try:
                rgba = self._slide.read_region(location, level, size)
            except openslide.OpenSlideError as error:
                raise UnreadableSlideError(self.path, f"pixels at {location} cannot be decoded: {error}") from None
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white

    def overview(self, max_side_px: int) -> tuple[Image.Image, float]:
        """The scanned part of the slide as one small picture.

        Returns:
            RGB image whose longer side is at most `max_side_px`, and level-0 pixels per pixel of it.
        """
        (left, top), (width, height) = self.origin_px, self.extent_px
        scale = max(width / max_side_px, height / max_side_px, 1.0)
        picture = Image.new("RGB", (max(1, round(width / scale)), max(1, round(height / scale))))
        # Block by block: a slide without a coarse level would not fit into memory at once.
        side = max(1, int(OVERVIEW_BLOCK_PX * self.levels[self.level_for(scale)].downsample / scale))
        for y in range(0, picture.height, side):
            for x in range(0, picture.width, side):
                # A few pixels more on each side, so that resampling leaves no seams.
                x0, y0 = max(0, x - OVERLAP_PX), max(0, y - OVERLAP_PX)
                size = min(x + side + OVERLAP_PX, picture.width) - x0, min(y + side + OVERLAP_PX, picture.height) - y0
                block = self.read_box((left + x0 * scale, top + y0 * scale), (size[0] * scale, size[1] * scale), size)
                picture.paste(
                    block.crop((x - x0, y - y0, min(x - x0 + side, size[0]), min(y - y0 + side, size[1]))), (x, y)
                )
        return picture, scale


def _factor(base: tuple[int, int], size: tuple[int, int], ratio: float) -> float:
    """How much smaller a level is: the whole factor that explains its size in both axes, else OpenSlide's ratio.

    Writers halve exactly and then drop or add part of a pixel at the edge: 1501 px become 750 or 751. Taking the
    ratio of sizes for the factor would shift what lies at the far edge by a whole pixel of the level.
    """
    whole = round(ratio)
    exact = all(abs(full / whole - part) < 1 for full, part in zip(base, size, strict=True))
    return float(whole) if exact else ratio


def as_array(image: Image.Image) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Pixels of an RGB image, uint8 [height, width, 3]."""
    return np.asarray(image, dtype=np.uint8)
