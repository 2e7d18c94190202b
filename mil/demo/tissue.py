"""Outlines of the tissue and of the tumour on a slide, on a grid of 4 um.

Cheap on purpose: annotations are made from this alone, without drawing a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from mil.demo.noise import Field, Rng, noise_on, rotated
from mil.demo.plan import DemoSlide

STEP_UM = 4.0
# Signed distance that stands for "far outside", um.
_OUTSIDE_UM = -99
# Distance of tissue from the edge of the slide, um.
_BORDER_UM = 18.0
# A slide smaller than this has no room to waste: tissue fills more of it, um.
_MINI_UM = 1000
# Share of the tissue that is tumour, and side of a small tumour, um.
_TUMOUR_SHARE = {"medium": (0.10, 0.15), "large": (0.26, 0.33), "half": (0.42, 0.50)}
_SMALL_SIDE_UM = (290.0, 340.0)
# Smaller foci than this are dropped, and those much smaller than the largest: um².
_SMALLEST_FOCUS_UM2 = 40_000
# Period and depth of the noise that tissue and tumour are warped by, um.
_TISSUE_WARPS_UM = ((260, 28), (70, 10), (24, 3.2))
_TUMOUR_WARPS_UM = ((160, 38), (60, 22), (28, 10))


@dataclass(frozen=True)
class Layout:
    """Signed distances in um (positive inside, roughly to scale), on nodes 4 um apart."""

    tissue_um: Field
    tumour_um: Field


def stream(slide: DemoSlide, name: str) -> Rng:
    """An independent random state for one purpose on one slide."""
    return np.random.default_rng([slide.seed, *name.encode()])


def extent_um(slide: DemoSlide) -> tuple[float, float]:
    """Height and width of a slide in um."""
    return slide.height_px * slide.mpp, slide.width_px * slide.mpp


def mesh_um(size: tuple[int, int], step_um: float) -> tuple[Field, Field]:
    """The y and x of every node in um, ready to broadcast."""
    rows, columns = size
    step = np.float32(step_um)
    y = np.arange(rows, dtype=np.float32) * step
    x = np.arange(columns, dtype=np.float32) * step
    return y[:, None], x[None, :]


def lay_out(slide: DemoSlide) -> Layout:
    """Draw the outlines of a slide."""
    height, width = extent_um(slide)
    rows = int(height / STEP_UM) + 3
    columns = int(width / STEP_UM) + 3
    size = rows, columns
    tissue = _tissue(slide, size)
    if slide.extent == "none":
        return Layout(tissue, np.full(size, _OUTSIDE_UM, np.float32))
    return Layout(tissue, _tumour(slide, tissue))


def _tissue(slide: DemoSlide, size: tuple[int, int]) -> Field:
    rng = stream(slide, "tissue")
    height, width = extent_um(slide)
    y, x = mesh_um(size, STEP_UM)
    # Warping the plane, not the outline, gives bays and tongues that a wobbly radius
    # cannot.
    noise = noise_on(rng, size, STEP_UM)
    for period_um, depth_um in _TISSUE_WARPS_UM:
        y = y + depth_um * noise(period_um)
        x = x + depth_um * noise(period_um)
    draw = {"node": _node, "core": _core, "resection": _resection}[slide.tissue]
    tissue = np.full(size, _OUTSIDE_UM, np.float32)
    for (top, bottom), (left, right) in _pieces(rng, slide):
        half_y = _half_side(rng, bottom - top)
        half_x = _half_side(rng, right - left)
        if max(height, width) < _MINI_UM:
            half_y = 1.3 * half_y
            half_x = 1.3 * half_x
        centre_y = (top + bottom) / 2
        centre_x = (left + right) / 2
        piece = draw(rng, y - centre_y, x - centre_x, half_y, half_x)
        tissue = np.maximum(tissue, piece)
    y, x = mesh_um(size, STEP_UM)
    from_rows = np.minimum(y, height - y)
    from_columns = np.minimum(x, width - x)
    inside = np.minimum(from_rows, from_columns) - _BORDER_UM
    outline: Field = np.minimum(tissue, inside).astype(np.float32)
    return outline


Span = tuple[float, float]


def _pieces(rng: Rng, slide: DemoSlide) -> list[tuple[Span, Span]]:
    """Vertical and horizontal span of each piece of tissue, um."""
    height, width = extent_um(slide)
    count = slide.num_pieces
    # A single core would leave most of a large slide empty.
    if slide.tissue == "core" and min(height, width) > 800:
        count = max(count, 2)
    # Cores lie side by side along the shorter side, other pieces along the longer.
    along_x = width > height if slide.tissue != "core" else width < height
    cuts = np.cumsum(rng.uniform(0.8, 1.25, count))
    cuts = np.concatenate([[0], cuts / cuts[-1]])
    pieces: list[tuple[Span, Span]] = []
    for low, high in pairwise(cuts.tolist()):
        if along_x:
            pieces.append(((0.0, height), (low * width, high * width)))
        else:
            pieces.append(((low * height, high * height), (0.0, width)))
    return pieces


def _half_side(rng: Rng, side: float) -> float:
    """Half of a piece's side within the span that it has, um."""
    return side / 2 - rng.uniform(0.04, 0.10) * side - 22


