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

from mil.demo.noise import Field, Rng

Sprite = NDArray[np.uint8]
Plane = NDArray[np.floating]
# Optical density units at channel value 255.
HAEMATOXYLIN_FULL = 2.2
# Turns in half a circle that sprites with an angle are drawn at.
ANGLES = 16
# Most nucleoli of a nucleus.
MAX_NUCLEOLI = 3
# Coverage below which a pixel of a sprite is trimmed off, 0..255.
FAINT = 3
# Side of the noise that chromatin is cut from, pixels.
NOISE_SIDE = 420


@dataclass(frozen=True)
class Kind:
    """Appearance of the nuclei of one kind of cell.

    Attributes:
        diameters: sizes, um.
        aspect: range of short over long axis.
        body: density of the nucleus, in units of haematoxylin.
        rim: density added at the membrane.
        clump: density that chromatin adds and takes.
        clump_um: size of a clump of chromatin, um.
        nucleoli: mean number of nucleoli.
        lobes: irregularity of the outline.
        pointed: whether it is a spindle with pointed ends.
        turned: whether the caller chooses its angle; else it is random.
        variants: sprites drawn for each size and angle.
        pigment: red-cell pigment, 0..1.
        spread: standard deviation of `body` from sprite to sprite, as a share.
    """

    diameters: tuple[float, ...]
    aspect: tuple[float, float]
    body: float
    rim: float
    clump: float
    clump_um: float
    nucleoli: float = 0.0
    lobes: float = 0.05
    pointed: bool = False
    turned: bool = False
    variants: int = 5
    pigment: float = 0.0
    spread: float = 0.12


KINDS: dict[str, Kind] = {
    # Small, round and dark.
    "lymphocyte": Kind(
        diameters=(5.6, 6.2, 6.8, 7.6),
        aspect=(0.80, 1.0),
        body=1.45,
        rim=0.15,
        clump=0.34,
        clump_um=1.0,
        variants=48,
        lobes=0.035,
    ),
    # Pale cells of a germinal centre.
    "centre": Kind(
        diameters=(6.8, 7.8, 8.8),
        aspect=(0.7, 0.95),
        body=0.72,
        rim=0.30,
        clump=0.40,
        clump_um=1.0,
        variants=40,
        lobes=0.06,
    ),
    # Coarse clumps of chromatin.
    "plasma": Kind(
        diameters=(8.0, 9.0),
        aspect=(0.8, 1.0),
        body=1.15,
        rim=0.25,
        clump=0.5,
        clump_um=1.2,
        variants=16,
    ),
    # Thin spindles along the fibres.
    "fibroblast": Kind(
        diameters=(10.0, 14.0, 19.0),
        aspect=(0.13, 0.27),
        body=1.05,
        rim=0.12,
        clump=0.25,
        clump_um=0.9,
        pointed=True,
        turned=True,
    ),
    # Regular ovals of glands.
    "epithelium": Kind(
        diameters=(7.2, 8.0, 8.8),
        aspect=(0.62, 0.8),
        body=0.92,
        rim=0.26,
        clump=0.22,
        clump_um=0.8,
        turned=True,
        lobes=0.03,
    ),
    # Large, pale, uneven, with nucleoli.
    "tumour": Kind(
        diameters=(9.0, 11.0, 12.5, 14.0, 16.0, 18.5),
        aspect=(0.60, 0.98),
        body=0.50,
        rim=0.42,
        clump=0.34,
        clump_um=1.5,
        nucleoli=1.7,
        lobes=0.075,
        variants=44,
        spread=0.28,
    ),
    # Dark, ragged plates without a membrane.
    "mitosis": Kind(
        diameters=(9.0, 11.0),
        aspect=(0.3, 0.75),
        body=1.75,
        rim=0.0,
        clump=0.7,
        clump_um=1.5,
        lobes=0.22,
        variants=12,
    ),
    # Small black remains.
    "apoptosis": Kind(
        diameters=(3.2, 4.4),
        aspect=(0.8, 1.0),
        body=1.9,
        rim=0.0,
        clump=0.1,
        clump_um=1.0,
        variants=6,
        pigment=0.2,
    ),
    # Discs without haematoxylin.
    "red_cell": Kind(
        diameters=(5.6, 6.4, 7.0),
        aspect=(0.72, 1.0),
        body=0.0,
        rim=0.0,
        clump=0.10,
        clump_um=1.2,
        variants=12,
        pigment=0.8,
    ),
}


@lru_cache(maxsize=2)
def sprite_bank(mpp: float) -> dict[str, list[list[list[Sprite]]]]:
    """All sprites at a resolution: kind -> size -> angle (one if random) -> variants."""
    rng = np.random.default_rng(11)
    noise = rng.standard_normal((NOISE_SIDE, NOISE_SIDE), dtype=np.float32)
    return {
        name: [_of_size(rng, kind, diameter, mpp, noise) for diameter in kind.diameters]
        for name, kind in KINDS.items()
    }


def _of_size(
    rng: Rng, kind: Kind, diameter_um: float, mpp: float, noise: Field
) -> list[list[Sprite]]:
    """Sprites of one size, by angle and variant."""
    num_angles = ANGLES if kind.turned else 1
    count = num_angles * kind.variants
    if kind.turned:
        angle = np.repeat(np.arange(num_angles) / ANGLES * np.pi, kind.variants)
    else:
        angle = rng.uniform(0, np.pi, count)
    sprites = [_trim(sprite) for sprite in _draw(rng, kind, diameter_um, mpp, angle, noise)]
    starts = range(0, count, kind.variants)
    return [sprites[start : start + kind.variants] for start in starts]


