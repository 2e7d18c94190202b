"""Pyramids with a pattern whose position and scale can be measured in any tile.

Red is a cosine along x, green one along y, blue a ramp along x and y that tells one
period from the next.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from scipy.optimize import least_squares

# level-0 pixels
PERIOD_X = 61.0
PERIOD_Y = 67.0
CONTRAST = 90.0


def pattern(size: tuple[int, int], level: tuple[int, int]) -> np.ndarray:
    """One level, edge to edge: each pixel is the mean of the level-0 pattern that it covers."""
    return drawn(level, (size[0] / level[0], size[1] / level[1]), size)


def drawn(
    level: tuple[int, int], downsample: tuple[float, float], size: tuple[int, int]
) -> np.ndarray:
    """One level of a given downsample."""
    axes = []
    for length, down, period, full in zip(
        level, downsample, (PERIOD_X, PERIOD_Y), size, strict=True
    ):
        centre = (np.arange(length) + 0.5) * down
        wave = 128 + CONTRAST * np.cos(2 * np.pi * centre / period) * np.sinc(down / period)
        axes.append((wave, centre / full))
    (red, across), (green, down_) = axes
    picture = np.empty((level[1], level[0], 3))
    picture[..., 0], picture[..., 1] = red[None, :], green[:, None]
    picture[..., 2] = 40 + 100 * across[None, :] + 100 * down_[:, None]
    return picture.round().astype(np.uint8)


def write_pattern(
    path: Path,
    size: tuple[int, int],
    levels: Sequence[tuple[int, int]],
    mpp: float,
    downsamples: Sequence[float] = (),
) -> None:
    """A tiled TIFF.

    Levels are fitted edge to edge, or have a given downsample and a last pixel cut or filled.
    """
    with tifffile.TiffWriter(path) as file:
        for number, level in enumerate(levels):
            down = (
                (downsamples[number],) * 2
                if downsamples
                else (size[0] / level[0], size[1] / level[1])
            )
            file.write(
                drawn(level, down, size),
                tile=(256, 256),
                photometric="rgb",
                metadata=None,
                subfiletype=min(number, 1),
                resolution=(1e4 / (mpp * down[0]),) * 2,
                resolutionunit="CENTIMETER",
                maxworkers=1,
            )


def write_leica(
    path: Path, size: tuple[int, int], offset: tuple[int, int], collection: tuple[int, int]
) -> None:
    """A Leica .scn of one scan, `size` pixels, at `offset` in a larger area.

    OpenSlide gives it bounds.
    """
    nm = 250  # per pixel
    dimensions = [(size[0] // 4**k, size[1] // 4**k) for k in range(2)]
    pixels = "".join(
        f'<dimension sizeX="{w}" sizeY="{h}" r="{k}" ifd="{k}"/>'
        for k, (w, h) in enumerate(dimensions)
    )
    text = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="c" sizeX="{collection[0] * nm}" sizeY="{collection[1] * nm}"><barcode/>'
        f'<image name="i"><creationDate>2020-01-01</creationDate><device model="m" version="1"/>'
        f'<pixels sizeX="{size[0]}" sizeY="{size[1]}">{pixels}</pixels>'
        f'<view sizeX="{size[0] * nm}" sizeY="{size[1] * nm}" '
        f'offsetX="{offset[0] * nm}" offsetY="{offset[1] * nm}"/>'
        "<scanSettings><objectiveSettings><objective>40</objective></objectiveSettings><illuminationSettings>"
        "<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings>"
        "</image></collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for number, level in enumerate(dimensions):
            file.write(
                pattern(size, level),
                tile=(256, 256),
                photometric="rgb",
                metadata=None,
                maxworkers=1,
                description=text if number == 0 else None,
                software=False,
                resolution=(1e7 / (nm * 4**number),) * 2,
                resolutionunit="CENTIMETER",
            )


def measure(tile: np.ndarray, expected: float) -> tuple[np.ndarray, np.ndarray]:
    """Position of a tile's first edge, modulo the period, and its scale, for x and y.

    Args:
        tile: uint8 [height, width, 3].
        expected: level-0 pixels per pixel of the tile, to begin with.
    """
    places = []
    scales = []
    for profile, period in (
        (tile[..., 0].astype(float).mean(0), PERIOD_X),
        (tile[..., 1].astype(float).mean(1), PERIOD_Y),
    ):
        u = np.arange(len(profile)) + 0.5

        def model(p: np.ndarray, u: np.ndarray = u, period: float = period) -> np.ndarray:
            return p[0] + p[1] * np.cos(2 * np.pi * (p[2] + p[3] * u) / period)

        fits = [
            least_squares(
                lambda p, m=model, y=profile: m(p) - y,
                (128.0, CONTRAST, start, expected),
                x_scale=(1, 1, 1, 1e-3),
            )
            for start in np.arange(0, period, period / 6)
        ]
        best = min((fit for fit in fits if fit.x[1] > 0), key=lambda fit: fit.cost)
        places.append(best.x[2] % period)
        scales.append(best.x[3])
    return np.array(places), np.array(scales)


def place_error(found: np.ndarray, corner: tuple[float, float]) -> np.ndarray:
    """How far a measured place is from a corner, level-0 pixels, periods apart."""
    periods = np.array([PERIOD_X, PERIOD_Y])
    return (found - corner + periods / 2) % periods - periods / 2


__all__ = ["drawn", "measure", "pattern", "place_error", "write_leica", "write_pattern"]