def _node(rng: Rng, y: Field, x: Field, half_y: float, half_x: float) -> Field:
    """A bean: an ellipse with a dent for the hilum."""
    scale = rng.uniform(0.82, 1.0, 2)
    half_y = half_y * scale[0]
    half_x = half_x * scale[1]
    shorter = min(half_y, half_x)
    oval = (1 - np.hypot(y / half_y, x / half_x)) * shorter
    angle = rng.uniform(0, 2 * np.pi)
    dent_y = 1.12 * half_y * np.sin(angle)
    dent_x = 1.12 * half_x * np.cos(angle)
    dent = np.hypot(y - dent_y, x - dent_x) - 0.34 * shorter
    bean: Field = np.minimum(oval, dent)
    return bean


def _core(rng: Rng, y: Field, x: Field, half_y: float, half_x: float) -> Field:
    """A needle core: a long bent strip, sometimes broken once."""
    upright = half_y > half_x
    along, across = (y, x) if upright else (x, y)
    half_long = max(half_y, half_x)
    half_wide = min(half_y, half_x)
    thick = min(half_wide * 0.78, rng.uniform(165, 215))
    room = half_wide - thick
    bend = room * rng.uniform(-1, 1)
    t = along / half_long
    bow = bend * (2 * t * t - 1)
    wave = room * 0.4 * np.sin(3 * t)
    strip = thick - np.abs(across - bow - wave)
    core = np.minimum(strip, half_long * 0.98 - np.abs(along))
    if rng.random() < 0.6 and half_long > 500:
        break_at = rng.uniform(-0.5, 0.5) * half_long
        # The break runs obliquely.
        from_break = np.abs(along - break_at + 0.5 * across)
        width = rng.uniform(8, 26)
        core = np.minimum(core, from_break - width)
    drawn: Field = core.astype(np.float32)
    return drawn


def _resection(rng: Rng, y: Field, x: Field, half_y: float, half_x: float) -> Field:
    """A cut block: some overlapping lobes with one straight knife edge."""
    block = np.full(np.broadcast_shapes(y.shape, x.shape), _OUTSIDE_UM, np.float32)
    shorter = min(half_y, half_x)
    for _ in range(4):
        size = rng.uniform(0.5, 0.72, 2)
        at = rng.uniform(-1, 1, 2) * (1 - size)
        down = (y / half_y - at[0]) / size[0]
        aside = (x / half_x - at[1]) / size[1]
        lobe = (1 - np.hypot(down, aside)) * size.min() * shorter
        block = np.maximum(block, lobe)
    angle = rng.uniform(0, 2 * np.pi)
    sin = np.sin(angle)
    cos = np.cos(angle)
    knife = 0.72 * np.hypot(half_y * sin, half_x * cos)
    before_knife = knife - (y * sin + x * cos)
    cut: Field = np.minimum(block, before_knife).astype(np.float32)
    return cut


def _tumour(slide: DemoSlide, tissue: Field) -> Field:
    """One to three foci, grown until together they have the area asked for."""
    rng = stream(slide, "tumour")
    num_foci = 1 if slide.extent == "small" else int(rng.integers(1, 4))
    bulge = _foci(rng, tissue, num_foci)
    roughness = 0.4 if slide.extent == "small" else 1.0
    noise = noise_on(rng, tissue.shape, STEP_UM)
    for period_um, depth_um in _TUMOUR_WARPS_UM:
        bulge += roughness * depth_um * noise(period_um)
    within = tissue > 5
    if slide.extent == "small":
        area_um2 = np.pi / 4 * rng.uniform(*_SMALL_SIDE_UM) ** 2
    else:
        share = rng.uniform(*_TUMOUR_SHARE[slide.extent])
        area_um2 = share * within.sum() * STEP_UM**2
    # The level that leaves so many nodes above it.
    most = int(within.sum()) - 1
    count = min(int(area_um2 / STEP_UM**2), most)
    level = np.partition(bulge[within], -count)[-count]
    return _tidy(np.minimum(bulge - level, tissue - 5))


def _foci(rng: Rng, tissue: Field, num_foci: int) -> Field:
    """Elongated hills around centres deep in the tissue, um."""
    y, x = mesh_um(tissue.shape, STEP_UM)
    bulge = np.full(tissue.shape, -1e4, np.float32)
    depth = ndimage.distance_transform_edt(tissue > 0) * STEP_UM
    threshold = np.quantile(depth[depth > 0], 0.75)
    deep = np.argwhere(depth > threshold)
    for index in range(num_foci):
        centre = deep[rng.integers(len(deep))] * STEP_UM
        angle = rng.uniform(0, np.pi)
        stretch = rng.uniform(1.0, 1.35)
        centre_y, centre_x = centre
        across, along = rotated(y - centre_y, x - centre_x, angle)
        radius = np.hypot(across * stretch, along / stretch)
        # Later foci are smaller.
        lower = 60 * index * rng.random()
        bulge = np.maximum(bulge, -radius - lower)
    return bulge


def _tidy(tumour: Field) -> Field:
    """Drop crumbs and fill holes, so that every outline encloses tumour only."""
    label, num_parts = ndimage.label(tumour > 0)
    num_nodes = np.bincount(label.ravel(), minlength=num_parts + 1)
    areas = num_nodes * STEP_UM**2
    largest = areas[1:].max()
    large = areas >= min(0.3 * largest, _SMALLEST_FOCUS_UM2)
    large[0] = False
    kept = large[label]
    filled = ndimage.binary_fill_holes(kept)
    outside = np.minimum(tumour, -1.0)
    elsewhere = np.where(filled, 1.0, outside)
    tidy = np.where(kept, tumour, elsewhere)
    clipped = np.clip(tidy, -40, 400).astype(np.float32)
    smoothed: Field = ndimage.gaussian_filter(clipped, 1.0)
    return smoothed
