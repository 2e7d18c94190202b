"""Shapes of masks: regions, lines, holes and margins."""

import numpy as np
from jaxtyping import Shaped
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


def _drop(
    image: Shaped[np.ndarray, "rows columns"], axis: int, first: int, last: int
) -> Shaped[np.ndarray, "others places"]:
    """The image without the first and last lines of an axis."""
    kept = slice(first, image.shape[axis] - last)
    return image[kept] if axis == 0 else image[:, kept]


def without_lines(mask: BoolMask, thin_px: float, long_px: float) -> BoolMask:
    """The mask without regions that are long and thin.

    Args:
        mask: pixels to keep, where they form no line.
        thin_px: largest mean width of a line, pixels.
        long_px: smallest diagonal of a line's bounding box, pixels.
    """
    labels, count = ndimage.label(mask)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    keep = np.arange(count + 1) > 0
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels, count), start=1):
        length = np.hypot(rows.stop - rows.start, columns.stop - columns.start)
        keep[number] = length < long_px or area[number] > thin_px * length
    return mask if keep[1:].all() else keep[labels]


def without_faint(mask: BoolMask, sure: BoolMask, small_px: float, share: float) -> BoolMask:
    """The mask without small regions of which less than a share is sure.

    Args:
        mask: pixels in regions.
        sure: pixels that are beyond doubt.
        small_px: larger regions are kept, pixels.
        share: least share of a small region that must be sure.
    """
    labels, count = ndimage.label(mask)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    num_sure = np.bincount(labels[sure], minlength=count + 1)
    keep = (area >= small_px) | (num_sure >= share * area)
    keep[0] = False
    return keep[labels]


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
