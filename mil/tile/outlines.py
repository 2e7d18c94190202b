"""Outlines of the regions of a mask, as they are written and shown."""

import numpy as np
from scipy import ndimage
from shapely import Polygon, make_valid
from shapely.geometry.base import BaseGeometry
from skimage.measure import find_contours

from mil.tile.density import BoolMask


def outlines(mask: BoolMask, scale: float, origin_px: tuple[int, int]) -> list[BaseGeometry]:
    """Outlines of the mask's regions with their holes, level-0 pixels.

    Args:
        mask: tissue on the overview.
        scale: level-0 pixels per pixel of the mask.
        origin_px: corner of the overview on the slide, level-0 pixels.
    """
    labels, count = ndimage.label(mask)
    regions = []
    for number, window in enumerate(ndimage.find_objects(labels, count), start=1):
        # A margin of one pixel closes rings at the border, and contours run through
        # centres: less one, plus a half.
        corner = window[1].start - 0.5, window[0].start - 0.5
        padded = np.pad(labels[window] == number, 1).astype(float)
        rings = [
            Polygon((contour[:, ::-1] + corner) * scale + origin_px)
            for contour in find_contours(padded, 0.5)
            if len(contour) >= 4
        ]
        rings.sort(key=lambda ring: -ring.area)
        if rings:
            holes = [ring.exterior for ring in rings[1:]]
            region = Polygon(rings[0].exterior, holes)
            regions.append(make_valid(region.simplify(scale / 4)))
    return regions
