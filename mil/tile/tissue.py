"""A classical tissue mask: what absorbs light as stained tissue does, and not as pen, dust or glass does."""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from shapely import Polygon, make_valid
from shapely.geometry.base import BaseGeometry
from skimage.filters import threshold_otsu
from skimage.measure import find_contours
from skimage.morphology import disk

# Bounds of the threshold on colour in optical density: the lower keeps noise of the glass out, the upper keeps
# Otsu from splitting dark from pale tissue on a slide that is full of tissue.
THRESHOLD = (0.05, 0.13)
SMOOTH_UM = 12.0
CLOSE_UM = 32.0
HOLE_MM2 = 0.02
BLACK = 45  # brightest channel of what is not glass but the frame or a masked background, 0..255


def tissue_mask(
    picture: UInt8[np.ndarray, "height width 3"], um_per_px: float, min_area_mm2: float
) -> Bool[np.ndarray, "height width"]:
    """Find tissue on an overview.

    Light lost against this slide's own glass is turned into optical density. Stained tissue loses most in green and
    is coloured; glass and dust are grey, pen loses most in red (blue, green, black) or has no colour (black).
    The colour is smoothed and cut at Otsu's threshold within fixed bounds; areas are in square millimetres, never a
    share of the slide, so that a small biopsy on a large slide survives.

    Args:
        picture: RGB overview.
        um_per_px: micrometres per pixel of the overview.
        min_area_mm2: smaller pieces are dropped, square millimetres.
    """
    density = optical_density(picture)
    colour = density.max(-1) - density.min(-1)
    frame = picture.max(-1) < BLACK
    ignore = pen_mask(density) | frame
    ignore = ndimage.binary_dilation(ignore, iterations=max(1, round(SMOOTH_UM / um_per_px)))
    smooth = _smooth(np.where(ignore, 0.0, colour), ~ignore, SMOOTH_UM / um_per_px)
    found = (smooth > _threshold(smooth[~ignore])) & ~ignore
    radius = max(1, round(CLOSE_UM / um_per_px))
    padded = np.pad(found, radius)
    found = ndimage.binary_closing(padded, disk(radius))[radius:-radius, radius:-radius] & ~ignore
    mm2_per_px = (um_per_px / 1000) ** 2
    found = _keep_large(found, min_area_mm2 / mm2_per_px)
    # What touches the border is no hole: it goes on outside.
    framed = np.pad(~found, 1, constant_values=True)
    return ~_keep_large(framed, HOLE_MM2 / mm2_per_px)[1:-1, 1:-1]


def optical_density(picture: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width 3"]:
    """Light lost in each channel against the slide's glass, natural logarithm, not below 0."""
    # Counted as 'glass' are bright and nearly grey pixels; without any (a slide full of tissue) plain white is.
    flat = picture.reshape(-1, 3)
    bright = flat[(flat.min(-1) > 200) & (np.ptp(flat, axis=-1) < 25)]
    glass = np.median(bright, axis=0) if len(bright) > 0.005 * len(flat) else np.array([245.0, 245.0, 245.0])
    return np.log((glass + 1) / (picture.astype(np.float32) + 1)).clip(0).astype(np.float32)


def pen_mask(density: Float[np.ndarray, "height width 3"]) -> Bool[np.ndarray, "height width"]:
    """Marker ink: clearly darker in red than in green (blue and green ink), or dark without colour (black ink).

    Haematoxylin loses about as much red as green, eosin hardly any red, so that tissue does not pass.
    """
    red, green, blue = density[..., 0], density[..., 1], density[..., 2]
    coloured_ink = ((red > 0.35) & (red > 1.35 * green)) | ((red > 0.1) & (red > 1.8 * green))
    black_ink = (density.min(-1) > 0.9) & (blue > 0.75 * np.maximum(red, green))
    return coloured_ink | black_ink


def _smooth(
    values: Float[np.ndarray, "height width"], known: Bool[np.ndarray, "height width"], sigma: float
) -> Float[np.ndarray, "height width"]:
    weight = ndimage.gaussian_filter(known.astype(np.float32), sigma)
    return ndimage.gaussian_filter(values.astype(np.float32), sigma) / np.maximum(weight, 1e-3)


def _threshold(values: Float[np.ndarray, " pixels"]) -> float:
    if len(values) == 0 or np.ptp(values) < 1e-6:
        return THRESHOLD[1]
    return float(np.clip(threshold_otsu(values), *THRESHOLD))


def _keep_large(mask: Bool[np.ndarray, "height width"], min_px: float) -> Bool[np.ndarray, "height width"]:
    labels, _ = ndimage.label(mask)
    large = np.bincount(labels.ravel()) >= min_px
    large[0] = False
    return large[labels]


def outlines(mask: Bool[np.ndarray, "height width"], scale: float, origin_px: tuple[int, int]) -> list[BaseGeometry]:
    """Outlines of the mask's pieces with their holes, level-0 pixels.

    Args:
        mask: tissue on the overview.
        scale: level-0 pixels per pixel of the mask.
        origin_px: where the overview begins, level-0 pixels.
    """
    labels, count = ndimage.label(mask)
    pieces = []
    for number, window in enumerate(ndimage.find_objects(labels, count), start=1):
        rings = [
            Polygon((ring[:, ::-1] + (window[1].start - 0.5, window[0].start - 0.5)) * scale + origin_px)
            for ring in find_contours(np.pad(labels[window] == number, 1).astype(float), 0.5)
            if len(ring) >= 4
        ]
        rings.sort(key=lambda ring: -ring.area)
        if rings:
            whole = Polygon(rings[0].exterior, [ring.exterior for ring in rings[1:]])
            pieces.append(make_valid(whole.simplify(scale / 2)))
    return pieces
