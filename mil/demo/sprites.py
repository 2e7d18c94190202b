"""A bank of drawn nuclei: many sizes, shapes and chromatin patterns of each kind of cell.

A sprite has three channels, uint8: how much of the pixel is nucleus, its haematoxylin,
and red-cell pigment.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from mil.demo.noise import Field

Sprite = NDArray[np.uint8]
HAEMATOXYLIN_FULL = 2.2  # optical density units at channel value 255
ANGLES = 16


@dataclass(frozen=True)
class Kind:
    """How the nuclei of one kind of cell look; lengths in um, densities in units of haematoxylin."""

    diameters: tuple[float, ...]
    aspect: tuple[float, float]
    body: float
    rim: float
    clump: float
    clump_um: float
    nucleoli: float = 0.0
    lobes: float = 0.05
    pointed: bool = False
    turned: bool = False  # the angle is the caller's; else by chance
    variants: int = 5
    pigment: float = 0.0
    spread: float = 0.12  # of body from sprite to sprite


KINDS: dict[str, Kind] = {
    "lymphocyte": Kind(
        (5.6, 6.2, 6.8, 7.6), (0.80, 1.0), 1.45, 0.15, 0.34, 1.0, variants=48, lobes=0.035
    ),
    "centre": Kind((6.8, 7.8, 8.8), (0.7, 0.95), 0.72, 0.30, 0.40, 1.0, variants=40, lobes=0.06),
    "plasma": Kind((8.0, 9.0), (0.8, 1.0), 1.15, 0.25, 0.5, 1.2, variants=16),
    "fibroblast": Kind(
        (10.0, 14.0, 19.0), (0.13, 0.27), 1.05, 0.12, 0.25, 0.9, pointed=True, turned=True
    ),
    "epithelium": Kind(
        (7.2, 8.0, 8.8), (0.62, 0.8), 0.92, 0.26, 0.22, 0.8, turned=True, lobes=0.03
    ),
    "tumour": Kind(
        (9.0, 11.0, 12.5, 14.0, 16.0, 18.5),
        (0.60, 0.98),
        0.50,
        0.42,
        0.34,
        1.5,
        nucleoli=1.7,
        lobes=0.075,
        variants=44,
        spread=0.28,
    ),
    "mitosis": Kind((9.0, 11.0), (0.3, 0.75), 1.75, 0.0, 0.7, 1.5, lobes=0.22, variants=12),
    "apoptosis": Kind((3.2, 4.4), (0.8, 1.0), 1.9, 0.0, 0.1, 1.0, variants=6, pigment=0.2),
    "red_cell": Kind((5.6, 6.4, 7.0), (0.72, 1.0), 0.0, 0.0, 0.10, 1.2, variants=12, pigment=0.8),
}


@lru_cache(maxsize=2)
def sprite_bank(mpp: float) -> dict[str, list[list[list[Sprite]]]]:
    """All sprites at a resolution: kind -> size -> angle (one if by chance) -> variants."""
    rng = np.random.default_rng(11)
    noise = rng.standard_normal((420, 420), dtype=np.float32)
    return {
        name: [_of_size(rng, kind, diameter, mpp, noise) for diameter in kind.diameters]
        for name, kind in KINDS.items()
    }


def _of_size(
    rng: np.random.Generator, kind: Kind, diameter_um: float, mpp: float, noise: Field
) -> list[list[Sprite]]:
    num_angles = ANGLES if kind.turned else 1
    count = num_angles * kind.variants
    angle = np.repeat(np.arange(num_angles) / ANGLES * np.pi, kind.variants)
    if not kind.turned:
        angle = rng.uniform(0, np.pi, count)
    sprites = _draw(rng, kind, diameter_um, mpp, angle, noise)
    return [
        [_trim(sprite) for sprite in sprites[first : first + kind.variants]]
        for first in range(0, count, kind.variants)
    ]


def _trim(sprite: Sprite) -> Sprite:
    rows = np.flatnonzero(sprite[..., 0].max(axis=1) > 3)
    columns = np.flatnonzero(sprite[..., 0].max(axis=0) > 3)
    # The same margin on both sides keeps the centre where it is.
    low = min(rows[0], columns[0], len(sprite) - 1 - rows[-1], len(sprite) - 1 - columns[-1])
    return np.ascontiguousarray(sprite[low : len(sprite) - low, low : len(sprite) - low])


def _draw(
    rng: np.random.Generator,
    kind: Kind,
    diameter_um: float,
    mpp: float,
    angle: NDArray[np.float64],
    noise: Field,
) -> NDArray[np.uint8]:
    """Sprites [n, side, side, 3], long axis at `angle` from the x axis (y down)."""
    count = len(angle)
    half = int(np.ceil((diameter_um * 0.62 + 1.6) / mpp))
    axis = (np.arange(-half, half + 1, dtype=np.float32)) * np.float32(mpp)
    y = axis[None, :, None]
    x = axis[None, None, :]
    cos, sin = (f(angle).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    along = x * cos + y * sin
    across = y * cos - x * sin
    aspect = _column(rng.uniform(*kind.aspect, count))
    # Round nuclei keep their area when stretched; spindles keep their length.
    long = diameter_um / 2 * (1 if kind.pointed else aspect**-0.5)
    if kind.pointed:
        across = across + _column(rng.normal(0, 0.018, count)) * along**2
        across = across / np.clip(1.05 - np.abs(along / long) ** 2.6, 0.12, 1)
    direction = np.arctan2(across / aspect, along)
    radius = np.hypot(across / aspect, along) / long
    for order in range(2, 7):
        wave = np.cos(order * direction + _column(rng.uniform(0, 6.28, count)))
        radius = radius - _column(rng.normal(0, kind.lobes * 1.6 / order, count)) * wave
    depth = (1 - radius) * long * np.sqrt(aspect)
    mask = special.expit(depth / max(0.20, 0.42 * mpp))
    body = kind.body * _column(np.exp(rng.normal(0, kind.spread, count)))
    density = body + kind.rim * np.exp(-(((depth - 0.45) / 0.55) ** 2))
    density += kind.clump * _chromatin(rng, noise, kind.clump_um / mpp, count, 2 * half + 1)
    density += _nucleoli(rng, kind, along, across, long * aspect, count)
    haem = mask * np.clip(density, 0.12, HAEMATOXYLIN_FULL)
    pigment = mask * kind.pigment * (1 - 0.25 * np.exp(-((radius / 0.45) ** 2)))
    sprites = np.stack([mask, haem / HAEMATOXYLIN_FULL, pigment], axis=-1)
    drawn: NDArray[np.uint8] = np.rint(sprites * 255).clip(0, 255).astype(np.uint8)
    return drawn


def _column(values: NDArray[np.float64]) -> Field:
    column: Field = values.astype(np.float32)[:, None, None]
    return column


def _chromatin(
    rng: np.random.Generator, noise: Field, clump_px: float, count: int, side: int
) -> Field:
    """Random windows of noise with grains of one size, mean 0, pushed towards its extremes."""
    grain = ndimage.gaussian_filter(noise, clump_px * 0.42, mode="wrap")
    fine = ndimage.gaussian_filter(noise[::-1], max(clump_px * 0.17, 0.5), mode="wrap")
    grain = np.tanh(0.85 * grain / grain.std()) + 0.30 * fine / fine.std()
    corner = rng.integers(0, len(noise) - side, (count, 2))
    windows: Field = np.stack(
        [grain[row : row + side, column : column + side] for row, column in corner]
    )
    return windows


def _nucleoli(
    rng: np.random.Generator, kind: Kind, along: Field, across: Field, reach: Field, count: int
) -> Field:
    """None to three dark round bodies in a nucleus."""
    total = np.zeros_like(along + across)
    if not kind.nucleoli:
        return total
    number = np.minimum(rng.poisson(kind.nucleoli, count), 3)
    for index in range(3):
        at = rng.normal(0, 0.33, (2, count))
        size = _column(rng.uniform(0.75, 1.5, count))
        away = np.hypot(along - _column(at[0]) * reach, across - _column(at[1]) * reach)
        strength = _column(np.where(number > index, rng.uniform(0.7, 1.2, count), 0))
        total += strength * special.expit((size - away) / 0.24)
    return total
