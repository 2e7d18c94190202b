"""Resampling by torch: the same filter as Pillow's, five times as fast. Every tile goes through it, on the CPU."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch.nn import functional

from mil.io.slides import Window, resample
from mil.io.slides.window import ON_PIXEL


def fast_resample(
    window: Window, left: float, top: float, width: float, height: float, size_px: tuple[int, int]
) -> UInt8[np.ndarray, "height width 3"]:
    """Anti-aliased bicubic resampling, within one grey level of `mil.io.slides.resample` (two where it enlarges).

    torch counts from the first pixel of what it is given. A rectangle that begins
    inside a pixel is left to Pillow, and so is one that is not resampled at all.

    Args:
        window: pixels that hold the rectangle.
        left: edge of the rectangle, pixels of the level.
        top: edge of the rectangle, pixels of the level.
        width: of the rectangle, pixels of the level.
        height: of the rectangle, pixels of the level.
        size_px: width and height of the result.
    """
    pixels = window.pixels
    rows, columns = pixels.shape[:2]
    at_corner = abs(left - window.left) < ON_PIXEL and abs(top - window.top) < ON_PIXEL
    inside = abs(columns - width) < 1 - ON_PIXEL and abs(rows - height) < 1 - ON_PIXEL
    if not (at_corner and inside) or (columns, rows) == size_px:
        return resample(window, left, top, width, height, size_px)
    # torch does not take memory that must not be written to, such as a part of a cached
    # block.
    given = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())
    planes = given.permute(2, 0, 1)[None]
    if abs(columns - width) < ON_PIXEL and abs(rows - height) < ON_PIXEL:
        made = functional.interpolate(planes, size=size_px[::-1], mode="bicubic", antialias=True)
    else:
        scale = (size_px[1] / height, size_px[0] / width)
        made = functional.interpolate(
            planes, scale_factor=scale, mode="bicubic", antialias=True, recompute_scale_factor=False
        )
    if made.shape[2:] != size_px[::-1]:  # the last digit of a scale can cost a row
        return resample(window, left, top, width, height, size_px)
    return made[0].permute(1, 2, 0).numpy()