def _trim(sprite: Sprite) -> Sprite:
    """Cut off the empty margin."""
    cover = sprite[..., 0]
    rows = np.flatnonzero(cover.max(axis=1) > FAINT)
    columns = np.flatnonzero(cover.max(axis=0) > FAINT)
    # The same margin on both sides keeps the centre where it is.
    end = len(sprite) - 1
    margin = min(rows[0], columns[0], end - rows[-1], end - columns[-1])
    inner = slice(margin, len(sprite) - margin)
    return np.ascontiguousarray(sprite[inner, inner])


def _draw(
    rng: Rng,
    kind: Kind,
    diameter_um: float,
    mpp: float,
    angle: NDArray[np.float64],
    noise: Field,
) -> NDArray[np.uint8]:
    """Sprites [n, side, side, 3], long axis at `angle` from the x axis (y down)."""
    count = len(angle)
    half = int(np.ceil((diameter_um * 0.62 + 1.6) / mpp))
    along, across = _own_axes(half, mpp, angle)
    aspect = _column(rng.uniform(*kind.aspect, count))
    # Round nuclei keep their area when stretched; spindles keep their length.
    long = diameter_um / 2 * (1 if kind.pointed else aspect**-0.5)
    if kind.pointed:
        # A spindle is bent, and thinner towards its ends.
        across = across + _column(rng.normal(0, 0.018, count)) * along**2
        across = across / np.clip(1.05 - np.abs(along / long) ** 2.6, 0.12, 1)
    direction = np.arctan2(across / aspect, along)
    radius = np.hypot(across / aspect, along) / long
    for order in range(2, 7):
        wave = np.cos(order * direction + _column(rng.uniform(0, 6.28, count)))
        radius = radius - _column(rng.normal(0, kind.lobes * 1.6 / order, count)) * wave
    # Distance to the outline, um; the mask is soft over about a pixel.
    depth = (1 - radius) * long * np.sqrt(aspect)
    mask = special.expit(depth / max(0.20, 0.42 * mpp))
    body = kind.body * _column(np.exp(rng.normal(0, kind.spread, count)))
    membrane = np.exp(-(((depth - 0.45) / 0.55) ** 2))
    density = body + kind.rim * membrane
    density += kind.clump * _chromatin(rng, noise, kind.clump_um / mpp, count, 2 * half + 1)
    density += _nucleoli(rng, kind, along, across, long * aspect, count)
    haem = mask * np.clip(density, 0.12, HAEMATOXYLIN_FULL)
    # Red cells are paler in the middle.
    pigment = mask * kind.pigment * (1 - 0.25 * np.exp(-((radius / 0.45) ** 2)))
    sprites = np.stack([mask, haem / HAEMATOXYLIN_FULL, pigment], axis=-1)
    drawn: NDArray[np.uint8] = np.rint(sprites * 255).clip(0, 255).astype(np.uint8)
    return drawn


def _own_axes(half: int, mpp: float, angle: NDArray[np.float64]) -> tuple[Plane, Plane]:
    """Coordinates of the pixels along and across each nucleus, um, [n, side, side]."""
    axis = (np.arange(-half, half + 1, dtype=np.float32)) * np.float32(mpp)
    y = axis[None, :, None]
    x = axis[None, None, :]
    cos = _column(np.cos(angle))
    sin = _column(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _column(values: NDArray[np.float64]) -> Field:
    """One value for each sprite, ready to broadcast over its pixels."""
    column: Field = values.astype(np.float32)[:, None, None]
    return column


def _chromatin(rng: Rng, noise: Field, clump_px: float, count: int, side: int) -> Field:
    """Random windows of noise with grains of one size, mean 0, pushed towards its extremes."""
    grain = ndimage.gaussian_filter(noise, clump_px * 0.42, mode="wrap")
    fine = ndimage.gaussian_filter(noise[::-1], max(clump_px * 0.17, 0.5), mode="wrap")
    grain = np.tanh(0.85 * grain / grain.std()) + 0.30 * fine / fine.std()
    corners = rng.integers(0, len(noise) - side, (count, 2))
    windows = [grain[row : row + side, column : column + side] for row, column in corners]
    stacked: Field = np.stack(windows)
    return stacked


def _nucleoli(rng: Rng, kind: Kind, along: Plane, across: Plane, reach: Field, count: int) -> Plane:
    """None to three dark round bodies in a nucleus."""
    total = np.zeros_like(along + across)
    if not kind.nucleoli:
        return total
    number = np.minimum(rng.poisson(kind.nucleoli, count), MAX_NUCLEOLI)
    for index in range(MAX_NUCLEOLI):
        at_along, at_across = rng.normal(0, 0.33, (2, count))
        size = _column(rng.uniform(0.75, 1.5, count))
        off_along = along - _column(at_along) * reach
        off_across = across - _column(at_across) * reach
        away = np.hypot(off_along, off_across)
        strength = np.where(number > index, rng.uniform(0.7, 1.2, count), 0)
        total += _column(strength) * special.expit((size - away) / 0.24)
    return total
