"""Artefacts of real slides: pen marks, folds and a part out of focus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mil.demo.noise import Field, Rng, noise_on, rotated, smoothstep
from mil.demo.plan import DemoSlide
from mil.demo.tissue import STEP_UM, Layout, extent_um, mesh_um, stream

_BLUR_UM = 2.0
# Points of the curve that a stroke of the pen is drawn along.
_STROKE_POINTS = 60


def pen_ink(slide: DemoSlide, layout: Layout) -> Field | None:
    """Thickness of marker ink (0 to about 1) on nodes 4 um apart; None without a pen."""
    if not slide.pen:
        return None
    rng = stream(slide, "pen")
    size = layout.tissue_um.shape
    away = _distance_to_strokes(rng, slide, size)
    thick = rng.uniform(28, 55)
    ink = 1 - smoothstep(away, thick - 5, thick)
    # Ink collects at the rim of a stroke.
    rim = smoothstep(away, thick - 16, thick)
    noise = noise_on(rng, size, STEP_UM)
    streak = 0.82 + 0.10 * noise(20) + 0.28 * rim
    inked: Field = np.maximum(ink * streak, 0).astype(np.float32)
    return inked


def _distance_to_strokes(rng: Rng, slide: DemoSlide, size: tuple[int, int]) -> Field:
    """Distance in um to one to three strokes, each from the end of the one before."""
    extent = np.array(extent_um(slide))
    height, width = extent
    y, x = mesh_um(size, STEP_UM)
    noise = noise_on(rng, size, STEP_UM)
    # A shaky hand.
    y_shaken = 9 * noise(240)
    x_shaken = 9 * noise(240)
    t = np.linspace(0, 1, _STROKE_POINTS)
    away = np.full(size, 1e4, np.float32)
    # Along one side of the slide, then into it.
    edge = rng.choice([0.1, 0.9])
    start = np.array([rng.uniform(0.1, 0.9) * height, edge * width])
    for _ in range(int(rng.integers(1, 4))):
        direction = rng.uniform(-0.4, 0.4, 2)
        end = start + direction * extent * np.array([1.0, 0.5])
        bend = rng.normal(0, 0.08, 2) * extent
        line = start + t[:, None] * (end - start)
        bow = np.sin(np.pi * t)[:, None]
        curve = line + bow * bend
        for row, column in curve:
            down = y - row + y_shaken
            right = x - column + x_shaken
            away = np.minimum(away, np.hypot(down, right))
        start = end
    return away


def fold_thickness(slide: DemoSlide, layout: Layout) -> Field | None:
    """Number of layers of tissue (1 to about 2.2) on nodes 4 um apart; None without a fold."""
    if not slide.fold:
        return None
    rng = stream(slide, "fold")
    size = layout.tissue_um.shape
    y, x = mesh_um(size, STEP_UM)
    inside = np.argwhere(layout.tissue_um > 40)
    centre_y, centre_x = inside[rng.integers(len(inside))] * STEP_UM
    angle = rng.uniform(0, np.pi)
    noise = noise_on(rng, size, STEP_UM)
    bent = 26 * noise(280)
    bent = bent + 6 * noise(72)
    across, along = rotated(y - centre_y, x - centre_x, angle)
    across = across + bent
    widest = rng.uniform(11, 18)
    length = rng.uniform(230, 420)
    # Tapers towards both ends.
    taper = np.clip(1.05 - (along / length) ** 2, 0, None)
    half = widest * np.sqrt(taper)
    inside = half - np.abs(across)
    band = smoothstep(inside.astype(np.float32), -1, 3)
    # Thicker towards one side.
    layers = 0.95 + 0.25 * np.tanh(across / 8)
    fold: Field = (1 + band * layers).astype(np.float32)
    return fold


def defocus(image: NDArray[np.uint8], slide: DemoSlide, layout: Layout) -> None:
    """Blur one round part of the tissue, in place, with a soft rim."""
    if not slide.out_of_focus:
        return
    rng = stream(slide, "focus")
    inside = np.argwhere(layout.tissue_um > 30)
    centre = inside[rng.integers(len(inside))] * STEP_UM / slide.mpp
    reach = rng.uniform(130, 200) / slide.mpp
    rows, columns = (
        slice(max(int(at - reach), 0), min(int(at + reach), end))
        for at, end in zip(centre, image.shape[:2], strict=True)
    )
    part = image[rows, columns].astype(np.float32)
    centre_y, centre_x = centre
    y = np.arange(rows.start, rows.stop) - centre_y
    x = np.arange(columns.start, columns.stop) - centre_x
    distance = np.hypot(y[:, None], x[None, :]).astype(np.float32)
    distance = distance / np.float32(reach)
    weight = 1 - smoothstep(distance, 0.6, 1.0)
    width_px = round(_BLUR_UM / slide.mpp)
    # Twice: a box alone doubles edges.
    soft = ndimage.uniform_filter(part, (width_px, width_px, 1))
    soft = ndimage.uniform_filter(soft, (width_px, width_px, 1))
    part += weight[..., None] * (soft - part)
    blurred = np.rint(part).clip(0, 255)
    image[rows, columns] = blurred.astype(np.uint8)
