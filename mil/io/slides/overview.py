"""A slide as one small image, read block by block, with holes where it cannot be decoded."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mil.errors import UnreadableSlideError
from mil.io.slides.reader import SlideReader

# Side of the largest region read at once, pixels of its level.
BLOCK_PX = 4096
# How far regions overlap, pixels of the overview. A bicubic filter reaches 2.
OVERLAP_PX = 3
# A region that cannot be read is quartered down to this side, pixels of the overview, so
# that what lies around the damage is saved.
SMALLEST_PX = 8
# Failures without one success after which the slide is given up.
HOPELESS = 100
# Failures in all after which a region that fails is lost without further attempts: each
# attempt may cost a new handle.
PATIENCE = 1000
HOLE_COLOUR = (224, 224, 224)

Box = tuple[int, int, int, int]  # left, top, right, bottom, pixels of the overview


@dataclass(frozen=True)
class Overview:
    """The scanned part of a slide as one small image.

    Attributes:
        image: RGB image.
        scale: level-0 pixels per pixel of `image`.
        lost: share of the area that cannot be read at any level, 0..1.
    """

    image: Image.Image
    scale: float
    lost: float


def draw_overview(reader: SlideReader, downsample: float) -> Overview:
    """Read the scanned part of a slide at a given reduction.

    Regions that cannot be decoded at the level of choice are taken from finer levels.
    Regions that no level gives stay grey and are counted in `lost`.

    Args:
        reader: the open slide.
        downsample: level-0 pixels per pixel of the overview; values below 1 mean 1.

    Raises:
        UnreadableSlideError: nothing at all can be decoded.
    """
    scale = max(downsample, 1.0)
    # A level that is damaged throughout must not cost the slide.
    for level in range(reader.level_for(scale), -1, -1):
        canvas = _Canvas(reader, scale, level)
        try:
            canvas.draw()
        except UnreadableSlideError:
            if level == 0:
                raise
        else:
            break
    area_px = canvas.image.width * canvas.image.height
    return Overview(canvas.image, canvas.scale, canvas.lost_px / area_px)


class _Canvas:
    def __init__(self, reader: SlideReader, scale: float, level: int) -> None:
        width, height = reader.extent_px
        size = max(1, round(width / scale)), max(1, round(height / scale))
        self.reader = reader
        self.scale = scale
        self.level = level
        self.image = Image.new("RGB", size, HOLE_COLOUR)
        self.lost_px = 0
        self.failures = 0
        self.successes = 0
        self.error: UnreadableSlideError | None = None
        # Every region is tried once before the slide is given up.
        self.hopeless = HOPELESS + sum(1 for _ in self.boxes())

    def boxes(self) -> Iterator[Box]:
        """Regions row by row: without a coarse level the whole slide exceeds the memory."""
        side = max(1, int(BLOCK_PX * self.reader.levels[self.level].downsample / self.scale))
        width, height = self.image.size
        for y in range(0, height, side):
            for x in range(0, width, side):
                yield x, y, min(x + side, width), min(y + side, height)

    def draw(self) -> None:
        """Read all regions; where that fails their quarters, then finer levels, else a hole.

        Large regions come before small ones: a readable part is met early, and all
        holes are alike where patience ends.
        """
        queue = deque(self.boxes())
        while queue:
            box = queue.popleft()
            if self._read(box, self.level):
                continue
            width = box[2] - box[0]
            height = box[3] - box[1]
            patient = self.failures < PATIENCE
            if patient and max(width, height) > SMALLEST_PX:
                queue.extend(_quarters(box))
            elif not (patient and self._read_finer(box)):
                self.lost_px += width * height
        if self.error is not None and self.successes == 0:
            raise self.error

    def _read_finer(self, box: Box) -> bool:
        return any(self._read(box, level) for level in range(self.level - 1, -1, -1))

    def _read(self, box: Box, level: int) -> bool:
        # A few pixels more on each side, so that resampling leaves no seams.
        x0 = max(0, box[0] - OVERLAP_PX)
        y0 = max(0, box[1] - OVERLAP_PX)
        x1 = min(box[2] + OVERLAP_PX, self.image.width)
        y1 = min(box[3] + OVERLAP_PX, self.image.height)
        left, top = self.reader.origin_px
        corner = left + x0 * self.scale, top + y0 * self.scale
        size_px = x1 - x0, y1 - y0
        extent_px = size_px[0] * self.scale, size_px[1] * self.scale
        try:
            pixels = self.reader.read_box(corner, extent_px, size_px, level=level)
        except UnreadableSlideError as error:
            self.failures += 1
            self.error = error
            if self.failures >= self.hopeless and self.successes == 0:
                raise
            return False
        self.successes += 1
        inner = pixels[box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0]
        self.image.paste(Image.fromarray(np.ascontiguousarray(inner)), box[:2])
        return True


def _quarters(box: Box) -> list[Box]:
    left, top, right, bottom = box
    x = (left + right + 1) // 2
    y = (top + bottom + 1) // 2
    quarters = [
        (left, top, x, y),
        (x, top, right, y),
        (left, y, x, bottom),
        (x, y, right, bottom),
    ]
    return [quarter for quarter in quarters if quarter[0] < quarter[2] and quarter[1] < quarter[3]]
