"""Shapes of masks: regions, lines, holes and margins."""

import numpy as np
from jaxtyping import Bool, Int, Shaped
from scipy import ndimage

from mil.tile.density import BoolMask


def keep_large(mask: BoolMask, min_px: float) -> BoolMask:
    """The mask's connected regions of at least so many pixels."""
    labels, _ = ndimage.label(mask)
    large = np.bincount(labels.ravel()) >= min_px
    large[0] = False
    return large[labels]


def widen(mask: BoolMask, radius: float) -> BoolMask:
    """The mask and all within `radius` pixels around it (a square), at least one pixel."""
    if not mask.any():
        return mask
    return largest_near(mask.view(np.uint8), max(1, round(radius))).view(bool)


def close_gaps(mask: BoolMask, radius: int) -> BoolMask:
    """Morphological closing by a square: gaps of up to twice the radius are filled."""
    padded = np.pad(mask, radius).view(np.uint8)
    outside = 1 - largest_near(padded, radius)
    opened = largest_near(outside, radius)
    return opened[radius:-radius, radius:-radius] == 0


def largest_near(
    image: Shaped[np.ndarray, "height width"], radius: int
) -> Shaped[np.ndarray, "height width"]:
    """Largest value within `radius` pixels of each (a square), inside the image.

    Windows grow by doubling: some steps over the whole image, which is several times as
    fast as SciPy's filter.
    """
    lowest = -np.inf if image.dtype.kind == "f" else 0
    for axis in (0, 1):
        margin = [(radius, radius) if axis == other else (0, 0) for other in (0, 1)]
        image = np.pad(image, margin, constant_values=lowest)
        length = 1
        while length < 2 * radius + 1:
            shift = min(length, 2 * radius + 1 - length)
            image = np.maximum(_drop(image, axis, 0, shift), _drop(image, axis, shift, 0))
            length += shift
    return image


def largest_near_at(
    image: Shaped[np.ndarray, "height width"],
    radius: int,
    rows: Int[np.ndarray, " rows"],
    columns: Int[np.ndarray, " columns"],
) -> Shaped[np.ndarray, "rows columns"]:
    """`largest_near` at some rows and columns only."""
    for axis, places in enumerate((rows, columns)):
        last = image.shape[axis] - 1
        # A place beyond the border is replaced by one that is in the window already.
        largest = image.take(places, axis)
        for shift in range(1, radius + 1):
            for neighbours in (places - shift, places + shift):
                np.maximum(largest, image.take(neighbours.clip(0, last), axis), out=largest)
        image = largest
    return image


def _drop(
    image: Shaped[np.ndarray, "rows columns"], axis: int, first: int, last: int
) -> Shaped[np.ndarray, "others places"]:
    """The image without the first and last lines of an axis."""
    kept = slice(first, image.shape[axis] - last)
    return image[kept] if axis == 0 else image[:, kept]


class Regions:
    """Connected regions of a mask, numbered from 1; 0 is what lies outside.

    Attributes:
        count: number of regions.
        area: pixels of each number.
    """

    def __init__(self, mask: BoolMask) -> None:
        self._labels, self.count = ndimage.label(mask)
        self.area = self.pixels_in(None)
        self._boxes: list[tuple[slice, slice]] | None = None

    def pixels_in(self, mask: BoolMask | None) -> Int[np.ndarray, " numbers"]:
        """Pixels of each number that lie in a mask; None: everywhere."""
        labels = self._labels.ravel() if mask is None else self._labels[mask]
        return np.bincount(labels, minlength=self.count + 1)

    def mask(self, keep: Bool[np.ndarray, " numbers"]) -> BoolMask:
        """Pixels of the regions to keep."""
        return keep[self._labels]

    def are_lines(
        self, among: Bool[np.ndarray, " numbers"], thin_px: float, long_px: float
    ) -> Bool[np.ndarray, " numbers"]:
        """Which regions are long and thin.

        Args:
            among: regions to look at; the others are no lines.
            thin_px: largest mean width of a line, pixels.
            long_px: smallest diagonal of a line's bounding box, pixels.
        """
        if self._boxes is None:
            self._boxes = ndimage.find_objects(self._labels, self.count)
        lines = np.zeros_like(among)
        for number in np.flatnonzero(among):
            rows, columns = self._boxes[number - 1]
            length = np.hypot(rows.stop - rows.start, columns.stop - columns.start)
            lines[number] = length >= long_px and self.area[number] <= thin_px * length
        return lines


def mostly_outside(first: BoolMask, second: BoolMask) -> BoolMask:
    """Regions of the second mask of which less than half lies in the first."""
    labels, count = ndimage.label(second)
    area = np.bincount(labels[second], minlength=count + 1)
    shared = np.bincount(labels[first], minlength=count + 1)
    new = shared < area / 2
    new[0] = False
    return new[labels]


def small_holes(mask: BoolMask, max_px: float) -> BoolMask:
    """Holes of the mask with fewer than so many pixels."""
    labels, _ = ndimage.label(~mask)
    small = np.bincount(labels.ravel()) < max_px
    # What touches the border is no hole: it goes on outside.
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        small[border] = False
    return small[labels] & ~mask
