"""A classical tissue mask: what absorbs light as stained tissue does, and not as pen, dust or glass does.

What is measured is colour: how much more light one channel loses than another. Grey
things (dust, shadows, coverslip edges, stitching, vignetting) have none, and the palest
tissue has some. Thresholds are optical densities and square millimetres, never a share
of the slide, so that a faint node or a small biopsy on a large slide survives.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage
from shapely import Polygon, make_valid
from shapely.geometry.base import BaseGeometry
from skimage.measure import find_contours

from mil.tile.ink import (
    Mask,
    Picture,
    Plane,
    extreme,
    ink_mask,
    keep_large,
    optical_density,
    texture,
    widen,
)

WORK_UM = 8.0  # finer pictures are reduced to this or a little less
# brightest channel of a masked background, and of what is too dark for tissue, 0..255
FRAME = 20
BLACK = 45

GLASS = (0.06, 0.3)  # glass has less colour than this near by, and loses less light in green
# largest spread of colour on glass; tissue has that many times the spread found
EVEN = 0.008
UNEVEN = 6.0
SMOOTH = 0.04  # fainter colour is tissue only with texture (a tint of the glass has none)
RIM = (
    0.4,
    0.2,
)  # edges are drawn at this share of the strongest colour near by, at most at this colour
NEAR_UM = 40.0
CLOSE_UM = 48.0
INK_GAP_UM = 12.0
# holes that are filled; less tissue than this asks for a second try
HOLE_MM2 = 0.02
LITTLE_MM2 = 0.15
LINE_UM = 2000.0  # thin and longer than this is the edge of a coverslip, a hair or a scratch


@dataclass(frozen=True)
class Sensitivity:
    """Width of smoothing, bounds of the faintest colour that is tissue, and how wide a line is no more a line."""

    smooth_um: float
    faint: tuple[float, float]
    thin_um: float


USUAL = Sensitivity(smooth_um=12.0, faint=(0.024, 0.04), thin_um=70.0)
SENSITIVE = Sensitivity(smooth_um=30.0, faint=(0.015, 0.03), thin_um=180.0)


@dataclass(frozen=True)
class Found:
    """What lies where on an overview; `second_try` tells that it took the more sensitive thresholds."""

    tissue: Mask
    ink: Mask
    second_try: bool


@dataclass(frozen=True)
class _View:
    """What both tries look at: how much more is lost in green than in red and blue, and what to leave out."""

    over: tuple[Plane, Plane]
    clear: Mask
    ignore: Mask
    textured: Mask
    um_per_px: float


def find_tissue(picture: Picture, um_per_px: float, min_area_mm2: float) -> Found:
    """Find tissue and marker ink on an overview.

    Args:
        picture: RGB overview.
        um_per_px: micrometres per pixel of the overview; made for 2 to 30.
        min_area_mm2: smaller pieces are dropped, square millimetres.
    """
    factor = max(1, int(WORK_UM / um_per_px))
    view, ink = _look(_reduce(picture, factor), um_per_px * factor)
    tissue = _pieces(_coloured(view, USUAL), view, min_area_mm2, USUAL)
    second_try = False
    if tissue.sum() * (view.um_per_px / 1000) ** 2 < LITTLE_MM2:
        more = _hardly_in(
            tissue, _pieces(_coloured(view, SENSITIVE), view, min_area_mm2, SENSITIVE)
        )
        tissue = tissue | more
        second_try = bool(more.any())
    return Found(
        _enlarge(tissue, factor, picture.shape), _enlarge(ink, factor, picture.shape), second_try
    )


def _look(picture: Picture, um: float) -> tuple[_View, Mask]:
    brightest = extreme(np.maximum, picture)
    density = optical_density(picture)
    rough, textured = texture(density)
    ink = ink_mask(density, rough, brightest < FRAME, um)
    ignore = widen(ink, INK_GAP_UM / um) | (brightest < BLACK)
    red, green, blue = density
    return _View(
        (green - red, green - blue), (green < GLASS[1]) & ~ignore, ignore, textured, um
    ), ink


def _coloured(view: _View, sensitivity: Sensitivity) -> Mask:
    """Pixels with the colour of tissue."""
    over_red, over_blue = _smoothed(view, max(sensitivity.smooth_um / view.um_per_px, 0.7))
    reach = 2 * round(NEAR_UM / view.um_per_px) + 1
    spread = _flatten(over_red, over_blue, view.clear, reach)
    colour = _colour(over_red, over_blue)
    edge = ndimage.maximum_filter(colour, reach)
    edge *= RIM[0]
    np.clip(edge, np.clip(UNEVEN * spread, *sensitivity.faint), RIM[1], out=edge)
    found = (colour > edge) & ~view.ignore
    return found & (view.textured | (colour > SMOOTH)) if sensitivity is USUAL else found


def _pieces(found: Mask, view: _View, min_area_mm2: float, sensitivity: Sensitivity) -> Mask:
    """Pixels joined to pieces; specks and lines are dropped, small holes filled."""
    um = view.um_per_px
    px_per_mm2 = (1000 / view.um_per_px) ** 2
    found = _close(found, max(1, round(CLOSE_UM / um))) & ~view.ignore
    found = keep_large(found, min(min_area_mm2 * px_per_mm2, found.size / 4))
    found = _without_lines(found, sensitivity.thin_um / um, LINE_UM / um)
    return found | _small_holes(found, HOLE_MM2 * px_per_mm2)


def _smoothed(view: _View, sigma: float) -> tuple[Plane, Plane]:
    """Means of the pixels around, those ignored left out."""
    known = ~view.ignore
    red, blue = (
        ndimage.gaussian_filter(np.where(known, plane, 0), sigma, truncate=3) for plane in view.over
    )
    if view.ignore.any():
        weight = ndimage.gaussian_filter(known.astype(np.float32), sigma, truncate=3)
        np.maximum(weight, np.float32(0.05), out=weight)
        red /= weight
        blue /= weight
    return red, blue


def _colour(over_red: Plane, over_blue: Plane) -> Plane:
    """Most lost in a channel less least lost in a channel."""
    colour = over_red - over_blue
    np.abs(colour, out=colour)
    for plane in (over_red, over_blue):
        np.maximum(colour, plane, out=colour)
        np.maximum(colour, -plane, out=colour)
    return colour


def _flatten(over_red: Plane, over_blue: Plane, clear: Mask, reach: int, every: int = 8) -> float:
    """Take the glass's own slow change of colour away, in place, where much glass is seen and its colour is even.

    Returns:
        The spread of colour that is left on glass; infinite where nothing could be
        taken away.
    """
    pick = np.ix_(*(np.arange(((side - 1) % every) // 2, side, every) for side in clear.shape))
    near = ndimage.maximum_filter1d(_colour(over_red, over_blue), reach, axis=0)[pick[0][:, 0]]
    near = ndimage.maximum_filter1d(near, reach, axis=1)[:, pick[1][0]]
    glass = (near < GLASS[0]) & clear[pick]
    if glass.mean() < 0.3 or glass.sum() < 50:
        return np.inf
    return max(_subtract_surface(values, pick, glass) for values in (over_red, over_blue))


def _subtract_surface(
    values: Plane, pick: tuple[np.ndarray, ...], glass: Bool[np.ndarray, "rows columns"]
) -> float:
    """Fit a polynomial of second degree to the picked pixels of glass, and subtract it if they lie close to it."""
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in values.shape)
    powers = ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0))
    basis = np.stack([(y[pick[0]] ** i * x[pick[1]] ** j)[glass] for i, j in powers], axis=-1)
    seen = values[pick][glass]
    kept = np.ones(len(seen), bool)
    for _ in range(12):  # tissue among the glass is left out step by step
        weights = np.linalg.lstsq(basis[kept], seen[kept], rcond=None)[0]
        left = abs(seen - basis @ weights)
        kept = left <= max(3 * 1.4826 * float(np.median(left)), 0.004)
    spread = 1.4826 * float(np.median(left[kept]))
    if spread > EVEN:
        return np.inf
    for weight, (i, j) in zip(weights, powers, strict=True):
        values -= np.float32(weight) * (y**i)[:, None] * x**j
    return spread


def _close(mask: Mask, radius: int) -> Mask:
    padded = np.pad(mask, radius).view(np.uint8)
    size = 2 * radius + 1
    closed = ndimage.minimum_filter(ndimage.maximum_filter(padded, size), size)
    return closed[radius:-radius, radius:-radius].view(bool)


def _without_lines(mask: Mask, thin_px: float, long_px: float) -> Mask:
    labels, count = ndimage.label(mask)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    keep = np.arange(count + 1) > 0
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels, count), start=1):
        length = np.hypot(rows.stop - rows.start, columns.stop - columns.start)
        keep[number] = length < long_px or area[number] > thin_px * length
    return mask if keep[1:].all() else keep[labels]


def _hardly_in(first: Mask, second: Mask) -> Mask:
    """Pieces of the second mask less than half of which is in the first: where both agree, the first is sharper."""
    labels, count = ndimage.label(second)
    area, both = (np.bincount(labels[mask], minlength=count + 1) for mask in (second, first))
    new = both < area / 2
    new[0] = False
    return new[labels]


def _small_holes(mask: Mask, max_px: float) -> Mask:
    labels, _ = ndimage.label(~mask)
    small = np.bincount(labels.ravel()) < max_px
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        small[side] = False  # what touches the border is no hole: it goes on outside
    return small[labels] & ~mask


def _reduce(picture: Picture, factor: int) -> UInt8[np.ndarray, "rows columns 3"]:
    if factor == 1:
        return picture
    beyond = [(0, -side % factor) for side in picture.shape[:2]]
    picture = np.pad(picture, (*beyond, (0, 0)), mode="edge")
    parts = [
        picture[row::factor, column::factor] for row in range(factor) for column in range(factor)
    ]
    total = np.zeros(parts[0].shape, np.uint32)
    for part in parts:
        total += part
    return ((total + len(parts) // 2) // len(parts)).astype(np.uint8)


def _enlarge(mask: Mask, factor: int, shape: tuple[int, ...]) -> Bool[np.ndarray, "rows columns"]:
    return mask if factor == 1 else mask.repeat(factor, 0).repeat(factor, 1)[: shape[0], : shape[1]]


def outlines(mask: Mask, scale: float, origin_px: tuple[int, int]) -> list[BaseGeometry]:
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
            Polygon(
                (ring[:, ::-1] + (window[1].start - 0.5, window[0].start - 0.5)) * scale + origin_px
            )
            for ring in find_contours(np.pad(labels[window] == number, 1).astype(float), 0.5)
            if len(ring) >= 4
        ]
        rings.sort(key=lambda ring: -ring.area)
        if rings:
            whole = Polygon(rings[0].exterior, [ring.exterior for ring in rings[1:]])
            pieces.append(make_valid(whole.simplify(scale / 4)))
    return pieces
