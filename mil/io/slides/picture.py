"""A slide as one small picture, drawn block by block, with holes where it cannot be read."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mil.errors import UnreadableSlideError

if TYPE_CHECKING:
    from mil.io.slides.reader import SlideReader

# Side of the largest region read at once, pixels of its level.
BLOCK_PX = 4096
# How far regions overlap, pixels of the picture; what resampling looks at reaches 2.
OVERLAP_PX = 3
# A region that cannot be read is quartered down to this, pixels of the picture, to save
# what lies around the damage.
SMALLEST_PX = 8
# So many failures without one success, and the slide is given up; so many in all, and
# what fails is lost as it is.
HOPELESS = 100
PATIENCE = 1000
HOLE = (224, 224, 224)


@dataclass(frozen=True)
class Picture:
    """The scanned part of a slide.

    `scale` is level-0 pixels per pixel of `image`; `lost` is the share of its area that
    cannot be read at any level.
    """

    image: Image.Image
    scale: float
    lost: float


Box = tuple[int, int, int, int]  # left, top, right, bottom, pixels of the picture


class _Canvas:
    def __init__(self, reader: "SlideReader", scale: float, level: int) -> None:
        width, height = reader.extent_px
        self.reader = reader
        self.scale = scale
        self.level = level
        self.image = Image.new(
            "RGB", (max(1, round(width / self.scale)), max(1, round(height / self.scale))), HOLE
        )
        self.lost_px = self.failures = self.successes = 0
        self.error: UnreadableSlideError | None = None
        self.hopeless = HOPELESS + sum(1 for _ in self.boxes())

    def boxes(self) -> Iterator[Box]:
        """Regions in rows; a slide without a coarse level would not fit into memory at once."""
        side = max(1, int(BLOCK_PX * self.reader.levels[self.level].downsample / self.scale))
        for y in range(0, self.image.height, side):
            for x in range(0, self.image.width, side):
                yield x, y, min(x + side, self.image.width), min(y + side, self.image.height)

    def draw(self) -> None:
        """Read all regions; where that fails, their quarters, then finer levels, then leave a hole.

        Large before small: a readable part is found early, and all holes are alike
        where patience ends.
        """
        boxes = deque(self.boxes())
        while boxes:
            box = boxes.popleft()
            if self._read(box, self.level):
                continue
            patient = self.failures < PATIENCE
            if patient and max(box[2] - box[0], box[3] - box[1]) > SMALLEST_PX:
                boxes.extend(_quarters(box))
            elif not (
                patient and any(self._read(box, finer) for finer in range(self.level - 1, -1, -1))
            ):
                self.lost_px += (box[2] - box[0]) * (box[3] - box[1])
        if self.error is not None and self.successes == 0:
            raise self.error

    def _read(self, box: Box, level: int) -> bool:
        # A few pixels more on each side, so that resampling leaves no seams.
        x0 = max(0, box[0] - OVERLAP_PX)
        y0 = max(0, box[1] - OVERLAP_PX)
        x1 = min(box[2] + OVERLAP_PX, self.image.width)
        y1 = min(box[3] + OVERLAP_PX, self.image.height)
        (left, top), scale = self.reader.origin_px, self.scale
        size = x1 - x0, y1 - y0
        try:
            pixels = self.reader.read_box(
                (left + x0 * scale, top + y0 * scale),
                (size[0] * scale, size[1] * scale),
                size,
                level=level,
            )
        except UnreadableSlideError as error:
            self.failures = self.failures + 1
            self.error = error
            if self.failures >= self.hopeless and self.successes == 0:
                raise
            return False
        self.successes += 1
        part = pixels[box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0]
        self.image.paste(Image.fromarray(np.ascontiguousarray(part)), box[:2])
        return True


def _quarters(box: Box) -> list[Box]:
    x = (box[0] + box[2] + 1) // 2
    y = (box[1] + box[3] + 1) // 2
    parts = [
        (box[0], box[1], x, y),
        (x, box[1], box[2], y),
        (box[0], y, x, box[3]),
        (x, y, box[2], box[3]),
    ]
    return [part for part in parts if part[0] < part[2] and part[1] < part[3]]


def draw_picture(reader: "SlideReader", downsample: float) -> Picture:
    """The scanned part of the slide at a given reduction.

    What cannot be decoded at the level of choice is taken from finer levels; what no
    level gives stays grey and is counted in `lost`.

    Args:
        reader: the open slide.
        downsample: level-0 pixels per pixel of the picture; less than 1 means 1.

    Raises:
        UnreadableSlideError: nothing at all can be decoded.
    """
    scale = max(downsample, 1.0)
    for level in range(reader.level_for(scale), -1, -1):
        canvas = _Canvas(reader, scale, level)
        try:
            canvas.draw()
        except UnreadableSlideError:
            if level == 0:
                raise
        else:
            break
    return Picture(
        canvas.image, canvas.scale, canvas.lost_px / (canvas.image.width * canvas.image.height)
    )
