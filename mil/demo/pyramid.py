"""Write an image as a tiled, pyramidal TIFF that OpenSlide reads as `generic-tiff`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

_TILE_PX = 256
# The last level's longer side is at most this, pixels.
_SMALLEST_PX = 1024
_JPEG_QUALITY = 85
_UM_PER_CM = 1e4


# Added before a division by four, which then rounds.
_ROUNDED = 2


def halve(image: NDArray[np.uint8], rounding: int = _ROUNDED) -> NDArray[np.uint8]:
    """The mean of every 2 x 2 pixels; a last odd row or column is left out.

    Args:
        image: [height, width, 3].
        rounding: number added to the sum of four: 2 rounds their mean, 0 cuts it off.
    """
    rows = image.shape[0] // 2 * 2
    columns = image.shape[1] // 2 * 2
    upper = image[0:rows:2]
    lower = image[1:rows:2]
    total = upper[:, 0:columns:2].astype(np.uint16)
    total += upper[:, 1:columns:2]
    total += lower[:, 0:columns:2]
    total += lower[:, 1:columns:2]
    total += rounding
    total >>= 2
    return total.astype(np.uint8)


def write_pyramid(
    path: Path,
    image: NDArray[np.uint8],
    mpp: float,
    *,
    quality: int = _JPEG_QUALITY,
    rounding: int = _ROUNDED,
) -> None:
    """Write JPEG tiles of 256 px, one directory per level, each half the one before.

    Args:
        path: file to write.
        image: level 0, [height, width, 3].
        mpp: um per pixel of level 0.
        quality: quality of the JPEG tiles, 1 to 100.
        rounding: see `halve`.
    """
    with tifffile.TiffWriter(path) as file:
        level = image
        factor = 1
        while True:
            per_cm = _UM_PER_CM / (mpp * factor)
            file.write(
                level,
                tile=(_TILE_PX, _TILE_PX),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": quality},
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                # Marks reduced levels, so that OpenSlide takes them for a pyramid.
                subfiletype=0 if factor == 1 else 1,
                metadata=None,
                maxworkers=1,
                software=False if factor > 1 else "mil.demo",
            )
            if max(level.shape[:2]) <= _SMALLEST_PX:
                return
            level = halve(level, rounding)
            factor = factor * 2
